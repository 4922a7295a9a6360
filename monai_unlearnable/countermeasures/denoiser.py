# SPDX-License-Identifier: Apache-2.0
"""A denoiser in one step, trained on other scans and noise of the exploiter's own."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn import functional

from monai_unlearnable.countermeasures.base import Countermeasure, Material, Prepared, image_of
from monai_unlearnable.countermeasures.learning import LearnedChanged, NetworkChange, Patches, fit
from monai_unlearnable.countermeasures.own_scans import read_scans, synthetic_scans
from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.seeding import derive_seed, isolated_seed
from monai_unlearnable.utils.values import check_positive

__all__ = ["Denoiser", "ResidualCNN", "draw_noise"]

PATCH = {2: 96, 3: 24}
DEPTH = 5
LONGEST = 8  # voxels of the longest period of a wave
SYNTHETIC = 24  # images that are drawn where no folder is given


def draw_noise(shape: torch.Size, amplitude: float) -> Tensor:
    """Noise (B, C, spatial...) such as an exploiter may expect, drawn with torch's generator on the CPU.

    A third of the samples each gets white noise; a wave of whole periods of 2 to 8 voxels along some of the axes, with
    soft or hard edges; and a product of such waves, a lattice. Two thirds of them hold it inside random blobs only.

    Args:
        shape: shape of the batch.
        amplitude: largest standard deviation of white noise, and largest amplitude of waves.
    """
    return torch.stack([_one_noise(tuple(shape[1:]), amplitude) for _ in range(shape[0])])


def _one_noise(shape: tuple[int, ...], amplitude: float) -> Tensor:
    channels, *extent = shape
    kind = int(torch.randint(3, ()))
    noise = torch.randn(shape) if kind == 0 else _wave(extent, product=kind == 2).expand(channels, *extent)
    noise = noise * amplitude * torch.rand(())
    return noise if torch.rand(()) < 1 / 3 else noise * _blobs(extent)


def _wave(extent: list[int], product: bool) -> Tensor:
    """A plane wave along some axes, or the product of waves along them, (spatial...), in [-1, 1]."""
    used = [int(axis) for axis in torch.randperm(len(extent))[: 1 + int(torch.randint(len(extent), ()))]]
    phases = []
    for axis in used:
        period = int(torch.randint(2, LONGEST + 1, ()))
        # Of period 2 the voxels alternate, so that the phase is a sign; zero of the wave is never all there is.
        offset = 0.5 * int(torch.randint(period, ())) if period > 2 else 0.0
        phase = 2 * math.pi * (torch.arange(extent[axis]) + offset) / period
        phases.append(phase.view(-1, *[1] * (len(extent) - 1 - axis)))
    wave = torch.stack([*torch.broadcast_tensors(*phases)])
    wave = torch.cos(wave).prod(0) if product else torch.cos(wave.sum(0))
    if torch.rand(()) < 0.5:
        wave = wave.sign()
    return wave.expand(extent) * (1 if torch.rand(()) < 0.5 else -1)


def _blobs(extent: list[int]) -> Tensor:
    """Regions of a random size, 1 inside, (1, spatial...)."""
    coarse = torch.rand(1, 1, *[max(2, voxels // 8) for voxels in extent])
    mode = "bilinear" if len(extent) == 2 else "trilinear"
    field = functional.interpolate(coarse, size=extent, mode=mode)[0]
    return (field > torch.quantile(field.flatten()[:: max(1, field.numel() // 4096)], torch.rand(()))).float()


class ResidualCNN(nn.Module):
    """Convolutions at full resolution that predict what to add to an image, nothing at first.

    In the manner of DnCNN (Zhang et al., IEEE Transactions on Image Processing, 2017), shorter and without
    normalization. It treats all places alike, so it learns from few images what noise is; it sees 11 voxels an axis.

    Args:
        spatial_dims: 2 or 3.
        channels: image channels.
        width: channels between the layers.
    """

    def __init__(self, spatial_dims: int, channels: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        widths = [channels, *[width] * (DEPTH - 1), channels]
        for before, after in itertools.pairwise(widths):
            layer = Conv[Conv.CONV, spatial_dims](before, after, 3, padding=1, padding_mode="replicate")
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
            layers += [layer, nn.ReLU()]
        nn.init.zeros_(layer.weight)
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, image: Tensor) -> Tensor:
        return image + self.layers(image)


@dataclass(frozen=True)
class Denoiser(Countermeasure):
    """Removes noise in one step, as a small network learned it on other scans and on noise of its own.

    It needs nothing of what is protected, neither originals nor the program that made the noise: scans of another
    dataset, or synthetic ones, get white noise, waves and lattices of any period from 2 to 8 voxels, with and without a
    region, and the network predicts the scan before. It stands for the one-step denoisers of the literature, which are
    larger and know photographs; network, noise and synthetic scans are ours.

    Args:
        scans: folder of another dataset, read as far as its images; synthetic scans by default. They must have as many
            channels and axes as those to change.
        amplitude: largest amplitude of the noise in normalized intensity; more removes more, of the anatomy too.
        width: channels between the layers of the network.
        iterations: training steps.
        batch_size: patches a step.
        patch_size: voxels an axis of a patch; by default 96 in 2D and 24 in 3D.
        learning_rate: peak of the one-cycle schedule.
        max_cases: number of scans kept in memory to learn from, chosen by the seed; None for all.

    Raises:
        InputError: when a number is not positive.
    """

    scans: str | None = None
    amplitude: float = 128 / 255
    width: int = 12
    iterations: int = 400
    batch_size: int = 4
    patch_size: int | None = None
    learning_rate: float = 3e-3
    max_cases: int | None = 64

    def __post_init__(self) -> None:
        check_positive(**{name: value for name, value in vars(self).items() if name != "scans"})

    def prepare(self, material: Material) -> Prepared:
        """Train the denoiser; its output takes the place of every image.

        Raises:
            UnlearnableError: when there is no case, or the folder holds no scans of their kind.
        """
        if not material.cases:
            raise InputError("there is no case to denoise")
        seed = derive_seed(material.seed, "denoiser")
        like = image_of(material.load(material.cases[0]))
        if self.scans:
            images = read_scans(self.scans, like, material.intensity, self.max_cases, derive_seed(seed, "scans"))
        else:
            images = synthetic_scans(like, min(self.max_cases or SYNTHETIC, SYNTHETIC), seed)
        with isolated_seed(derive_seed(seed, "weights")):
            network = ResidualCNN(like.ndim - 1, len(like), self.width)
        size = self.patch_size or PATCH[like.ndim - 1]
        patches = Patches([[image] for image in images], size, self.batch_size, 1)

        def loss(network: nn.Module, clean: Tensor) -> Tensor:
            noisy = clean + draw_noise(clean.shape, self.amplitude).to(clean.device)
            return ((network(noisy.clamp(0, 1)) - clean) ** 2).mean() / self.amplitude**2

        fit(network, patches, loss, self.iterations, self.learning_rate, seed, material.device, "denoiser")
        return Prepared(material.cases, (LearnedChanged(NetworkChange(network, 1)),))

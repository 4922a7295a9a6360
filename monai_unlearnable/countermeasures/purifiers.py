# SPDX-License-Identifier: Apache-2.0
"""Countermeasures that learn to purify images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from monai.networks.nets import UNet
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor, nn, randn_like

from monai_unlearnable.countermeasures.base import Countermeasure, Material, Prepared, Sample, image_of
from monai_unlearnable.countermeasures.learning import (
    LearnedChanged,
    NetworkChange,
    Patches,
    choose_cases,
    choose_leaked,
    fit,
)
from monai_unlearnable.countermeasures.own_scans import check_pair, read_pairs
from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.enums import CaseKeys
from monai_unlearnable.utils.progress import track
from monai_unlearnable.utils.seeding import derive_seed, isolated_seed
from monai_unlearnable.utils.values import check_positive

__all__ = ["RateConstrainedVAE", "ResidualUNet", "AutoencoderPurifier", "PairPurifier", "Remover"]


class RateConstrainedVAE(nn.Module):
    """A convolutional variational autoencoder that says how much its latent carries.

    The decoder repeats each voxel and convolves. One that rearranged channels into voxels, or strode, could redraw a
    pattern that is locked to the grid from a constant latent, at no rate. There is no normalization, so that patches
    and whole images are treated alike.

    In training it returns the reconstruction from a sampled latent and the rate; in evaluation the reconstruction from
    the mean of the latent alone.

    Args:
        spatial_dims: 2 or 3.
        channels: image channels.
        width: channels of the first stage, doubled at each further one.
        latent_channels: channels of the latent, at the coarsest resolution.
        stages: times the resolution is halved; input sizes are multiples of ``2**stages``.
    """

    def __init__(self, spatial_dims: int, channels: int, width: int, latent_channels: int, stages: int) -> None:
        super().__init__()
        widths = [width * 2**stage for stage in range(stages)]
        encoder: list[nn.Module] = []
        for before, after in zip([channels, *widths], widths, strict=False):
            encoder += [_convolution(spatial_dims, before, after, stride=2), nn.PReLU()]
        self.encoder = nn.Sequential(*encoder, _convolution(spatial_dims, widths[-1], widths[-1]), nn.PReLU())
        self.latent = _convolution(spatial_dims, widths[-1], 2 * latent_channels)
        decoder = [_convolution(spatial_dims, latent_channels, widths[-1]), nn.PReLU()]
        # Half the width at full resolution, where a channel is dear.
        finest = max(width // 2, 1)
        for before, after in zip(widths[::-1], [*widths[-2::-1], finest], strict=True):
            decoder += [_convolution(spatial_dims, before, after), nn.PReLU(), nn.Upsample(scale_factor=2)]
        self.decoder = nn.Sequential(*decoder, _convolution(spatial_dims, finest, channels))
        # Little noise at first: a latent that is all noise teaches the decoder nothing.
        nn.init.constant_(self.latent.bias[latent_channels:], -3.0)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        mean, log_variance = self.latent(self.encoder(image)).chunk(2, dim=1)
        if not self.training:
            return self.decoder(mean)
        log_variance = log_variance.clamp(-10, 10)
        # Drawn on the CPU, so that a seed gives the same noise on every device.
        noise = randn_like(mean, device="cpu").to(mean.device)
        reconstruction = self.decoder(mean + (log_variance / 2).exp() * noise)
        rate = (mean**2 + log_variance.exp() - log_variance - 1).sum() / 2 / image.numel()
        return reconstruction, rate


class ResidualUNet(nn.Module):
    """A small U-Net that corrects an image, at the cost of half its resolution.

    Blocks of two voxels an axis become channels, go through MONAI's U-Net and become voxels again: nothing is lost on
    the way in, and noise that is locked to the grid is the same at every voxel.

    Args:
        spatial_dims: 2 or 3.
        channels: image channels.
        width: channels of the first stage.
    """

    multiple = 8
    """Input sizes are multiples of this."""

    def __init__(self, spatial_dims: int, channels: int, width: int) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims
        folded = channels * 2**spatial_dims
        self.unet = UNet(
            spatial_dims,
            folded,
            folded,
            channels=(width, 2 * width, 4 * width),
            strides=(1, 2),
            norm=None,  # type: ignore[arg-type]
        )

    def forward(self, image: Tensor) -> Tensor:
        folded = pixelunshuffle(image, self.spatial_dims, 2)
        # Starts near the identity: noise is small, and so is its correction.
        return image + 0.1 * pixelshuffle(self.unet(folded), self.spatial_dims, 2)


def _convolution(spatial_dims: int, before: int, after: int, stride: int = 1) -> Any:
    # Zeros around the image would tell how far the border is, and so where a fixed pattern lies.
    layer = Conv[Conv.CONV, spatial_dims](before, after, 3, stride=stride, padding=1, padding_mode="replicate")
    nn.init.kaiming_normal_(layer.weight, a=0.25)  # slope at which PReLU begins
    nn.init.zeros_(layer.bias)
    return layer


@dataclass(frozen=True)
class AutoencoderPurifier(Countermeasure):
    r"""Replaces images by the reconstructions of an autoencoder that was trained on the protected images themselves.

    A variational autoencoder whose rate is bounded keeps what explains most of the variance, and bounded noise explains
    little of it (Yu et al., Purify Unlearnable Examples via Rate-Constrained Variational Autoencoders, ICML 2024).
    Neither labels nor originals are needed. Trained is

    .. math:: \min \frac{\lVert \hat x - x \rVert^2}{N \operatorname{var} x} + \max(0, \mathrm{KL} / N - r)

    over patches of :math:`N` values, with the rate :math:`r` in nats a value. Omitted from the published method (D-VAE)
    are the class-wise embeddings that also recover the noise, and the second stage, which trains once more on the
    images less the noise found. The network, its sizes and the weight of the bound are ours.

    It removes what alternates from voxel to voxel, and the scan's own noise with it. Of slower noise a lower rate or
    more stages remove more, and more of the anatomy; an offset of a whole region passes.

    Args:
        rate: nats a value that the latent may carry; less removes more of the noise and of the anatomy.
        stages: times the resolution is halved.
        width: channels of the first stage.
        latent_channels: channels of the latent.
        iterations: training steps.
        batch_size: patches a step.
        patch_size: voxels an axis of a patch; by default 64 in 2D and 16 in 3D.
        learning_rate: peak of the one-cycle schedule.
        max_cases: number of cases kept in memory to learn from, chosen by the seed; None for all.

    Raises:
        InputError: when a number is not positive.
    """

    rate: float = 0.25
    stages: int = 1
    width: int = 16
    latent_channels: int = 8
    iterations: int = 1500
    batch_size: int = 4
    patch_size: int | None = None
    learning_rate: float = 3e-3
    max_cases: int | None = 256

    def __post_init__(self) -> None:
        check_positive(**vars(self))

    def prepare(self, material: Material) -> Prepared:
        """Train on the images of the cases; the reconstruction takes their place.

        Raises:
            InputError: when there is no case.
        """
        seed = derive_seed(material.seed, "autoencoder purifier")
        cases = choose_cases(material.cases, self.max_cases, derive_seed(seed, "cases"))
        images = [[image_of(material.load(case))] for case in track(cases, "loading case")]
        first = images[0][0]
        size = self.patch_size or {2: 64, 3: 16}[first.ndim - 1]
        patches = Patches(images, size, self.batch_size, 2**self.stages)
        variance = torch.stack([image.var() for (image,) in images]).mean().clamp(min=1e-6).item()
        with isolated_seed(derive_seed(seed, "weights")):
            network = RateConstrainedVAE(first.ndim - 1, len(first), self.width, self.latent_channels, self.stages)

        def loss(network: nn.Module, image: Tensor) -> Tensor:
            reconstruction, rate = network(image)
            return ((reconstruction - image) ** 2).mean() / variance + (rate - self.rate).clamp(min=0)

        fit(network, patches, loss, self.iterations, self.learning_rate, seed, material.device, "autoencoder")
        return Prepared(material.cases, (LearnedChanged(NetworkChange(network, 2**self.stages)),))


@dataclass(frozen=True)
class PairPurifier(Countermeasure):
    """Predicts the originals of all cases from a few leaked pairs of protected and original image.

    The threat of BridgePure (Wang et al., BridgePure: Limited Protection Leakage Can Break Black-Box Data Protection,
    NeurIPS 2025; first as BridgePure: Revealing the Fragility of Black-box Data Protection, 2024): the exploiter has
    some scans in both versions. There the network is a diffusion bridge and the leaked scans are additional ones;
    here it is a small residual U-Net, and the leaked scans are ``pairs`` of the training cases,
    which stay in the training set in their purified form.

    Args:
        pairs: number of leaked originals, chosen by the seed.
        width: channels of the first stage of the network.
        iterations: training steps.
        batch_size: patches a step.
        patch_size: voxels an axis of a patch; by default 128 in 2D and 32 in 3D.
        learning_rate: peak of the one-cycle schedule.

    Raises:
        InputError: when a number is not positive.
    """

    pairs: int = 16
    width: int = 16
    iterations: int = 400
    batch_size: int = 4
    patch_size: int | None = None
    learning_rate: float = 3e-3

    def __post_init__(self) -> None:
        check_positive(**vars(self))

    def prepare(self, material: Material) -> Prepared:
        """Train on the leaked pairs; the prediction takes the place of every image.

        Raises:
            InputError: when fewer originals are known than pairs are asked for, or one has another shape.
        """
        seed = derive_seed(material.seed, "pair purifier")
        chosen = choose_leaked(material, self.pairs, "leaked pairs", derive_seed(seed, "pairs"))
        samples = [_pair(material, case) for case in track(chosen, "loading case")]
        return Prepared(material.cases, (self.learn(samples, seed, material.device),))

    def learn(self, samples: Sequence[tuple[Tensor, Tensor]], seed: int, device: str | torch.device) -> LearnedChanged:
        """A step that predicts the second images of pairs (C, spatial...) from the first."""
        first = samples[0][0]
        with isolated_seed(derive_seed(seed, "weights")):
            network = ResidualUNet(first.ndim - 1, len(first), self.width)
        size = self.patch_size or {2: 128, 3: 32}[first.ndim - 1]
        patches = Patches(samples, size, self.batch_size, network.multiple)
        # Relative to the noise, so that the step size means the same for every budget.
        scale = max(torch.stack([((x - y) ** 2).mean() for x, y in samples]).mean().item(), 1e-8)

        def loss(network: nn.Module, image: Tensor, original: Tensor) -> Tensor:
            # Not the absolute error: if most voxels are free of noise, its median is no change at all.
            return ((network(image) - original) ** 2).mean() / scale

        fit(network, patches, loss, self.iterations, self.learning_rate, seed, device, "purifier of pairs")
        return LearnedChanged(NetworkChange(network, network.multiple))


@dataclass(frozen=True)
class Remover(PairPurifier):
    """Predicts the originals of all cases from pairs that the exploiter made of other scans, with this very program.

    No original has leaked: the program is public, so the exploiter protects a dataset of his own and learns what it
    does. The threat of LightShed (Foerster et al., LightShed: Defeating Perturbation-based Image Copyright Protections,
    USENIX Security 2025), which detects and regenerates the noise of photographs; here it is the network of
    :class:`PairPurifier`, and what it needs is the method, its settings and scans of a similar kind.

    Args:
        protected: folder of the exploiter's dataset as the program protected it.
        originals: folder of that dataset itself; cases of equal names are pairs.
        pairs: largest number of pairs kept in memory, chosen by the seed.
        width: channels of the first stage of the network.
        iterations: training steps.
        batch_size: patches a step.
        patch_size: voxels an axis of a patch; by default 128 in 2D and 32 in 3D.
        learning_rate: peak of the one-cycle schedule.

    Raises:
        InputError: when a folder is not given, or a number is not positive.
    """

    protected: str = ""
    originals: str = ""
    pairs: int = 64
    iterations: int = 800

    def __post_init__(self) -> None:
        folders = {"protected": "other_protected_dir", "originals": "other_dir"}  # and their names in a laboratory
        for name, setting in folders.items():
            if not getattr(self, name):
                reason = f"a remover learns from a dataset in both versions; give its folder as {name!r}"
                raise InputError(f"{reason}, in a laboratory as {setting}")
        check_positive(**{name: value for name, value in vars(self).items() if name not in folders})

    def prepare(self, material: Material) -> Prepared:
        """Train on the pairs; the prediction takes the place of every image.

        Raises:
            UnlearnableError: when there is no case, or the folders hold no pairs of their kind.
        """
        if not material.cases:
            raise InputError("there is no case to change")
        seed = derive_seed(material.seed, "remover")
        like = image_of(material.load(material.cases[0]))
        own = (self.protected, self.originals, like, material.intensity)
        pairs = read_pairs(*own, self.pairs, derive_seed(seed, "pairs"))
        return Prepared(material.cases, (self.learn(pairs, seed, material.device),))


def _pair(material: Material, case: Sample) -> tuple[Tensor, Tensor]:
    case_id = case[CaseKeys.CASE_ID]
    protected, original = image_of(material.load(case)), image_of(material.load(material.originals[case_id]))
    check_pair(protected, original, case_id)
    return protected, original

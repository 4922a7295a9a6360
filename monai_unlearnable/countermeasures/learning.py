# SPDX-License-Identifier: Apache-2.0
"""The parts of learned countermeasures: cases and patches to learn from, and the transform of a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from monai.config import KeysCollection
from monai.inferers import sliding_window_inference
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_tensor
from monai.utils.enums import TransformBackends
from torch import Tensor, nn

from monai_unlearnable.countermeasures.base import Material, Sample
from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.enums import CaseKeys
from monai_unlearnable.utils.optimization import minimize
from monai_unlearnable.utils.seeding import seeded
from monai_unlearnable.utils.single_images import SingleImages
from monai_unlearnable.utils.tensors import fit_extent, pad_to_multiple

__all__ = ["LearnedChangeD", "LearnedChangeDict", "LearnedChanged", "NetworkChange", "Patches"]

OneCase = TypeVar("OneCase")  # a dictionary, or a Case of a dataset

WINDOW = {2: 512, 3: 96}  # voxels an axis that a network sees at once; larger images go through it in pieces


class LearnedChanged(MapTransform):
    """Replaces images by the output of a learned change; nothing in it is random or differentiable.

    Args:
        change: function that takes and returns a float32 tensor (C, spatial...) of one shape.
        keys: images with intensities in [0, 1], (C, spatial...); type, dtype and shape are kept, and so is the range.
        allow_missing_keys: whether keys may be absent.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        change: Callable[[Tensor], Tensor],
        keys: KeysCollection = CaseKeys.IMAGE,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.change = change

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        d: dict[Any, Any] = dict(data)
        for key in self.key_iterator(d):
            image = convert_to_tensor(d[key], dtype=torch.float32, track_meta=False)
            with torch.no_grad():
                changed = self.change(image).clamp(0, 1)
            d[key] = convert_to_dst_type(changed.to(image.device), d[key])[0]
        return d


@dataclass(frozen=True)
class NetworkChange:
    """Runs a fully convolutional network on images of any size.

    Images are padded at the far ends, so that the network meets the grid of the file as it did in training; those that
    are larger than a window go through in overlapping windows, whose origins keep to that grid too.

    Args:
        network: network that takes and returns (B, C, spatial...).
        multiple: number that its input sizes are multiples of.
        window: voxels an axis that it sees at once, rounded up; by default 512 in 2D and 96 in 3D.
    """

    network: nn.Module
    multiple: int
    window: int | None = None

    def __call__(self, image: Tensor) -> Tensor:
        weights = next(self.network.parameters())
        padded = pad_to_multiple(image, self.multiple)[None].to(weights.device)
        # Three quarters of it, the way from one window to the next, keep to the grid too.
        window = -(-(self.window or WINDOW[image.ndim - 1]) // (4 * self.multiple)) * 4 * self.multiple
        roi = [min(extent, window) for extent in padded.shape[2:]]
        with SingleImages():
            changed = sliding_window_inference(padded, roi, 1, self.network, overlap=0.25, mode="gaussian")
        return fit_extent(torch.as_tensor(changed)[0], image.shape[1:]).to(image.device)


class Patches:
    """Random patches of images of any size, one or more images to a sample.

    Origins are multiples of ``multiple``, since noise can be locked to the grid of the file. Images that are too small
    are padded at the far ends by repeating their border.

    Args:
        samples: groups of images (C, spatial...) of one shape each, from which the same patch is cut.
        size: voxels an axis of a patch, rounded up to ``multiple``.
        batch_size: patches a batch.
        multiple: number that sizes and origins are multiples of.
    """

    def __init__(self, samples: Sequence[Sequence[Tensor]], size: int, batch_size: int, multiple: int) -> None:
        dims = samples[0][0].ndim - 1
        # Patches are cut smaller where all images are: padding teaches nothing.
        largest = [max(sample[0].shape[1 + axis] for sample in samples) for axis in range(dims)]
        self.extent = [-(-min(size, voxels) // multiple) * multiple for voxels in largest]
        self.samples = [[pad_to_multiple(image, multiple, self.extent) for image in sample] for sample in samples]
        self.batch_size, self.multiple = batch_size, multiple

    def __call__(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """A batch: for each image of a sample a tensor (B, C, patch...)."""
        cut = []
        for index in torch.randint(len(self.samples), (self.batch_size,), generator=generator).tolist():
            place = [slice(None)]
            for extent, voxels in zip(self.extent, self.samples[index][0].shape[1:], strict=True):
                steps = (voxels - extent) // self.multiple
                start = int(torch.randint(steps + 1, (), generator=generator)) * self.multiple
                place.append(slice(start, start + extent))
            cut.append([image[tuple(place)] for image in self.samples[index]])
        return tuple(torch.stack(images) for images in zip(*cut, strict=True))


def fit(
    network: nn.Module,
    batches: Callable[[torch.Generator], tuple[Tensor, ...]],
    loss: Callable[..., Tensor],
    iterations: int,
    learning_rate: float,
    seed: int,
    device: str | torch.device = "cpu",
    description: str = "learning",
) -> nn.Module:
    """Train a network on random batches, behind a progress bar.

    Args:
        network: network to train in place, from the weights it has.
        batches: function that draws a batch with a generator.
        loss: function of the network and the tensors of a batch, to be minimized.
        iterations: training steps.
        learning_rate: peak of the schedule.
        seed: random seed of the batches and the loss; torch's generator is put back afterwards.
        device: device to train on.
        description: what is trained, for the progress.

    Returns:
        The network, without gradients and in evaluation mode.

    Raises:
        InputError: when the loss is no longer finite at the end.
    """
    network.to(device)
    order = seeded(seed, "batches")

    def next_loss() -> Tensor:
        return loss(network, *(tensor.to(device) for tensor in batches(order)))

    # Networks without normalization need the clip; with it the same step size served all that were tried.
    losses = minimize(network, next_loss, iterations, learning_rate, seed, clip=1.0, description=description)
    if not math.isfinite(losses[-1]):
        raise InputError(f"{description}: the loss became {losses[-1]}; lower the learning rate")
    return network.eval().requires_grad_(False)


def choose_cases(cases: Sequence[OneCase], count: int | None, seed: int) -> list[OneCase]:
    """A number of cases, chosen by the seed, in their order; a smaller choice is part of a larger one.

    Raises:
        InputError: when there is no case at all.
    """
    if not cases:
        raise InputError("there is no case to learn from")
    if count is None or count >= len(cases):
        return list(cases)
    order = torch.randperm(len(cases), generator=seeded(seed))
    return [cases[index] for index in sorted(order[:count].tolist())]


def choose_leaked(material: Material, count: int, what: str, seed: int) -> list[Sample]:
    """A number of cases whose originals are known, chosen by :func:`choose_cases`; ``what`` names their use in errors.

    Raises:
        InputError: when originals of fewer cases are known.
    """
    known = [case for case in material.cases if case[CaseKeys.CASE_ID] in material.originals]
    if len(known) < count:
        reason = f"{count} {what} were asked for, originals are known of {len(known)} cases"
        raise InputError(reason, value=count, limit=len(known))
    return choose_cases(known, count, seed)


LearnedChangeD = LearnedChangeDict = LearnedChanged

# SPDX-License-Identifier: Apache-2.0
"""Noise for whole scans: padded, cut into windows if they are large, into smaller ones if memory is short."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from monai_unlearnable.errors import LabelError, OutOfMemoryError
from monai_unlearnable.perturbers.base import Perturber
from monai_unlearnable.utils.arrays import as_channels, bounding_box, network_sides
from monai_unlearnable.utils.tensors import is_map, pad_sides


def pad_to(image: Tensor, label: Tensor | None, divisor: int) -> tuple[Tensor, Any]:
    """Pad images and label maps with zeros, evenly on both sides, up to multiples; classes of whole images stay.

    Args:
        image: (B, C, spatial...).
        label: (B, 1, spatial...), (B,), (B, tasks) or None.
        divisor: divisor of the padded spatial sizes.
    """
    sides = network_sides(image.shape[2:], divisor)
    return pad_sides(image, sides), pad_sides(label, sides) if label is not None and is_map(label) else label


# Lower-case parts of out-of-memory messages of torch, C++, cuDNN and cuBLAS, which are plain runtime errors.
SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc", "alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the host or on a device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


@dataclass(frozen=True)
class Part:
    """A box of an image that is padded evenly to multiples of a divisor, taken without padding the whole.

    Args:
        box: voxels of the image in the box.
        sides: voxels of padding before and after the box, along each axis.
    """

    box: tuple[slice, ...]
    sides: tuple[tuple[int, int], ...]

    @classmethod
    def whole(cls, shape: Sequence[int], divisor: int) -> Part:
        """All of an image of that spatial shape."""
        return cls(tuple(slice(0, extent) for extent in shape), tuple(network_sides(shape, divisor)))

    @classmethod
    def around(cls, support: NDArray, divisor: int) -> Part:
        """The box of a support (spatial...) with a margin of one ``divisor``, snapped to it in the padded image."""
        box, sides = [], []
        padding = network_sides(support.shape, divisor)
        for side, extent, (start, end) in zip(bounding_box(support), support.shape, padding, strict=True):
            stop = start + extent + end
            low = max((side.start + start) // divisor - 1, 0) * divisor - start
            high = min(((side.stop - 1 + start) // divisor + 2) * divisor, stop) - start
            box.append(slice(max(low, 0), min(high, extent)))
            sides.append((max(-low, 0), max(high - extent, 0)))
        return cls(tuple(box), tuple(sides))

    @property
    def voxels(self) -> int:
        """The number of voxels, padding included."""
        return prod(own.stop - own.start + sum(sides) for own, sides in zip(self.box, self.sides, strict=True))

    def take(self, volume: Tensor) -> Tensor:
        """This part of (B, C, spatial...), zeros where it reaches beyond."""
        return pad_sides(volume[_index(self.box)], self.sides)

    def put(self, part: Tensor, volume: Tensor) -> None:
        """Write noise for this part into place."""
        sides = zip(self.sides, part.shape[2:], strict=True)
        volume[_index(self.box)] = part[_index([slice(low, extent - high) for (low, high), extent in sides])]


def _index(box: Sequence[slice]) -> tuple[slice, ...]:
    return (slice(None), slice(None), *box)


def delta_in_windows(
    perturber: Perturber,
    window_voxels: int,
    images: Tensor,
    case_ids: Sequence[str],
    label: Tensor | None,
    support: Tensor,
) -> Tensor:
    """The noise of images in overlapping windows, weighted by a Gaussian around the center of each.

    Windows without support cost nothing.

    Args:
        perturber: source of the noise.
        window_voxels: approximate number of voxels of a window, at least twice the divisor along each axis.
        images: (B, C, spatial...), sizes multiples of the divisor.
        case_ids: names of the images.
        label: class indices of voxels, if any.
        support: mask of where noise is allowed in the whole images.
    """
    divisor, channels = perturber.divisor, images.shape[1]
    side = max(round(window_voxels ** (1 / (images.ndim - 2))) // divisor, 2) * divisor
    tiling = [_tiling(extent, side, divisor) for extent in images.shape[2:]]
    size, overlap = [size for size, _ in tiling], [overlap for _, overlap in tiling]

    def one(image: Tensor, case_id: str, own: Tensor | None, allowed: Tensor) -> Tensor:
        def delta(window: Tensor) -> Tensor:
            inside, part = window[:, channels : channels + 1], window[:, :channels]
            if not bool(inside.any()):
                return torch.zeros_like(part)
            classes = None if own is None else window[:, channels + 1 :].long()
            return perturber.delta(part, [case_id], classes, inside)

        stacked = torch.cat([image, allowed, *([] if own is None else [own.to(image.dtype)])], dim=1)
        return sliding_window_inference(stacked, size, 1, delta, overlap=overlap, mode="gaussian")  # type: ignore[return-value]

    parts = [None] * len(images) if label is None else label.split(1)
    return torch.cat([one(*part) for part in zip(images.split(1), case_ids, parts, support.split(1), strict=True)])


def _tiling(extent: int, side: int, divisor: int) -> tuple[int, float]:
    """The size of windows along an axis and their overlap, of a quarter at least.

    There are as few windows as ``side`` allows, and they are no larger than needed, so that what they cover grows with
    the extent. They begin at multiples of the divisor, so that they agree in phase.
    """

    def step(size: int) -> int:
        return max(3 * size // 4 // divisor, 1) * divisor

    def count(size: int) -> int:
        return 1 + -(-(extent - size) // step(size))

    if extent <= side:
        return extent, 0.0
    size = next(size for size in range(2 * divisor, side + 1, divisor) if count(size) == count(side))
    return size, 1 - (step(size) + 0.5) / size  # MONAI truncates the step that it derives from this


# Voxels that are put through a perturber at once; larger images go through in overlapping windows.
WINDOW_VOXELS = 2**21
SHRINKING, SMALLEST_WINDOW = 8, 2**12  # of windows where memory runs out

logger = logging.getLogger(__name__)

Label = NDArray | int | tuple[int, ...] | None


def generate_noise(
    perturber: Perturber, image: NDArray, case_id: str, label: Label = None, window_voxels: int = WINDOW_VOXELS
) -> NDArray:
    """The noise of one image; see :func:`generate_noises`."""
    return generate_noises(perturber, [image], [case_id], [label], window_voxels)[0]


@torch.no_grad()
def generate_noises(
    perturber: Perturber,
    images: Sequence[NDArray],
    case_ids: Sequence[str],
    labels: Sequence[Label],
    window_voxels: int = WINDOW_VOXELS,
) -> list[NDArray]:
    """The noise of images of equal shape in one pass, or in overlapping windows where they are large.

    Images are padded evenly on both sides, as MONAI's ``SpatialPad`` does, so that noise keeps step with the strides
    of networks whose input is padded or cropped around its center. A perturber of color images sees gray ones in three
    equal channels, and their noise is the mean over these. Work is bounded by the support of the noise. Images
    with one class for the whole are never divided: a window would be another image of that class.

    Where memory runs out, images go through one at a time, then in smaller and smaller windows, and a warning says so:
    networks that see less of an image at once make other noise than on a machine with more memory.

    Args:
        perturber: perturber in evaluation mode, on any device.
        images: normalized intensity, each (C, spatial...).
        case_ids: names of the cases, for the perturber.
        labels: class indices of voxels, (1, spatial...), or the class of the whole image, or those of its tasks; needed
            by most methods.
        window_voxels: largest number of voxels of an image at once.

    Returns:
        Noise of each image in normalized intensity, float32, of its shape; zero outside the support of the perturber.

    Raises:
        LabelError: naming the case, when the perturber needs a label and there is none, or there are several and it
            takes one.
        OutOfMemoryError: naming the case, when memory does not suffice even for the smallest windows.
    """
    for case_id, label in zip(case_ids, labels, strict=True):
        if perturber.needs_label and label is None:
            raise LabelError("the method needs a label, and the case has none", case=case_id)
        if isinstance(label, tuple) and not perturber.takes_tasks:
            raise LabelError(f"the method takes one label, and the case has {len(label)}", case=case_id)
    try:
        return _generate(perturber, images, case_ids, labels, window_voxels)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
    # Here the failed attempt, with all that its frames held, is gone.
    torch.cuda.empty_cache()
    if len(images) > 1:
        logger.warning("%s and %d more: out of memory together; one at a time", case_ids[0], len(case_ids) - 1)
        return [generate_noise(perturber, *case, window_voxels) for case in zip(images, case_ids, labels, strict=True)]
    smaller = min(window_voxels, images[0][0].size) // SHRINKING
    if not _may_divide(perturber, labels) or smaller < SMALLEST_WINDOW:
        raise OutOfMemoryError(f"its noise takes more memory than there is: {reason}", case=case_ids[0])
    logger.warning("%s: out of memory; its noise is made in windows of %d voxels", case_ids[0], smaller)
    return generate_noises(perturber, images, case_ids, labels, smaller)


def _generate(
    perturber: Perturber,
    images: Sequence[NDArray],
    case_ids: Sequence[str],
    labels: Sequence[Label],
    window_voxels: int,
) -> list[NDArray]:
    device = next((parameter.device for parameter in perturber.parameters()), torch.device("cpu"))
    channels, wanted = len(images[0]), perturber.image_channels
    images = [as_channels(image, wanted, image.ndim - 1) for image in images]
    batch, classes = torch.as_tensor(_stacked(images, np.float32)).to(device), _batched(labels, device)
    support = _support(perturber, batch, classes, case_ids)
    noise, allowed = torch.zeros_like(batch), np.any((support > 0).cpu().numpy(), axis=(0, 1))
    if allowed.any():
        part = Part.whole(batch.shape[2:], perturber.divisor)
        make = perturber.delta
        if _may_divide(perturber, labels) and part.voxels > window_voxels:
            part = Part.around(allowed, perturber.divisor)
            make = partial(delta_in_windows, perturber, window_voxels)
        inside = part.take(classes).long() if classes is not None and is_map(classes) else classes
        part.put(make(part.take(batch), case_ids, inside, part.take(support)), noise)
    return [(part if len(part) == channels else part.mean(0, keepdim=True)).cpu().numpy() for part in noise]


def _may_divide(perturber: Perturber, labels: Sequence[Label]) -> bool:
    return perturber.windowed and all(label is None or isinstance(label, np.ndarray) for label in labels)


def _batched(labels: Sequence[Label], device: torch.device) -> Tensor | None:
    if any(label is None for label in labels):
        return None
    if isinstance(labels[0], np.ndarray):  # in 8 bits where they are: those of a full-size scan in int64 take seconds
        dtype = np.uint8 if all(label.dtype == np.uint8 for label in labels) else np.int64  # type: ignore[union-attr]
        return torch.as_tensor(_stacked(labels, dtype)).to(device)  # type: ignore[arg-type]
    return torch.tensor(labels, device=device)


def _stacked(arrays: Sequence[NDArray], dtype: DTypeLike) -> NDArray:
    """Arrays of equal shape as one, and a single one without a copy where that is possible."""
    if len(arrays) > 1:
        return np.stack([np.asarray(array, dtype) for array in arrays])
    return np.require(arrays[0], dtype, "W")[None]


def _support(perturber: Perturber, images: Tensor, label: Tensor | None, case_ids: Sequence[str]) -> Tensor:
    """The support of a batch; errors name the case."""
    try:
        return perturber.support(images, label)[:, :1]
    except LabelError as error:
        if len(case_ids) > 1:
            for index, case_id in enumerate(case_ids):
                _support(perturber, images[[index]], None if label is None else label[[index]], [case_id])
        case = error.case or case_ids[0]
        raise LabelError(error.reason, case=case, value=error.value, limit=error.limit) from error

# SPDX-License-Identifier: Apache-2.0
"""Large images: the part of them that noise is made for, and the windows in which it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor

from monai_unlearnable.arrays import bounding_box
from monai_unlearnable.perturbers.base import Perturber
from monai_unlearnable.perturbers.padding import even_sides

__all__ = ["Part", "delta_in_windows"]


@dataclass(frozen=True)
class Part:
    """A box of an image that is padded evenly to multiples of a divisor, taken without padding the whole.

    Args:
        box: the sites of the image in it.
        sides: of padding around these, two an axis.
    """

    box: tuple[slice, ...]
    sides: tuple[tuple[int, int], ...]

    @classmethod
    def whole(cls, shape: Sequence[int], divisor: int) -> Part:
        """All of an image of that spatial shape."""
        sides = tuple(even_sides(-extent % divisor) for extent in shape)
        return cls(tuple(slice(0, extent) for extent in shape), sides)

    @classmethod
    def around(cls, support: NDArray, divisor: int) -> Part:
        """The box of a support (spatial...) with a margin of one ``divisor``, snapped to it in the padded image."""
        box, sides = [], []
        for side, extent in zip(bounding_box(support), support.shape, strict=True):
            start, stop = even_sides(-extent % divisor)[0], extent + -extent % divisor
            low = max((side.start + start) // divisor - 1, 0) * divisor - start
            high = min(((side.stop - 1 + start) // divisor + 2) * divisor, stop) - start
            box.append(slice(max(low, 0), min(high, extent)))
            sides.append((max(-low, 0), max(high - extent, 0)))
        return cls(tuple(box), tuple(sides))

    @property
    def sites(self) -> int:
        """How many there are, padding included."""
        return prod(own.stop - own.start + sum(sides) for own, sides in zip(self.box, self.sides, strict=True))

    def take(self, volume: Tensor) -> Tensor:
        """This part of (B, C, spatial...), zeros where it reaches beyond."""
        sides = [side for sides in reversed(self.sides) for side in sides]
        own = volume[_index(self.box)]
        return F.pad(own, sides) if any(sides) else own

    def put(self, part: Tensor, volume: Tensor) -> None:
        """Write what was made for this part where it belongs."""
        sides = zip(self.sides, part.shape[2:], strict=True)
        volume[_index(self.box)] = part[_index([slice(low, extent - high) for (low, high), extent in sides])]


def _index(box: Sequence[slice]) -> tuple[slice, ...]:
    return (slice(None), slice(None), *box)


def delta_in_windows(
    perturber: Perturber,
    window_sites: int,
    images: Tensor,
    case_ids: Sequence[str],
    label: Tensor | None,
    support: Tensor,
) -> Tensor:
    """The noise of images in overlapping windows, weighted by a Gaussian around the center of each.

    Windows without support cost nothing.

    Args:
        perturber: makes it.
        window_sites: about how many sites a window has; twice the divisor along each axis at least.
        images: (B, C, spatial...), sizes multiples of the divisor.
        case_ids: passed on.
        label: class indices of sites, if there are any.
        support: of the whole images.
    """
    divisor, channels = perturber.divisor, images.shape[1]
    side = max(round(window_sites ** (1 / (images.ndim - 2))) // divisor, 2) * divisor
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

    As few windows as ``side`` allows, and no larger than these have to be, so that what they cover grows with the
    extent. They begin at multiples of the divisor, so that they agree in phase.
    """

    def step(size: int) -> int:
        return max(3 * size // 4 // divisor, 1) * divisor

    def count(size: int) -> int:
        return 1 + -(-(extent - size) // step(size))

    if extent <= side:
        return extent, 0.0
    size = next(size for size in range(2 * divisor, side + 1, divisor) if count(size) == count(side))
    return size, 1 - (step(size) + 0.5) / size  # MONAI truncates the step that it takes from this

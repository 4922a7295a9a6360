# SPDX-License-Identifier: Apache-2.0
"""Voxels as arrays: the order in which a file holds them, pieces that fit into a cache, the box that matters."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["COLOR", "GRAY", "as_channels", "bounding_box", "differ", "even_sides", "file_order", "fits_channels"]
__all__ += ["known_values", "network_sides", "pieces", "piecewise", "without_channel"]

Array = TypeVar("Array", bound=Any)

GRAY, COLOR = 1, 3  # channels of pictures
PIECE = 2**18  # voxels; a volume of no more is one piece


def fits_channels(found: int, wanted: int, dims: int) -> bool:
    """Whether images serve a model that takes ``wanted`` channels: they have as many, or are gray where it takes color.

    Args:
        found: number of channels of an image.
        wanted: number of channels that a model takes.
        dims: number of spatial dimensions.
    """
    return found == wanted or (dims == 2 and (found, wanted) == (GRAY, COLOR))


def as_channels(image: Array, channels: int | None, dims: int) -> Array:
    """An image with the channels that a model takes: a gray picture becomes a color one, others stay as they are.

    Args:
        image: array or tensor (C, ...).
        channels: number of channels that a model takes; None for those that the image has.
        dims: number of spatial dimensions.
    """
    is_fit = channels in (None, len(image)) or not fits_channels(len(image), channels or 0, dims)
    return image if is_fit else image[[0] * (channels or 0)]


def file_order(voxels: NDArray) -> NDArray:
    """A view (C, ..., y, x) of channel-first voxels (C, x, y, ...) whose C order is that of a NIfTI file."""
    return np.moveaxis(voxels, 0, -1).T


def pieces(voxels: NDArray) -> Iterator[NDArray]:
    """Views of channel-first voxels, one plane (line) after the other as in a NIfTI file; small ones as a whole."""
    if voxels.size <= PIECE:
        yield file_order(voxels)
    else:
        for channel in file_order(voxels):
            yield from channel


def piecewise(function: Callable[..., NDArray], voxels: NDArray, dtype: DTypeLike, *others: ArrayLike) -> NDArray:
    """The results of a function for each voxel, as an array of a dtype; no temporary array is as large as the volume.

    Args:
        function: elementwise function of arrays.
        voxels: channel-first array, (C, spatial...).
        dtype: dtype of the result, which lies in memory as ``voxels`` do.
        *others: further arguments of the function, that broadcast to the voxels.
    """
    result = np.empty_like(voxels, dtype)
    numbers = [itertools.repeat(other) if np.ndim(other) == 0 else _spread(other, voxels) for other in others]
    for source, target, *arguments in zip(pieces(voxels), pieces(result), *numbers, strict=False):
        target[...] = function(source, *arguments)
    return result


def _spread(values: ArrayLike, voxels: NDArray) -> Iterator[NDArray]:
    return pieces(np.broadcast_to(np.asarray(values), voxels.shape))


def differ(before: NDArray, after: NDArray) -> NDArray:
    """Which voxels of two arrays differ; NaN is equal to NaN."""
    different: NDArray = before != after
    if before.dtype.kind == "f":
        different &= ~(np.isnan(before) & np.isnan(after))
    return different


def bounding_box(support: NDArray) -> tuple[slice, ...]:
    """The smallest box that holds all true voxels; an empty box at 0 where there are none."""
    box: list[slice] = []
    for axis in range(support.ndim):
        index = (*[slice(None)] * (axis - 1), *box[-1:])
        support = support[index]  # the rest is outside the box
        voxels = np.flatnonzero(support.any(axis=tuple(other for other in range(support.ndim) if other != axis)))
        box.append(slice(int(voxels[0]), int(voxels[-1]) + 1) if len(voxels) else slice(0, 0))
    return tuple(box)


def known_values(values: NDArray) -> NDArray:
    """All values but NaN."""
    return values[~np.isnan(values)] if values.dtype.kind == "f" and np.isnan(values).any() else values


def without_channel(array: Array, dims: int | None = None) -> Array:
    """The array (spatial...) of one given as (spatial...) or (1, spatial...).

    Args:
        array: numpy array or tensor.
        dims: number of spatial dimensions; where it is not known, a first axis of length 1 before two or more others is
            taken for the channel.
    """
    if array.ndim < 3 or array.shape[0] != 1 or array.ndim == dims:
        return array
    return array[0]  # type: ignore[no-any-return]


def even_sides(shape: Sequence[int], multiple: int, least: int = 1) -> list[tuple[int, int]]:
    """Voxels before and after each axis, evenly as MONAI's ``SpatialPad`` splits them, up to multiples.

    Args:
        shape: spatial shape.
        multiple: number that padded sizes are multiples of.
        least: smallest size, rounded up to a multiple too.
    """
    missing = [-(-max(extent, least) // multiple) * multiple - extent for extent in shape]
    return [(total // 2, total - total // 2) for total in missing]


def network_sides(shape: Sequence[int], divisor: int) -> list[tuple[int, int]]:
    """Voxels before and after each axis for a network that makes one voxel of ``divisor`` voxels an axis.

    What fits into one divisor along every axis gets two along the last: instance normalization needs more than one
    voxel at the coarsest level.

    Args:
        shape: spatial shape.
        divisor: number that padded sizes are multiples of.
    """
    sides = even_sides(shape, divisor)
    if max(shape) <= divisor > 1:
        sides[-1] = even_sides(shape[-1:], divisor, least=divisor + 1)[0]
    return sides

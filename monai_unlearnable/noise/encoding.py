# SPDX-License-Identifier: Apache-2.0
"""A change as arrays of a file: its box where that is dense, the changed voxels alone where they are few.

A dense box is ``corner`` and ``steps``. Few voxels are ``box``, its corner and extents; ``gaps``, how many unchanged
voxels of the box, in C order, lie before each changed one; and ``values``, the steps of these.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.budget import VoxelChange
from monai_unlearnable.errors import NoiseError

__all__ = ["decode", "encode", "read_array"]

# Deflated, gaps are smaller than a box that is mostly zeros; where half of it changed they save little or nothing. In
# small boxes the header of one more array costs as much as gaps can save.
FEW = 3
SMALL_BOX = 8192


def encode(change: VoxelChange) -> dict[str, NDArray]:
    """The arrays of a change, in the encoding that makes the smaller file at its density."""
    steps = change.steps
    if steps.size < SMALL_BOX or FEW * np.count_nonzero(steps) >= steps.size:
        return {"corner": np.asarray(change.corner, np.int64), "steps": steps}
    gaps = np.diff(np.flatnonzero(steps), prepend=-1) - 1
    return {
        "box": np.asarray([change.corner, steps.shape], np.int64),
        "gaps": gaps.astype(np.min_scalar_type(gaps.max(initial=0))),
        "values": steps[steps != 0],
    }


def decode(content: zipfile.ZipFile, shape: Sequence[int]) -> VoxelChange:
    """The change that :func:`encode` gave. Others may have written the file: what it claims is checked before use.

    Args:
        content: the open file.
        shape: channel-first shape of the scan; no array of more elements is made.

    Raises:
        NoiseError: when the arrays do not fit the scan or each other.
    """
    whole = (shape[0], *shape[:0:-1])
    if "steps.npy" in content.namelist():
        corner = read_array(content, "corner", "i", lambda found: found == (len(whole),)).tolist()
        return VoxelChange(tuple(corner), read_array(content, "steps", "iu", lambda box: _inside(corner, box, whole)))
    corner, extents = read_array(content, "box", "i", lambda found: found == (2, len(whole))).tolist()
    if not _inside(corner, extents, whole):
        raise NoiseError("the box of the changes reaches beyond the scan")
    volume = math.prod(extents)
    gaps = read_array(content, "gaps", "u", lambda found: len(found) == 1 and found[0] <= volume)
    values = read_array(content, "values", "iu", lambda found: found == gaps.shape)
    if gaps.sum(dtype=np.float64) + gaps.size > volume:  # sums of floats do not wrap
        raise NoiseError("changes lie beyond their box")
    steps = np.zeros(extents, values.dtype)
    steps.reshape(-1)[np.cumsum(gaps, dtype=np.int64) + np.arange(gaps.size)] = values
    return VoxelChange(tuple(corner), steps)


def read_array(content: zipfile.ZipFile, name: str, kinds: str, fits: Callable[[tuple[int, ...]], bool]) -> NDArray:
    """An array of a file, its header looked at before memory is taken.

    Args:
        content: the open file.
        name: of the array.
        kinds: numpy's letters for the kinds of dtype allowed.
        fits: whether a shape is allowed.

    Raises:
        NoiseError: when dtype or shape are not allowed, or the header is not of the usual version.
    """
    with content.open(f"{name}.npy") as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise NoiseError(f"{name} is of another version of numpy's format")
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        if dtype.kind not in kinds or not fits(shape):
            raise NoiseError(f"{name} of type {dtype} and shape {shape} do not fit the scan")
        member.seek(0)
        return np.lib.format.read_array(member, allow_pickle=False)


def _inside(corner: Sequence[int], extents: Sequence[int], whole: Sequence[int]) -> bool:
    return len(corner) == len(extents) == len(whole) and all(
        low >= 0 and extent >= 0 and low + extent <= limit
        for low, extent, limit in zip(corner, extents, whole, strict=True)
    )

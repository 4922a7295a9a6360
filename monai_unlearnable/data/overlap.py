# SPDX-License-Identifier: Apache-2.0
"""Segments that may overlap, as one map: a voxel has one class."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["Segments", "overlap_remarks"]

BACKGROUND = 0


class Segments:
    """Collects segments slice by slice. Where some overlap, the smallest counts: a tumor in an organ in a body.

    Of segments of equal size the one with the highest number does.

    Args:
        shape: slices, rows, columns.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self._parts: dict[int, list[NDArray]] = {}
        self._dtype = np.int32 if math.prod(shape) < 2**31 else np.int64

    def add(self, index: int, values: NDArray) -> None:
        """Add the segments of a slice.

        Args:
            index: number of the slice.
            values: number of a segment for each pixel (rows, columns), 0 where there is none.
        """
        flat = np.flatnonzero(values)
        own = values.ravel()[flat]
        order = np.argsort(own, kind="stable")
        numbers, starts = np.unique(own[order], return_index=True)
        if len(numbers):
            for number, part in zip(numbers.tolist(), np.split(flat[order], starts[1:]), strict=True):
                self._add(number, index, part)

    def add_mask(self, number: int, index: int, mask: NDArray) -> None:
        """Add a part of a segment: a mask (rows, columns) of a slice."""
        self._add(number, index, np.flatnonzero(mask))

    def _add(self, number: int, index: int, pixels: NDArray) -> None:
        places = (pixels + index * (self.shape[1] * self.shape[2])).astype(self._dtype)
        self._parts.setdefault(number, []).append(places)

    def merge(self) -> tuple[NDArray, Counter[tuple[int, int]]]:
        """The map.

        Returns:
            Segment numbers (slices, rows, columns), as uint16 where they fit, 0 where there is none; and the number of
            voxels in which two segments overlap, by their numbers.
        """
        largest = max(self._parts, default=0)
        label = np.zeros(self.shape, np.uint16 if largest < 2**16 else np.int32)
        flat, overlaps = label.reshape(-1), Counter[tuple[int, int]]()
        sizes = {number: sum(map(len, parts)) for number, parts in self._parts.items()}
        for number in sorted(sizes, key=lambda number: (-sizes[number], number)):
            for part in self._parts[number]:
                known = flat[part]
                others, counts = np.unique(known[(known != BACKGROUND) & (known != number)], return_counts=True)
                for other, count in zip(others.tolist(), counts.tolist(), strict=True):
                    overlaps[min(other, number), max(other, number)] += count
                flat[part] = number
        return label, overlaps


def overlap_remarks(overlaps: Mapping[tuple[int, int], int], names: Mapping[int, str] | None = None) -> list[str]:
    """What the owner should know of segments that overlap.

    Args:
        overlaps: number of voxels by the numbers of two segments.
        names: names of the segments, where they are known.
    """
    if not overlaps:
        return []
    (first, second), most = max(overlaps.items(), key=lambda pair: pair[1])
    called = {number: f"{number} ({name})" for number, name in (names or {}).items() if name}
    pair = " and ".join(called.get(number, str(number)) for number in (first, second))
    others = f", and {len(overlaps) - 1} more pairs" if len(overlaps) > 1 else ""
    return [f"the segments {pair} overlap in {most} voxels{others}; a voxel counts for the smallest segment"]

# SPDX-License-Identifier: Apache-2.0
"""How often values occur: percentiles as numpy computes them, without sorting where numbers can be counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Distribution", "count_numbers"]

CHUNK = 2**18  # numbers whose indices fit into a cache


@dataclass(frozen=True)
class Distribution:
    """The values of a channel that are data.

    Args:
        values: values in any order; each once and in ascending order where there are counts.
        counts: how often each occurs.
    """

    values: NDArray
    counts: NDArray | None = None

    @classmethod
    def of(cls, array: NDArray) -> Distribution:
        """The values of an array of floats that are not NaN."""
        flat = array.ravel(order="K")  # as it lies in memory: any other order takes seconds
        missing = np.isnan(flat)
        return cls(flat[~missing] if missing.any() else flat)

    @property
    def size(self) -> int:
        """Number of values."""
        return self.values.size if self.counts is None else int(self.counts.sum())

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest value; there must be one."""
        return float(self.values.min()), float(self.values.max())

    def percentiles(self, *percents: float) -> list[float]:
        """Exactly those of :func:`numpy.percentile` with its default method, of the values in double precision."""
        size = self.size
        places = (size - 1) * (np.array(percents, np.float64) / 100)
        below = np.floor(places).astype(np.int64)
        ranks = np.array([below, np.minimum(below + 1, size - 1)])
        pairs = self._of_rank(ranks).astype(np.float64).T
        return [float(np.quantile(pair, part)) for pair, part in zip(pairs, places - below, strict=True)]

    def _of_rank(self, ranks: NDArray) -> NDArray:
        """The values at places of the ascending order."""
        if self.counts is None:
            return np.partition(self.values, np.unique(ranks))[ranks]
        return self.values[np.searchsorted(np.cumsum(self.counts), ranks, side="right")]


def count_numbers(integers: NDArray) -> tuple[NDArray, NDArray]:
    """The different numbers in an array of integers, in ascending order, and how often each occurs.

    The range of the numbers must be small: memory is taken for each number in it.
    """
    flat = integers.ravel(order="K")
    low, high = int(flat.min()), int(flat.max())
    counts = np.zeros(high - low + 1, np.int64)
    for start in range(0, flat.size, CHUNK):
        chunk = flat[start : start + CHUNK]
        counts += np.bincount(chunk.astype(np.int64) - low if low else chunk, minlength=counts.size)
    found = np.flatnonzero(counts)
    return found + low, counts[found]

# SPDX-License-Identifier: Apache-2.0
"""Scores of a victim, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["Scores", "bootstrap_interval"]


def bootstrap_interval(values: NDArray, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over cases.

    Args:
        values: one number a case.
        level: confidence level.
        seed: of the resampling.
    """
    if len(values) < 2 or np.ptp(values) == 0:
        return float(np.mean(values)), float(np.mean(values))
    result = stats.bootstrap(
        (values,), np.mean, confidence_level=level, method="percentile", rng=np.random.default_rng(seed)
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


@dataclass(frozen=True)
class Scores:
    """What a victim reached on held-out cases.

    Args:
        dice: (cases, classes without background) at the end of training, NaN where a class is absent.
        curve: mean Dice at evenly spaced moments of training, the last at its end.
        final_loss: training loss of the last step.
        seconds: wall time of training, scoring on the way included.
    """

    dice: NDArray
    curve: tuple[float, ...]
    final_loss: float
    seconds: float = 0.0

    @property
    def mean(self) -> float:
        """Mean Dice over cases and classes, in percent."""
        return 100 * float(np.nanmean(self.dice))

    @property
    def per_class(self) -> list[float]:
        """Mean Dice of each class, in percent."""
        return [100 * float(value) for value in np.nanmean(self.dice, axis=0)]

    @property
    def peak(self) -> float:
        """Best mean Dice seen on the way, in percent: what early stopping on clean data would have kept."""
        return 100 * max(self.curve)

    @property
    def interval(self) -> tuple[float, float]:
        """95% bootstrap interval of :attr:`mean` over cases, in percent."""
        low, high = bootstrap_interval(np.nanmean(self.dice, axis=1))
        return 100 * low, 100 * high

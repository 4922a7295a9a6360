# SPDX-License-Identifier: Apache-2.0
"""Intervals over test cases, tests between two methods on the same cases, and the area under the ROC curve."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from monai_unlearnable.errors import InputError

__all__ = ["PairedTest", "area_under_curve", "bootstrap_interval", "paired_test"]

RESAMPLES = 9999
BATCH = 2**21  # cases drawn at a time, which bounds memory
ROUNDING = 1e-6  # percent: differences below come from the order of summation


def bootstrap_interval(
    values: ArrayLike,
    *paired: ArrayLike,
    statistic: Callable[..., NDArray] = lambda values: values.mean(axis=1),
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval over cases (Efron and Tibshirani 1993, ch. 13), by ``scipy.stats.bootstrap``.

    Args:
        values: values to resample, (cases, ...), one row a case. Rows with NaN are omitted.
        paired: further arrays over the same cases, resampled together with ``values``.
        statistic: function of the resampled arrays, (resamples, cases, ...), returning (resamples,); default: the mean.
        level: confidence level, within (0, 1).
        seed: random seed of the resampling.

    Returns:
        Lower and upper bound; both are the statistic itself where there is one case only.

    Raises:
        InputError: when there is no case, or the arrays differ in length.
    """
    arrays = [np.asarray(array) for array in (values, *paired)]
    if len({len(array) for array in arrays}) > 1:
        raise InputError(f"arrays over the same cases differ in length: {[len(array) for array in arrays]}")
    known = ~np.any([np.isnan(array).reshape(len(array), -1).any(axis=1) for array in arrays], axis=0)
    arrays, cases = [array[known] for array in arrays], int(known.sum())
    if not cases:
        raise InputError("there is no case to take an interval over")

    def resampled(drawn: NDArray, axis: int) -> NDArray:
        return statistic(*(array[drawn] for array in arrays))

    if cases == 1:
        (value,) = resampled(np.zeros((1, 1), int), axis=-1)
        return float(value), float(value)
    found = stats.bootstrap(
        (np.arange(cases),),
        resampled,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, BATCH // cases),
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


@dataclass(frozen=True)
class PairedTest:
    """Two methods on the same test cases.

    Args:
        difference: mean of first minus second, in the units of the scores.
        interval: 95% bootstrap interval of ``difference`` over cases.
        p_value: two-sided p-value of there being no difference.
        test: name of the test.
        cases: number of cases that both methods have a score of.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float
    test: str
    cases: int


def paired_test(first: ArrayLike, second: ArrayLike, seed: int = 0) -> PairedTest:
    """Whether two methods differ on the same test cases.

    Scores that are all 0 or 100 (wrong or right) are compared by McNemar's test in its exact form: a binomial test of
    the cases on which just one method is right. Others are compared by Wilcoxon's signed-rank test, without the cases
    on which the methods are equal. Where they are equal on every case, p is 1.

    Args:
        first: ``by_case`` of one method's scores, (cases,), in percent.
        second: ``by_case`` of the other, in the same order. Cases where either is NaN are omitted.
        seed: random seed of the interval's resampling.

    Raises:
        InputError: when lengths differ, or no case has both scores.
    """
    pairs = [np.asarray(scores, np.float64).ravel() for scores in (first, second)]
    if len(pairs[0]) != len(pairs[1]):
        raise InputError(f"a paired test needs the same cases, not {len(pairs[0])} and {len(pairs[1])}")
    one, other = np.stack(pairs)[:, ~np.isnan(pairs).any(axis=0)]
    if not len(one):
        raise InputError("no case has a score of both methods")
    difference = one - other
    moved = difference[np.abs(difference) > ROUNDING]
    binary = np.isin([one, other], (0.0, 100.0)).all()
    p_value = 1.0
    if len(moved):
        found = stats.binomtest(int((moved > 0).sum()), len(moved), 0.5) if binary else stats.wilcoxon(moved)
        p_value = float(found.pvalue)
    test = "exact McNemar" if binary else "Wilcoxon signed-rank"
    return PairedTest(float(difference.mean()), bootstrap_interval(difference, seed=seed), p_value, test, len(one))


def area_under_curve(scores: NDArray, positive: NDArray, weights: NDArray | None = None) -> float:
    """Probability that a positive scores higher than a negative, ties counting half (Mann and Whitney).

    It equals scikit-learn's ``roc_auc_score`` in a tenth of its time, which a bootstrap needs a thousand times.

    Args:
        scores: scores, (n,).
        positive: truth, (n,).
        weights: number of times that each counts, (n,); by default once.

    Returns:
        0 to 1; NaN where one of the groups is empty.
    """
    weights = np.ones(len(scores)) if weights is None else weights
    ranks = np.unique(scores, return_inverse=True)[1]
    above = np.bincount(ranks, np.where(positive, weights, 0))
    below = np.bincount(ranks, np.where(positive, 0, weights))
    pairs = above.sum() * below.sum()
    return float((above * (np.cumsum(below) - below / 2)).sum() / pairs) if pairs else math.nan

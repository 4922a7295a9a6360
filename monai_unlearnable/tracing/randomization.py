# SPDX-License-Identifier: Apache-2.0
"""The test: the statistic of the owner's mark among those of other marks that are drawn alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Outcome", "sequential_test"]


@dataclass(frozen=True)
class Outcome:
    """The result of a randomization test.

    Args:
        p: probability that a model which never saw the mark gives a result like this, or a more telling one.
        others: number of other marks that were asked.
        exceeding: number of those with a statistic as large as the owner's, or larger.
    """

    p: float
    others: int
    exceeding: int


def sequential_test(own: float, others: Sequence[float], total: int, stop_after: int) -> Outcome | None:
    r"""The p-value of a statistic among those of other marks, which may be cut short.

    Where all marks are drawn alike and the model knows none of them, each rank of the owner's statistic is as likely as
    any other, whatever the model is, as long as its answers do not depend on when it is asked. With :math:`g` of
    :math:`B` others at least as large,

    .. math:: p = \frac{1 + g}{1 + B} .

    If :math:`h` others are as large already among the first :math:`l`, the rest is not asked, and :math:`p = h / l`
    (Besag and Clifford, Sequential Monte Carlo p-values, Biometrika 1991). Both are exact: p is at most
    :math:`\alpha` with a probability of at most :math:`\alpha`.

    Args:
        own: statistic of the owner's mark; larger ones are more telling.
        others: statistics of the other marks, in the order in which they were drawn, which must not depend on them.
        total: number B of other marks.
        stop_after: number h.

    Returns:
        The result, or None where more marks must be asked.

    Example:
        >>> sequential_test(0.9, [0.1, 0.2, 0.3], total=3, stop_after=10).p
        0.25
    """
    exceeding = 0
    for asked, other in enumerate(others[:total], 1):
        exceeding += other >= own
        if exceeding == stop_after and asked < total:
            return Outcome(stop_after / asked, asked, exceeding)
    if len(others) < total:
        return None
    return Outcome((1 + exceeding) / (1 + total), total, exceeding)

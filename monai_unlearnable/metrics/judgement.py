# SPDX-License-Identifier: Apache-2.0
"""Whether protected data stop an exploiter: one rule for the verdict of a report and for evidence."""

from __future__ import annotations

import math

__all__ = ["HALF", "NOT_STOPPED", "POOR", "SMALL_DROP", "STOPPED", "UNKNOWN", "UNSTOPPED", "WEAKENED"]
__all__ += ["fraction_left", "is_poor", "judge"]

HALF = 0.5  # fraction of what originals teach; where more is left, the protection does not prevent training
SMALL_DROP = 10.0  # points of the score; a smaller drop is no protection
POOR_MODEL = 0.3  # fraction of the way from chance to 100; clean training that ends below it leaves little to protect

STOPPED, WEAKENED, NOT_STOPPED = "stopped", "weakened", "not stopped"
POOR, UNKNOWN = "weak by itself", "no control"
UNSTOPPED = (WEAKENED, NOT_STOPPED)  # judgements on exploiters who are still worth their while


def fraction_left(score: float, clean: float | None, chance: float) -> float:
    """How far a score lies between chance, 0, and the score of the originals, 1.

    Random noise may do worse than chance, and protected data better than originals: the value is not clipped.

    Args:
        score: score of a model that was trained on protected data, in percent.
        clean: score of the same training on the originals, in percent; None or NaN where it is not known.
        chance: score of a model that learned nothing, in percent.

    Returns:
        The fraction; NaN where the originals' score is not known or no better than chance.
    """
    if clean is None or math.isnan(clean) or clean <= chance:
        return math.nan
    return (score - chance) / (clean - chance)


def is_poor(clean: float, chance: float) -> bool:
    """Whether models learn so little from the originals, score and chance in percent, that a comparison proves
    nothing."""
    return clean - chance < POOR_MODEL * (100 - chance)


def judge(score: float, clean: float | None, chance: float) -> str:
    """What protected data do to an exploiter.

    Args:
        score: score of a model that was trained on protected data, in percent; of several trainings the highest, since
            an exploiter who trains again may take the better model.
        clean, chance: see :func:`fraction_left`.

    Returns:
        ``"no control"`` where the originals' score is not known; ``"weak by itself"`` where even originals teach
        little; ``"not stopped"`` where less than 10 points are lost; ``"stopped"`` where at most half of what originals
        teach is left; else ``"weakened"``.
    """
    if clean is None or math.isnan(clean) or math.isnan(score):
        return UNKNOWN
    if is_poor(clean, chance):
        return POOR
    if clean - score < SMALL_DROP:
        return NOT_STOPPED
    return STOPPED if fraction_left(score, clean, chance) <= HALF else WEAKENED

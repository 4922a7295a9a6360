# SPDX-License-Identifier: Apache-2.0
"""Score against fidelity: points, crossings, P50."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from monai_unlearnable.errors import InputError

__all__ = ["Scores", "Crossing", "Point", "half_way", "p50"]


TASK = "task "  # begins the names of the scores of single tasks among the extras


def task_name(task: str) -> str:
    """The name of the score of a task among the extras of :class:`Scores`."""
    return TASK + task


@dataclass(frozen=True)
class Scores:
    """Scores of one victim, in percent (0 to 100).

    :func:`~monai_unlearnable.metrics.segmentation_scores` and
    :func:`~monai_unlearnable.metrics.classification_scores` fill in what follows from predictions; whoever trained the
    victim adds curves, loss and time with ``dataclasses.replace``.

    Args:
        metric: name of the score, ``"Dice"`` or ``"balanced accuracy"``.
        value: score at the end of training.
        interval: 95% bootstrap interval of ``value`` over test cases.
        per_class: Dice of each class without background, or recall of each class; NaN where a class is absent from the
            test set.
        by_case: score of each test case in their order: mean Dice over the classes present, NaN without any, or
            100 for right and 0 for wrong.
        extras: further figures by name, such as ``"hd95"`` (mm) or ``"auc"`` (percent), and the score of each of
            several tasks, see :func:`task_name`; NaN where one is undefined.
        curve: ``value`` on the way, the last at the end of training.
        validation_curve: the same at the same moments, on cases that were held out of the victim's own training data.
        final_loss: training loss of the last step.
        seconds: wall time of training, scoring on the way included.
        iterations: training steps taken; 0 where it is not known.
        curve_iterations: training steps taken at each moment of the curve; empty where they are evenly spaced.

    Raises:
        InputError: when there is a validation curve of another length than ``curve``.
    """

    metric: str
    value: float
    interval: tuple[float, float]
    per_class: tuple[float, ...]
    by_case: tuple[float, ...]
    extras: dict[str, float] = field(default_factory=dict)
    curve: tuple[float, ...] = ()
    validation_curve: tuple[float, ...] = ()
    final_loss: float = math.nan
    seconds: float = 0.0
    iterations: int = 0
    curve_iterations: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        own, other = len(self.curve), len(self.validation_curve)
        if other not in (0, own):
            raise InputError(f"the validation curve has {other} moments, the curve {own}")

    @property
    def peak(self) -> float:
        """Best value on the way, as early stopping with an oracle finds it; ``value`` where there is no curve."""
        return max((value for value in self.curve or (self.value,) if not math.isnan(value)), default=math.nan)

    @property
    def selected(self) -> float:
        """Value at the first maximum of the validation curve, which an exploiter can find; NaN without one."""
        known = [moment for moment, value in enumerate(self.validation_curve) if not math.isnan(value)]
        return self.curve[max(known, key=lambda moment: self.validation_curve[moment])] if known else math.nan


@dataclass(frozen=True)
class Point:
    """One strength of a method.

    Args:
        psnr: PSNR of the protected scans, in dB.
        score: score of the victim on clean test cases, in percent.
        ssim_roi: SSIM of the protected scans inside the region, 0 to 1.
        epsilon: budget, in normalized intensity.
    """

    psnr: float
    score: float
    ssim_roi: float | None = None
    epsilon: float | None = None


@dataclass(frozen=True)
class Crossing:
    """The place where a frontier falls to half-way.

    Args:
        value: PSNR in dB or SSIM there; None where no point of the sweep reaches half-way.
        bound: ``"exact"`` when points on both sides were interpolated; ``"at least"`` when the best-looking point of
            the sweep still reaches half-way, so that the true value may be higher; ``"none"`` without a value.
    """

    value: float | None
    bound: Literal["exact", "at least", "none"]


def half_way(clean: float, chance: float) -> float:
    """The score half-way between chance and the clean control, in percent."""
    return (clean + chance) / 2


def p50(points: Iterable[Point], clean: float, chance: float, figure: str = "psnr") -> Crossing:
    """P50: the highest PSNR at which the score is at most half-way between chance and the clean control.

    The sweep is taken as linear between neighbors in PSNR. Where it crosses half-way more than once, the highest
    crossing counts. Points of equal PSNR count as one with their mean score. Points without score or figure (None or
    NaN: a victim that diverged, say) are omitted.

    Args:
        points: the sweep of one method, in any order.
        clean: score of the victim trained on clean scans, in percent.
        chance: score of a victim that learned nothing, in percent.
        figure: ``"psnr"`` or ``"ssim_roi"``, which takes the place of PSNR.

    Returns:
        The crossing; ``"none"`` also when the clean control is no better than chance, and nothing could be taken away.

    Raises:
        InputError: when the figure is unknown.
    """
    if figure not in ("psnr", "ssim_roi"):
        raise InputError(f"unknown figure {figure!r} of a frontier; known are psnr and ssim_roi")
    scores: dict[float, list[float]] = {}
    for point in points:
        place: float | None = getattr(point, figure)
        if place is not None and not math.isnan(place) and not math.isnan(point.score):
            scores.setdefault(place, []).append(point.score)
    sweep = [(place, math.fsum(found) / len(found)) for place, found in sorted(scores.items())]
    goal = half_way(clean, chance)
    if not sweep or not clean > chance:
        return Crossing(None, "none")
    right, score = sweep[-1]
    if score <= goal:
        return Crossing(right, "at least")
    for left, reached in sweep[-2::-1]:
        if reached <= goal:
            return Crossing(left + (right - left) * (goal - reached) / (score - reached), "exact")
        right, score = left, reached
    return Crossing(None, "none")

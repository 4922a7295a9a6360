# SPDX-License-Identifier: Apache-2.0
"""Score against fidelity: points, crossings, P50."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from monai_unlearnable.errors import InputError

__all__ = ["Crossing", "Point", "half_way", "p50"]


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
    NaN, as of a victim that diverged) are omitted.

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

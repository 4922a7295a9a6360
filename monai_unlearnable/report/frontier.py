# SPDX-License-Identifier: Apache-2.0
"""Frontiers: what models learn at each fidelity that a method was tried at, and P50, the figure that sums it up."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from monai_unlearnable.metrics.frontier import Point, half_way, p50
from monai_unlearnable.report.matrix import Matrix
from monai_unlearnable.report.rows import CLEAN, NO_COUNTERMEASURE
from monai_unlearnable.report.summaries import Summary

__all__ = ["FrontierPoint", "FrontierLine", "frontier_lines"]

AT_LEAST, NOT_REACHED = "at least", "none"  # bounds of a crossing


@dataclass(frozen=True)
class FrontierPoint:
    """A method at one strength.

    Args:
        data: name of the training data.
        epsilon: largest change allowed, in normalized intensity.
        psnr: of the training scans in dB.
        ssim_roi: of the training scans inside the label.
        score: mean over seeds, in percent.
        interval: span over seeds, or 95% interval over test cases, in percent.
        finals: score of each seed, in percent.
    """

    data: str
    epsilon: float | None
    psnr: float | None
    ssim_roi: float | None
    score: float
    interval: tuple[float, float]
    finals: tuple[float, ...]


@dataclass(frozen=True)
class FrontierLine:
    """A method over its strengths, against one victim with one recipe.

    Args:
        method: what made the noise.
        training: its role: ``"protected"`` or ``"random noise"``.
        victim: name of the network.
        recipe: name of the training recipe.
        metric: what the scores are.
        chance: score of a model that learned nothing, in percent.
        clean: score of the clean control, in percent; NaN without one.
        points: by rising PSNR.
        p50: highest PSNR in dB at which the score is at most half-way between chance and the clean control; None where
            no point is.
        bound: ``"exact"``; ``"at least"`` where the point of highest PSNR is below half-way; ``"none"``.
        ssim50: the same in SSIM inside the label.
        ssim_bound: of ``ssim50``.
    """

    method: str
    training: str
    victim: str
    recipe: str
    metric: str
    chance: float
    clean: float
    points: tuple[FrontierPoint, ...]
    p50: float | None
    bound: str
    ssim50: float | None
    ssim_bound: str

    @property
    def halfway(self) -> float:
        """Half-way between chance and the clean control, in percent; NaN without one."""
        return half_way(self.clean, self.chance)

    @property
    def words(self) -> str:
        """P50 in words, with its unit."""
        if self.p50 is None:
            return "–" if math.isnan(self.clean) else "not reached"
        return f"{'at least ' if self.bound == AT_LEAST else ''}{self.p50:.1f} dB"

    def to_dict(self) -> dict[str, Any]:
        """All fields and the half-way score, ready for JSON but for NaN."""
        return {**dataclasses.asdict(self), "halfway": self.halfway}


def frontier_lines(summaries: Sequence[Summary]) -> list[FrontierLine]:
    """One line for each method, victim and recipe, random noise included; countermeasures are left out.

    Args:
        summaries: of all cells; those without score or without PSNR give no point.
    """
    matrix, groups = Matrix(summaries), {}  # type: ignore[var-annotated]
    for s in summaries:
        if s.training != CLEAN and s.countermeasure == NO_COUNTERMEASURE and s.done and s.psnr is not None:
            groups.setdefault((s.method, s.victim, s.recipe), []).append(s)
    return [_line(matrix, members) for members in groups.values()]


def _line(matrix: Matrix, members: Sequence[Summary]) -> FrontierLine:
    first, control = members[0], matrix.control(members[0])
    clean = control.score if control else math.nan
    ordered = sorted(members, key=lambda s: s.psnr or 0.0)
    points = tuple(FrontierPoint(s.data, s.epsilon, s.psnr, s.ssim_roi, s.score, s.interval, s.finals) for s in ordered)
    sweep = [Point(s.psnr or 0.0, s.score, s.ssim_roi, s.epsilon) for s in ordered]
    psnr, ssim = (p50(sweep, clean, first.chance, figure) for figure in ("psnr", "ssim_roi"))
    return FrontierLine(
        method=first.method,
        training=first.training,
        victim=first.victim,
        recipe=first.recipe,
        metric=first.metric,
        chance=first.chance,
        clean=clean,
        points=points,
        p50=psnr.value,
        bound=psnr.bound,
        ssim50=ssim.value,
        ssim_bound=ssim.bound,
    )

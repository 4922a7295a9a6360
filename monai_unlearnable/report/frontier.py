# SPDX-License-Identifier: Apache-2.0
"""Frontiers: what models learn at each fidelity that a method was tried at, and P50, the figure that sums it up."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from monai_unlearnable.metrics.frontier import Point, half_way, p50
from monai_unlearnable.report.controlled import ControlledSummaries
from monai_unlearnable.report.rows import CLEAN, NO_COUNTERMEASURE
from monai_unlearnable.report.summaries import Summary
from monai_unlearnable.utils.grouping import grouped

__all__ = ["FrontierLine", "frontier_lines"]


@dataclass(frozen=True)
class FrontierLine:
    """A method over its strengths, against one victim with one recipe.

    Args:
        method: name of what made the noise; of data that are no strength of it, see :func:`frontier_lines`, their own.
        training: role of the data: ``"protected"`` or ``"random noise"``.
        victim: name of the network.
        recipe: name of the training recipe.
        metric: name of the score.
        chance: score of a model that learned nothing, in percent.
        clean: score of the clean control, in percent; NaN without one.
        points: one point for each strength, by rising PSNR.
        p50: highest PSNR in dB at which the score is at most half-way between chance and the clean control; None where
            no point is.
        bound: ``"exact"``; ``"at least"`` where the point of highest PSNR is below half-way; ``"none"``.
        ssim50: the same in SSIM inside the label.
        ssim_bound: bound of ``ssim50``.
    """

    method: str
    training: str
    victim: str
    recipe: str
    metric: str
    chance: float
    clean: float
    points: tuple[Summary, ...]
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
        return f"{'at least ' * (self.bound == 'at least')}{self.p50:.1f} dB"

    @property
    def ssim_words(self) -> str:
        """Half-way SSIM inside the label in words."""
        return "–" if self.ssim50 is None else f"{'at least ' * (self.ssim_bound == 'at least')}{self.ssim50:.4f}"

    def to_dict(self) -> dict[str, Any]:
        """All fields and the half-way score, ready for JSON except for NaN."""
        names = ("data", "epsilon", "psnr", "ssim_roi", "score", "interval", "finals")
        points: list[dict[str, Any]] = [{name: getattr(point, name) for name in names} for point in self.points]
        for point, own in zip(self.points, points, strict=True):
            own.update(iterations=list(point.iterations), moving=point.moving)
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "points": points, "halfway": self.halfway}


def frontier_lines(controlled: ControlledSummaries) -> list[FrontierLine]:
    """One line for each method, victim and recipe without countermeasure, random noise included.

    Summaries without score or without PSNR give no point. Data of one method at one epsilon are variants of it, such as
    those of two settings, and nothing lies between them: each of them is a line of its own.
    """
    points = [
        s
        for s in controlled.summaries
        if s.training != CLEAN and s.countermeasure == NO_COUNTERMEASURE and s.done and math.isfinite(s.psnr)
    ]
    groups = grouped(points, lambda s: (s.method, s.victim, s.recipe))
    return [line for members in groups.values() for line in _lines(controlled, members)]


def _lines(controlled: ControlledSummaries, members: Sequence[Summary]) -> list[FrontierLine]:
    if len({s.epsilon for s in members}) == len(members):
        return [_line(controlled, members)]
    return [dataclasses.replace(_line(controlled, [one]), method=one.data) for one in members]


def _line(controlled: ControlledSummaries, members: Sequence[Summary]) -> FrontierLine:
    first, control = members[0], controlled.control(members[0])
    clean = control.score if control else math.nan
    points = tuple(sorted(members, key=lambda s: s.psnr))
    sweep = [Point(s.psnr, s.score, s.ssim_roi) for s in points]
    psnr, ssim = (p50(sweep, clean, first.chance, figure) for figure in ("psnr", "ssim_roi"))
    same = {name: getattr(first, name) for name in ("method", "training", "victim", "recipe", "metric", "chance")}
    return FrontierLine(
        **same, clean=clean, points=points, p50=psnr.value, bound=psnr.bound, ssim50=ssim.value, ssim_bound=ssim.bound
    )

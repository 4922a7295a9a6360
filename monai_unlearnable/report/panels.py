# SPDX-License-Identifier: Apache-2.0
"""Which cells a chart has room for: those that say most."""

from __future__ import annotations

import math
from collections.abc import Sequence

from monai_unlearnable.report.matrix import Matrix
from monai_unlearnable.report.rows import CLEAN, NO_COUNTERMEASURE, PROTECTED, RANDOM
from monai_unlearnable.report.summaries import Summary

__all__ = ["Panel", "baseline_panels", "telling_panels"]

LINES = 3  # protected data in a panel
Panel = tuple[str, list[Summary]]


def baseline_panels(summaries: Sequence[Summary], limit: int) -> list[Panel]:
    """A panel for each victim and recipe without countermeasure; the first ones.

    Args:
        summaries: of all cells.
        limit: number of panels.
    """
    return [panel for key, panel in _groups(summaries).items() if key[2] == NO_COUNTERMEASURE][:limit]


def telling_panels(summaries: Sequence[Summary], limit: int) -> list[Panel]:
    """Half of the panels for victims whose trainer did nothing special, the others where most of the score came back.

    Args:
        summaries: of all cells.
        limit: number of panels.
    """
    matrix = Matrix(summaries)
    groups = {key: panel for key, panel in _groups(summaries).items() if any(any(s.curves) for s in panel[1])}
    basic = [key for key in groups if key[1:] == (matrix.recipe, NO_COUNTERMEASURE)]
    others = sorted((key for key in groups if key not in basic), key=lambda key: -_returned(matrix, groups[key][1]))
    kept = basic[: max(limit - len(others), limit // 2)]
    return [groups[key] for key in [*kept, *others[: limit - len(kept)]]]


def _groups(summaries: Sequence[Summary]) -> dict[tuple[str, str, str], Panel]:
    """Cells of one victim, recipe and countermeasure: clean, a few protected ones, one with random noise."""
    groups: dict[tuple[str, str, str], list[Summary]] = {}
    for s in summaries:
        if s.done:
            groups.setdefault((s.victim, s.recipe, s.countermeasure), []).append(s)
    recipes = len({s.recipe for s in summaries}) > 1
    panels = {}
    for (victim, recipe, countermeasure), cells in groups.items():
        parts = [victim, *[recipe] * recipes, *[countermeasure] * (countermeasure != NO_COUNTERMEASURE)]
        protected = _telling([s for s in cells if s.training == PROTECTED])
        strength = max((s.epsilon or 0.0 for s in protected), default=0.0)
        random = sorted((s for s in cells if s.training == RANDOM), key=lambda s: abs((s.epsilon or 0.0) - strength))
        shown = [*[s for s in cells if s.training == CLEAN][:1], *protected, *random[:1]]
        panels[victim, recipe, countermeasure] = (", ".join(parts), shown)
    return panels


def _telling(cells: Sequence[Summary]) -> list[Summary]:
    """A few of the protected cells: of each method that with the strongest noise, then others."""
    strongest = {s.method: s for s in sorted(cells, key=lambda s: s.epsilon or 0.0)}
    kept = list(strongest.values())[:LINES]
    kept += [s for s in cells if s not in kept][: LINES - len(kept)]
    return [s for s in cells if s in kept]


def _returned(matrix: Matrix, cells: Sequence[Summary]) -> float:
    fractions = [matrix.fraction(s) for s in cells if s.training == PROTECTED]
    return max((fraction for fraction in fractions if math.isfinite(fraction)), default=-1.0)

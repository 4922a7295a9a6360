# SPDX-License-Identifier: Apache-2.0
"""How the cells of the matrix relate: which control belongs to a cell, and how much of it came back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from monai_unlearnable.errors import InputError
from monai_unlearnable.metrics.statistics import PairedTest, paired_test
from monai_unlearnable.report.rows import CLEAN, NO_COUNTERMEASURE, PROTECTED, RANDOM
from monai_unlearnable.report.summaries import Summary

__all__ = ["BASELINE_RECIPE", "HALF", "Matrix", "UNTESTED", "attempt", "distinct", "difference_test"]

BASELINE_RECIPE = "plain"
HALF = 0.5  # fraction of the clean control's score above which a protection no longer prevents training
UNTESTED = PairedTest(math.nan, (math.nan, math.nan), math.nan, "none", 0)


@dataclass(frozen=True)
class Matrix:
    """Summaries with the questions that verdict, tables and pictures ask of them.

    Args:
        summaries: of all cells.
    """

    summaries: Sequence[Summary]

    @property
    def recipe(self) -> str:
        """The recipe that others are compared with: ``plain`` where it was tried, otherwise the first."""
        recipes = distinct(s.recipe for s in self.summaries)
        return BASELINE_RECIPE if BASELINE_RECIPE in recipes or not recipes else recipes[0]

    @property
    def methods(self) -> list[str]:
        """Methods whose noise protects, in the order of the rows."""
        return distinct(s.method for s in self.summaries if s.training == PROTECTED)

    def is_baseline(self, summary: Summary) -> bool:
        """Whether the exploiter did nothing special: the basic recipe, no countermeasure."""
        return summary.recipe == self.recipe and summary.countermeasure == NO_COUNTERMEASURE

    def control(self, summary: Summary) -> Summary | None:
        """The same network and recipe trained on originals, best without countermeasure; None where it has no score."""
        clean = [s for s in self._others(summary, CLEAN) if s.done]
        for countermeasure in (NO_COUNTERMEASURE, summary.countermeasure):
            for candidate in clean:
                if candidate.countermeasure == countermeasure:
                    return candidate
        return None

    def random(self, summary: Summary) -> Summary | None:
        """The control with random noise in the same cell, of the nearest size where there are several."""
        found = [s for s in self._others(summary, RANDOM) if s.done and s.countermeasure == summary.countermeasure]
        return min(found, key=lambda s: abs((s.epsilon or 0) - (summary.epsilon or 0)), default=None)

    def fraction(self, summary: Summary) -> float:
        """How far a score lies between chance, 0, and the clean control, 1; NaN where either is unknown."""
        control = self.control(summary)
        if control is None or not summary.done or control.score <= summary.chance:
            return math.nan
        return (summary.score - summary.chance) / (control.score - summary.chance)

    def baselines(self, method: str | None = None) -> list[Summary]:
        """Protected cells with a score and a control where the exploiter did nothing special."""
        return [s for s in self.protected(method) if self.is_baseline(s)]

    def protected(self, method: str | None = None) -> list[Summary]:
        """Protected cells with a score and a control, of one method or of all."""
        return [
            s
            for s in self.summaries
            if s.training == PROTECTED and s.method == (method or s.method) and math.isfinite(self.fraction(s))
        ]

    def strongest(self, method: str | None = None) -> Summary | None:
        """The protected cell, baselines left out, from which most of the clean control's score came back.

        Data that do not even hold against the baseline are passed over, unless there are no others.
        """
        cells = self.protected(method)
        weak = {(s.data, s.victim) for s in cells if self.is_baseline(s) and self.fraction(s) > HALF}
        others = [s for s in cells if not self.is_baseline(s)]
        held = [s for s in others if (s.data, s.victim) not in weak]
        return max(held or others, key=self.fraction, default=None)

    def p_value(self, summary: Summary) -> float:
        """Of the paired test against the clean control over test cases; NaN where the cases are not known."""
        control = self.control(summary)
        if control is None or control is summary:
            return math.nan
        return difference_test(control, summary).p_value

    def rivals(self) -> list[tuple[Summary, Summary]]:
        """Every two protected cells with a score that differ in their data alone.

        Where a method comes in several strengths, only data of equal strength are paired: for strengths of one method
        there is the frontier.
        """
        strengths = {(s.method, s.epsilon) for s in self.summaries if s.training == PROTECTED}
        sweep = len(strengths) > len(self.methods)
        return [
            (first, second)
            for (training, *_), cells in self._groups.items()
            for first, second in combinations([s for s in cells if s.done], 2)
            if training == PROTECTED
            and first.countermeasure == second.countermeasure
            and (first.epsilon == second.epsilon or not sweep)
        ]

    def _others(self, summary: Summary, training: str) -> list[Summary]:
        return self._groups.get((training, summary.victim, summary.recipe), [])

    @cached_property
    def _groups(self) -> dict[tuple[str, str, str], list[Summary]]:
        groups: dict[tuple[str, str, str], list[Summary]] = {}
        for s in self.summaries:
            groups.setdefault((s.training, s.victim, s.recipe), []).append(s)
        return groups


def difference_test(first: Summary, second: Summary) -> PairedTest:
    """Paired test over test cases, second minus first in points; :data:`UNTESTED` where the cases are not known.

    Args:
        first: a cell.
        second: a cell scored on the same test cases in the same order.
    """
    try:
        return paired_test(second.by_case, first.by_case)
    except InputError:  # other test cases, or none that both have a score of
        return UNTESTED


def attempt(summary: Summary) -> str:
    """What the exploiter did, in words: ``"nnunet training after median"``."""
    if summary.countermeasure == NO_COUNTERMEASURE:
        return f"{summary.recipe} training"
    return f"{summary.recipe} training after {summary.countermeasure}"


def distinct(values: Iterable[str]) -> list[str]:
    """The values without repetition, in their order."""
    return list(dict.fromkeys(values))

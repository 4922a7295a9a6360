# SPDX-License-Identifier: Apache-2.0
"""How summaries relate: the control that belongs to each, and how much of its score came back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from monai_unlearnable.errors import InputError
from monai_unlearnable.metrics.judgement import POOR, UNKNOWN, UNSTOPPED, fraction_left, judge
from monai_unlearnable.metrics.statistics import PairedTest, paired_test
from monai_unlearnable.report.rows import CLEAN, NO_COUNTERMEASURE, PROTECTED, RANDOM
from monai_unlearnable.report.summaries import Summary
from monai_unlearnable.utils.grouping import distinct, grouped

__all__ = ["ControlledSummaries", "difference_test"]

BASELINE_RECIPE = "plain"
UNTESTED = PairedTest(math.nan, (math.nan, math.nan), math.nan, "none", 0)


@dataclass(frozen=True)
class ControlledSummaries:
    """Summaries, each with the control that belongs to it, and the questions that verdict, tables and pictures ask.

    Args:
        summaries: those of all settings.
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
        clean = {s.countermeasure: s for s in reversed(self._others(summary, CLEAN)) if s.done}
        return clean.get(NO_COUNTERMEASURE) or clean.get(summary.countermeasure)

    def random(self, summary: Summary) -> Summary | None:
        """The control with random noise of the same epsilon in the same setting; None where there is none."""
        found = (s for s in self._others(summary, RANDOM) if s.done and s.countermeasure == summary.countermeasure)
        return next((s for s in found if _same(s.epsilon, summary.epsilon)), None)

    def fraction(self, summary: Summary, score: float | None = None) -> float:
        """How far a score lies between chance, 0, and the clean control, 1; NaN where either is unknown.

        Args:
            summary: summary whose score and control are meant.
            score: score to take in place of the summary's mean, in percent.
        """
        return fraction_left(*self._compared(summary, summary.score if score is None else score))

    def judgement(self, summary: Summary, score: float | None = None) -> str:
        """Whether the protection stops the exploiter, see :func:`~monai_unlearnable.metrics.judgement.judge`.

        Args:
            summary: summary whose score and control are meant.
            score: score to take in place of the highest of the summary's runs, in percent.
        """
        return judge(*self._compared(summary, summary.highest if score is None else score))

    def _compared(self, summary: Summary, score: float) -> tuple[float, float | None, float]:
        """A score, that of the clean control, and chance."""
        control = self.control(summary)
        return score, None if control is None else control.score, summary.chance

    def baselines(self, method: str | None = None) -> list[Summary]:
        """Protected data with a score and a control where the exploiter did nothing special."""
        return [s for s in self.protected(method) if self.is_baseline(s)]

    def protected(self, method: str | None = None) -> list[Summary]:
        """Protected data with a score and a control, of one method or of all."""
        found = [s for s in self.summaries if s.training == PROTECTED and s.method == (method or s.method)]
        return [s for s in found if self.judgement(s) != UNKNOWN]

    def others(self, method: str | None = None) -> list[Summary]:
        """Protected data of exploiters who did something special, but for those who learn little from originals."""
        return [s for s in self.protected(method) if not self.is_baseline(s) and self.judgement(s) != POOR]

    def held(self, method: str | None = None) -> list[Summary]:
        """:meth:`others` on data that hold against the baseline of the same victim; all where none do."""
        weak = {(s.data, s.victim) for s in self.baselines(method) if self.judgement(s) in UNSTOPPED}
        others = self.others(method)
        return [s for s in others if (s.data, s.victim) not in weak] or others

    def strongest(self, method: str | None = None) -> Summary | None:
        """Of :meth:`held` the data from which most of the clean control's score came back."""
        return max(self.held(method), key=self.fraction, default=None)

    def p_value(self, summary: Summary) -> float:
        """Of the paired test against the clean control over test cases; NaN where the cases are not known."""
        control = self.control(summary)
        if control is None or control is summary:
            return math.nan
        return difference_test(control, summary).p_value

    def rivals(self) -> list[tuple[Summary, Summary]]:
        """Every two protected summaries with a score that differ in their data alone.

        Where a method comes in several strengths, only data of equal strength are paired: for strengths of one method
        there is the frontier.
        """
        strengths = {(s.method, s.epsilon) for s in self.summaries if s.training == PROTECTED}
        sweep = len(strengths) > len(self.methods)
        return [
            (first, second)
            for (training, *_), group in self._groups.items()
            for first, second in combinations([s for s in group if s.done], 2)
            if training == PROTECTED
            and first.countermeasure == second.countermeasure
            and (first.epsilon == second.epsilon or not sweep)
        ]

    def _others(self, summary: Summary, training: str) -> list[Summary]:
        return self._groups.get((training, summary.victim, summary.recipe), [])

    @cached_property
    def _groups(self) -> dict[tuple[str, str, str], list[Summary]]:
        return grouped(self.summaries, lambda s: (s.training, s.victim, s.recipe))


def _same(first: float | None, second: float | None) -> bool:
    """Whether two values of epsilon are the same, but for rounding; those that are not known are taken for equal."""
    return first == second if first is None or second is None else math.isclose(first, second, rel_tol=1e-6)


def difference_test(first: Summary, second: Summary) -> PairedTest:
    """Paired test over test cases in one order, second minus first in points; all NaN, of 0 cases, where unknown."""
    try:
        return paired_test(second.by_case, first.by_case)
    except InputError:  # other test cases, or none that both have a score of
        return UNTESTED

# SPDX-License-Identifier: Apache-2.0
"""Runs over seeds: those that differ by their seed only, as one summary."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from monai_unlearnable.report.rows import (
    CLEAN,
    DIVERGED,
    MOVED,
    NO_COUNTERMEASURE,
    OWN_RECIPE,
    TRAININGS,
    VictimRow,
)
from monai_unlearnable.report.words import program_words
from monai_unlearnable.utils.grouping import distinct, grouped

__all__ = ["MOVING_WORDS", "Setting", "Summary", "attempt", "iterations_of", "summarize", "victim_name"]

MEANS = ("peak", "selected", "psnr", "ssim", "ssim_roi")  # over all runs
MOVING = "~"
MOVING_WORDS = f"{MOVING} still moving: by more than {MOVED:.0f} points in the last fifth of training"

Setting = tuple[str, str, str, str]  # data, victim, recipe, countermeasure


@dataclass(frozen=True)
class Summary:
    """Runs that differ by their seed only. Scores are means in percent over the runs that have one.

    Args:
        training: role of what they were trained on.
        data: name of it.
        victim: name of the network.
        recipe: name of the training recipe.
        countermeasure: name of what was done to the training scans first.
        method: name of what made the noise.
        epsilon: largest change allowed, in normalized intensity.
        metric: name of the score.
        chance: score of a model that learned nothing, in percent.
        runs: runs, one a seed.
        peak: best score on the way; like the next ones NaN where it is not known.
        selected: score that early stopping reaches.
        psnr: PSNR of the training scans in dB.
        ssim: SSIM of the training scans.
        ssim_roi: SSIM of the training scans inside the label.
    """

    training: str
    data: str
    victim: str
    recipe: str
    countermeasure: str
    method: str
    epsilon: float | None
    metric: str
    chance: float
    runs: tuple[VictimRow, ...]
    peak: float
    selected: float
    psnr: float
    ssim: float
    ssim_roi: float

    @cached_property
    def scored(self) -> tuple[VictimRow, ...]:
        """Runs that have a score."""
        return tuple(run for run in self.runs if run.done)

    @property
    def finals(self) -> tuple[float, ...]:
        """Final score of each run that has one."""
        return tuple(run.score for run in self.scored)

    @property
    def score(self) -> float:
        """Mean final score; NaN where no run has one."""
        return _mean(self.finals)

    @property
    def highest(self) -> float:
        """Highest final score; NaN where no run has one."""
        return max(self.finals, default=math.nan)

    @property
    def interval(self) -> tuple[float, float]:
        """Lowest and highest final score over seeds; of a single seed, its interval over test cases."""
        if len(self.scored) > 1:
            return min(self.finals), max(self.finals)
        return self.scored[0].interval if self.scored else (math.nan, math.nan)

    @property
    def per_class(self) -> tuple[float, ...]:
        """Mean final score of each class, NaN where a class is absent."""
        return _mean_of_lists([run.per_class for run in self.scored])

    @property
    def by_case(self) -> tuple[float, ...]:
        """Mean over seeds of the score of each test case; empty where it is not known."""
        return _mean_of_lists([run.by_case for run in self.scored])

    @property
    def curves(self) -> tuple[tuple[float, ...], ...]:
        """Score on the way, one curve a seed."""
        return tuple(run.curve for run in self.scored)

    @property
    def iterations(self) -> tuple[int, ...]:
        """Fewest and most training steps of the runs that have a score; empty where they are not known."""
        known = [run.iterations for run in self.scored if run.iterations]
        return tuple(sorted({min(known), max(known)})) if known else ()

    @property
    def moving(self) -> bool | None:
        """Whether a curve still moved at the end, see :attr:`VictimRow.moving`; None where it is known of none."""
        known = [run.moving for run in self.scored if run.moving is not None]
        return any(known) if known else None

    @property
    def mark(self) -> str:
        """The sign ``~`` where a curve still moved at the end; otherwise empty."""
        return MOVING if self.moving else ""

    @property
    def extras(self) -> dict[str, float]:
        """Means of the other scores."""
        names = distinct(name for run in self.scored for name in run.extras)
        return {name: _mean(run.extras.get(name) for run in self.scored) for name in names}

    @property
    def seeds(self) -> int:
        """Number of runs that the means are over."""
        return len(self.scored)

    @property
    def done(self) -> bool:
        """Whether any run has a score."""
        return bool(self.scored)

    @property
    def statuses(self) -> tuple[str, ...]:
        """Of the runs that have no score: ``"diverged"`` or ``"failed: reason"``."""
        return tuple(run.status for run in self.runs if not run.done)

    @property
    def failure(self) -> str:
        """``"diverged"`` or ``"failed"`` where no run has a score, otherwise empty."""
        return "" if self.done else self._failure_word

    @property
    def note(self) -> str:
        """How many runs have no score and enter no mean, in words; empty where all have one."""
        return f"{len(self.statuses)} of {len(self.runs)} {self._failure_word}" if self.statuses else ""

    @property
    def _failure_word(self) -> str:
        return "diverged" if all(status == DIVERGED for status in self.statuses) else "failed"

    @property
    def setting(self) -> Setting:
        """Data, victim, recipe and countermeasure: what identifies the summary."""
        return self.data, self.victim, self.recipe, self.countermeasure

    @property
    def words(self) -> str:
        """The training data in words."""
        return "originals" if self.training == CLEAN and self.data == CLEAN else self.data


def summarize(rows: Iterable[VictimRow]) -> list[Summary]:
    """One :class:`Summary` for each setting.

    Args:
        rows: runs of any number of settings and seeds.

    Returns:
        Ordered by countermeasure (none first), victim and recipe as they come; within these clean, protected, random
        noise.
    """
    groups = grouped(rows, lambda row: (row.data, row.victim, row.recipe, row.countermeasure))
    found = [_summary(runs) for runs in groups.values()]
    orders = {name: distinct(getattr(s, name) for s in found) for name in ("countermeasure", "victim", "recipe")}
    return sorted(
        found,
        key=lambda s: (
            s.countermeasure != NO_COUNTERMEASURE,
            *(order.index(getattr(s, name)) for name, order in orders.items()),
            TRAININGS.index(s.training),
        ),
    )


def _summary(runs: Sequence[VictimRow]) -> Summary:
    shared = {field.name for field in fields(Summary)} - {"runs", *MEANS}
    means: dict[str, Any] = {name: _mean(getattr(run, name) for run in runs) for name in MEANS}
    return Summary(**{name: getattr(runs[0], name) for name in shared}, runs=tuple(runs), **means)


def _mean(values: Iterable[float | None]) -> float:
    """Mean of the values that are known; NaN where none is."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _mean_of_lists(lists: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Means of lists of one length, place by place; nothing where the lengths differ."""
    if len({len(values) for values in lists}) != 1:
        return ()
    return tuple(np.mean(np.array(lists, float), axis=0).tolist())


def attempt(summary: Summary) -> str:
    """What the exploiter did, in words: ``"nnunet training after median"``, or ``"nnU-Net v2 itself"``."""
    after = "" if summary.countermeasure == NO_COUNTERMEASURE else f" after {summary.countermeasure}"
    own = summary.recipe == OWN_RECIPE
    return f"{program_words(summary.victim) if own else f'{summary.recipe} training'}{after}"


def iterations_of(summaries: Iterable[Summary]) -> str:
    """Training steps in words, ``"2,500"`` or ``"500 to 2,500"``; empty where they are not known."""
    counts = [count for s in summaries for count in s.iterations]
    return " to ".join(f"{count:,}" for count in sorted({min(counts), max(counts)})) if counts else ""


def victim_name(summary: Summary, summaries: Sequence[Summary]) -> str:
    """The network, with its recipe where the report has several."""
    several = len({other.recipe for other in summaries}) > 1
    return f"{summary.victim}, {summary.recipe}" if several else summary.victim

# SPDX-License-Identifier: Apache-2.0
"""What the victims of one cell reached together: means over seeds, without the trainings that have no score."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from monai_unlearnable.report.rows import CLEAN, DIVERGED, NO_COUNTERMEASURE, TRAININGS, WORDS, VictimRow

__all__ = ["Cell", "Summary", "summarize"]

Cell = tuple[str, str, str, str]  # data, victim, recipe, countermeasure


@dataclass(frozen=True)
class Summary:
    """Victims that differ by their seed only, as means; all scores in percent.

    Args:
        training: role of what they were trained on.
        data: name of it.
        victim: name of the network.
        recipe: name of the training recipe.
        countermeasure: what was done to the training scans first.
        method: what made the noise.
        epsilon: largest change allowed, in normalized intensity.
        metric: what the score is.
        chance: score of a model that learned nothing.
        finals: final score of each seed that has one.
        statuses: of the seeds that have none: ``"diverged"`` or ``"failed: reason"``.
        interval: lowest and highest final score over seeds; of a single seed, its interval over test cases.
        per_class: mean final score of each class, NaN where a class is absent.
        by_case: mean over seeds of the score of each test case; empty where it is not known.
        peak: mean over seeds of the best score on the way, NaN where there is none.
        selected: mean over seeds of the score that early stopping reaches, None where no seed has one.
        curves: score on the way, one curve a seed.
        extras: means of the other scores.
        psnr: mean over seeds, None where no seed has one; so are ``ssim`` and ``ssim_roi``.
        commands: that run the cell, one a seed.
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
    finals: tuple[float, ...]
    statuses: tuple[str, ...]
    interval: tuple[float, float]
    per_class: tuple[float, ...]
    by_case: tuple[float, ...]
    peak: float
    selected: float | None
    curves: tuple[tuple[float, ...], ...]
    extras: dict[str, float] = field(default_factory=dict)
    psnr: float | None = None
    ssim: float | None = None
    ssim_roi: float | None = None
    commands: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        """Mean final score over the seeds that have one, in percent; NaN where none has."""
        return float(np.mean(self.finals)) if self.finals else math.nan

    @property
    def seeds(self) -> int:
        """How many victims the means are over."""
        return len(self.finals)

    @property
    def done(self) -> bool:
        """Whether any seed has a score."""
        return bool(self.finals)

    @property
    def failure(self) -> str:
        """``"diverged"`` or ``"failed"`` where no seed has a score, otherwise empty."""
        return "" if self.done else _word(self.statuses)

    @property
    def note(self) -> str:
        """How many seeds are left out of the means, in words; empty where none is."""
        return f"{len(self.statuses)} of {self.seeds + len(self.statuses)} {_word(self.statuses)}" * bool(self.statuses)

    @property
    def cell(self) -> Cell:
        """Data, victim, recipe and countermeasure: what identifies the cell."""
        return self.data, self.victim, self.recipe, self.countermeasure

    @property
    def words(self) -> str:
        """The training data in words."""
        return WORDS[CLEAN] if self.training == CLEAN and self.data == CLEAN else self.data


def _word(statuses: Sequence[str]) -> str:
    return "diverged" if all(status == DIVERGED for status in statuses) else "failed"


def summarize(rows: Iterable[VictimRow]) -> list[Summary]:
    """One :class:`Summary` for each cell.

    Args:
        rows: of any number of cells and seeds.

    Returns:
        Ordered by countermeasure (none first), victim and recipe as they come; within these clean, protected, random
        noise.
    """
    cells: dict[Cell, list[VictimRow]] = {}
    for row in rows:
        cells.setdefault((row.data, row.victim, row.recipe, row.countermeasure), []).append(row)
    summaries = [_summary(members) for members in cells.values()]
    orders = [
        list(dict.fromkeys(getattr(s, name) for s in summaries)) for name in ("countermeasure", "victim", "recipe")
    ]
    return sorted(
        summaries,
        key=lambda s: (
            s.countermeasure != NO_COUNTERMEASURE,
            *(order.index(name) for order, name in zip(orders, (s.countermeasure, s.victim, s.recipe), strict=True)),
            TRAININGS.index(s.training),
        ),
    )


def _summary(rows: Sequence[VictimRow]) -> Summary:
    first, done = rows[0], [row for row in rows if row.done]
    finals = tuple(row.score for row in done)
    single = done[0].interval if done else (math.nan, math.nan)
    names = list(dict.fromkeys(name for row in done for name in row.extras))
    return Summary(
        training=first.training,
        data=first.data,
        victim=first.victim,
        recipe=first.recipe,
        countermeasure=first.countermeasure,
        method=first.method,
        epsilon=first.epsilon,
        metric=first.metric,
        chance=first.chance,
        finals=finals,
        statuses=tuple(row.status for row in rows if not row.done),
        interval=(min(finals), max(finals)) if len(done) > 1 else single,
        per_class=_mean_of_lists([row.per_class for row in done]),
        by_case=_mean_of_lists([row.by_case for row in done]),
        peak=_known_mean(row.peak for row in done),
        selected=_mean_or_none(row.selected for row in done),
        curves=tuple(row.curve for row in done),
        extras={name: _known_mean(row.extras.get(name) for row in done) for name in names},
        psnr=_mean_or_none(row.psnr for row in rows),
        ssim=_mean_or_none(row.ssim for row in rows),
        ssim_roi=_mean_or_none(row.ssim_roi for row in rows),
        commands=tuple(row.command for row in rows if row.command),
    )


def _mean_of_lists(lists: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Means of lists of one length, place by place; nothing where the lengths differ."""
    if len({len(values) for values in lists}) != 1:
        return ()
    return tuple(np.mean(np.array(lists, float), axis=0).tolist())


def _known_mean(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _mean_or_none(values: Iterable[float | None]) -> float | None:
    mean = _known_mean(values)
    return mean if math.isfinite(mean) else None

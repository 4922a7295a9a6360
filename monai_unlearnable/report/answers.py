# SPDX-License-Identifier: Apache-2.0
"""The answers that a report begins with: for each pipeline of the exploiter, whether the protection stops it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from monai_unlearnable.metrics.judgement import NOT_STOPPED, POOR, STOPPED, UNKNOWN, WEAKENED
from monai_unlearnable.report.controlled import ControlledSummaries
from monai_unlearnable.report.rows import OWN_RECIPE, PROTECTED
from monai_unlearnable.report.summaries import Summary, attempt
from monai_unlearnable.utils.grouping import distinct

__all__ = ["Answer", "answer", "count_answers"]

NO_ANSWER = "no answer"
WORDS = (NOT_STOPPED, WEAKENED, STOPPED, NO_ANSWER)  # what the owner must know comes first
WHY = {
    UNKNOWN: "there is no score of the same training on the originals to compare with",
    POOR: "even the originals teach too little for a comparison",
}


@dataclass(frozen=True)
class Answer:
    """What became of one pipeline.

    Args:
        word: ``"stopped"``, ``"weakened"``, ``"not stopped"`` or ``"no answer"``.
        pipeline: what the exploiter did, in words.
        figures: scores that the answer rests on, in words.
    """

    word: str
    pipeline: str
    figures: str


def answer(summaries: Sequence[Summary]) -> list[Answer]:
    """An answer for each pipeline on each protected data, those that learn most first.

    Args:
        summaries: those of all settings.
    """
    controlled = ControlledSummaries(summaries)
    several = len(distinct(s.data for s in summaries if s.training == PROTECTED)) > 1
    found = []
    for summary in (s for s in summaries if s.training == PROTECTED):
        judged = controlled.judgement(summary) if summary.done else UNKNOWN
        word = NO_ANSWER if judged in WHY else judged
        left = controlled.fraction(summary) if summary.done else math.nan
        order = (WORDS.index(word), -left if math.isfinite(left) else 0.0)
        figures = _figures(controlled, summary, judged)
        found.append((order, Answer(word, _pipeline(summary, several), figures)))
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def count_answers(answers: Sequence[Answer]) -> str:
    """How many there are of each word: ``"1 not stopped, 3 stopped"``."""
    counts = {word: sum(one.word == word for one in answers) for word in WORDS}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def _pipeline(summary: Summary, several: bool) -> str:
    name = attempt(summary) if summary.recipe == OWN_RECIPE else f"{summary.victim}, {attempt(summary)}"
    return f"{name}, on {summary.data}" if several else name


def _figures(controlled: ControlledSummaries, summary: Summary, judged: str) -> str:
    if not summary.done:
        return f"{summary.note}: {summary.statuses[0]}"
    reached = f"{summary.metric} {summary.score:.1f}{summary.mark}"
    if controlled.judgement(summary, summary.score) != judged:  # the mean says something else than the highest score
        reached += f" (up to {summary.highest:.1f})"
    if judged == UNKNOWN:
        return f"{reached}; {WHY[UNKNOWN]}"
    control, random = controlled.control(summary), controlled.random(summary)
    assert control is not None  # whatever is judged otherwise has one
    noise = "no control with random noise" if random is None else f"random noise {random.score:.1f}{random.mark}"
    why = f"; {WHY[POOR]}" if judged == POOR else ""
    return f"{reached}, originals {control.score:.1f}{control.mark}, {noise}{why}"

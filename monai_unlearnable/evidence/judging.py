# SPDX-License-Identifier: Apache-2.0
"""What a figure claims: whether the exploiter was stopped, and whether a stronger run says otherwise."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

from monai_unlearnable.evidence.entries import PROGRAM, Entry, Overstated, Score
from monai_unlearnable.evidence.words import exploiter_words, recipe_words, size_words, victim_words
from monai_unlearnable.metrics.judgement import SMALL_DROP, STOPPED, UNSTOPPED, fraction_left, judge
from monai_unlearnable.report.rows import NO_COUNTERMEASURE, OWN_RECIPE

__all__ = ["by_strength", "claim", "fraction", "stronger_run", "weight", "with_overstated"]

UNKNOWN_SPREAD = SMALL_DROP / 2  # points by which a score may be off that is known of one training, without interval


def fraction(entry: Entry) -> float:
    """How far the score lies between chance, 0, and the originals, 1; NaN where these were not trained on."""
    return fraction_left(*_compared(entry, entry.score.mean))


def claim(entry: Entry) -> str:
    """What the entry says of the exploiter by the seed that learned most, see
    :func:`~monai_unlearnable.metrics.judgement.judge`."""
    return judge(*_compared(entry, entry.score.highest))


def _compared(entry: Entry, score: float) -> tuple[float, float | None, float]:
    """A score, that of the originals, and chance."""
    return score, None if entry.clean is None else entry.clean.mean, entry.chance


def by_strength(entries: Iterable[Entry]) -> list[Entry]:
    """Entries in the order in which they are shown: newest first, of one day the attack that wins first."""

    def place(entry: Entry) -> tuple[float, ...]:
        left = fraction(entry)
        return (-1.0 if math.isnan(left) else left), entry.score.mean

    return sorted(sorted(entries, key=place, reverse=True), key=lambda entry: entry.date or "", reverse=True)


def stronger_run(entry: Entry, others: Mapping[str, Entry]) -> str | None:
    """The name of the run that refutes an entry: on the same data an exploiter who was not stopped.

    A shorter training of the same exploiter is none. Of several the one of the largest :func:`weight` is taken.

    Args:
        entry: an entry.
        others: entries by name, the entry itself perhaps among them.
    """
    if claim(entry) != STOPPED:
        return None
    found = {name: other for name, other in others.items() if other.data == entry.data and _refutes(other, entry)}
    return max(found, key=lambda name: weight(found[name]), default=None)


def weight(entry: Entry) -> tuple[bool, bool, bool, float]:
    """How much a run that was not stopped counts: more without countermeasure, then if this program can repeat it, then
    as a program of its own, then by what it reached."""
    repeatable = entry.measured_by == PROGRAM and entry.iterations is not None
    return entry.countermeasure == NO_COUNTERMEASURE, repeatable, entry.recipe == OWN_RECIPE, fraction(entry)


def _refutes(other: Entry, entry: Entry) -> bool:
    if other.exploiter == entry.exploiter and (other.iterations or 0) <= (entry.iterations or 0):
        return False
    apart = other.score.mean - entry.score.mean
    return claim(other) in UNSTOPPED and apart > _spread(entry.score) + _spread(other.score)


def _spread(score: Score) -> float:
    """Half of the interval, or else of the range over seeds, in points."""
    if score.interval is None and len(score.by_seed) < 2:
        return UNKNOWN_SPREAD
    low, high = score.interval or (min(score.by_seed), max(score.by_seed))
    return (high - low) / 2


def with_overstated(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """The entries whose mark is another than what all entries say, changed; marks by hand stay as they are."""
    changed = {}
    for name, entry in entries.items():
        if entry.overstated and entry.overstated.by_hand:
            continue
        by = stronger_run(entry, entries)
        mark = None if by is None else Overstated(by=by, remark=_stronger_words(entries[by], entry))
        if mark != entry.overstated:
            changed[name] = dataclasses.replace(entry, overstated=mark)
    return changed


def _stronger_words(other: Entry, entry: Entry) -> str:
    """What a stronger run found, in a sentence, with what tells it from the run that it refutes."""
    recipe = "" if other.recipe == OWN_RECIPE else f" with {recipe_words(other)}"
    after = "" if other.countermeasure == NO_COUNTERMEASURE else f" after `{other.countermeasure}`"
    same, size = exploiter_words(other) == exploiter_words(entry), size_words(other)
    size = f" and an input of {size}" if same and size and size != size_words(entry) else ""
    iterations = f" after {other.iterations:,} iterations" if other.iterations else ""
    clean = f" (originals: {other.clean.mean:.1f})" if other.clean else ""
    return f"{victim_words(other)}{recipe}{size}{after} reaches {other.score.mean:.1f}{iterations}{clean}."

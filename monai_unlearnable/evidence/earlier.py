# SPDX-License-Identifier: Apache-2.0
"""A user's results beside what was measured before: the same exploiters, and those who are known to win."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from monai_unlearnable.evidence.entries import PROGRAM, Entry, parse_epsilon
from monai_unlearnable.evidence.judging import claim, weight
from monai_unlearnable.evidence.tables import ELSEWHERE, MOVING, OVERSTATED, score_words
from monai_unlearnable.evidence.words import (
    dataset_words,
    exploiter_words,
    iterations_words,
    noise_words,
    size_words,
    times,
)
from monai_unlearnable.metrics.judgement import UNSTOPPED
from monai_unlearnable.report.controlled import ControlledSummaries
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import PROTECTED
from monai_unlearnable.report.summaries import Summary
from monai_unlearnable.report.tables import NONE, Table

__all__ = ["Background", "background"]

METHODS = {
    "UMed": "umed",
    "VoxShield": "voxshield",
    "NyquistCarriers": "carrier",
    "SymmetricLattice": "lattice",
    "LinearPatterns": "lsp",
    "AutoregressiveNoise": "ar",
    "ClassConvolution": "cuda",
    "FixedVoxels": "ops",
    "LinearSurrogate": "linear",
    "DeepHiding": "hiding",
    "ClasswiseNoise": "",
    "GradientNoise": "",
}  # the method whose noise a class makes, by the name that manifests have for it; of several nothing is said
CLOSE = 0.25  # of an epsilon: entries further off are no figures of the same noise
NAMED = 3  # exploiters known to win that a report names for each dataset
NOT_TRIED = "not tried"


@dataclass(frozen=True)
class Background:
    """What was measured before of the methods in a report.

    Args:
        pairs: summaries of the report, with the entry of the same method and exploiter.
        winners: exploiters who are not in the report and won against the same methods.
        controlled: the summaries of the report.
    """

    pairs: tuple[tuple[Summary, Entry], ...]
    winners: tuple[Entry, ...]
    controlled: ControlledSummaries

    def sentences(self) -> list[str]:
        """What a terminal says of it: a sentence on the first pair, one on the exploiter who wins most."""
        found = []
        for summary, entry in self.pairs[:1]:
            words = f"{_plain(exploiter_words(entry))}, {_plain(noise_words(entry))}{_after(entry)}"
            found.append(
                f"Measured before on {dataset_words(entry)} ({words}): {_left(entry)}; yours: {self._left(summary)}."
            )
            if entry.overstated:
                found.append(f"A stronger run found more: {_plain(entry.overstated.remark)}")
        for entry in self.winners[:1]:
            words = f"{dataset_words(entry)}, {_plain(noise_words(entry))}{_after(entry)}"
            found.append(
                f"Known to win, and not in your matrix: {_plain(exploiter_words(entry))}: {_left(entry)} ({words})."
            )
        return found

    def table(self) -> Table:
        """Rows for the page of a report; none where nothing was measured before."""
        rows = [
            (_plain(exploiter_words(entry)), self._left(summary), *_details(entry)) for summary, entry in self.pairs
        ]
        rows += [(_plain(exploiter_words(entry)), NOT_TRIED, *_details(entry)) for entry in self.winners]
        columns = ("The exploiter", "Here", "Measured before", "Originals", "Protected by", "On", "Input", "Iterations")
        shown = [*(entry for _, entry in self.pairs), *self.winners]
        return Table("What was measured before", (*columns, "By"), rows, caption=" ".join(_signs(shown)))

    def _left(self, summary: Summary) -> str:
        control = self.controlled.control(summary)
        return f"{summary.score:.1f}" + (f" of {control.score:.1f}" if control else "")


def background(results: Results, entries: Mapping[str, Entry]) -> Background:
    """What the evidence has on the protected data of a report.

    An entry belongs to a summary if it is of the same method with its default settings, epsilon the nearest that was
    measured and no more than a quarter off, and recipe and countermeasure are the same; the same network and dataset
    are preferred, then the same size of the input, then the nearest length.

    Args:
        results: results of a laboratory.
        entries: entries by name.
    """
    controlled = ControlledSummaries(results.summaries())
    protected = [s for s in controlled.summaries if s.training == PROTECTED and s.done]
    tried = {(s.victim, s.recipe, s.countermeasure) for s in protected}
    pairs, winners = [], {}
    for summary in protected:
        known = _of_data(summary, entries.values())
        same = [e for e in known if (e.recipe, e.countermeasure) == (summary.recipe, summary.countermeasure)]
        if same:
            pairs.append((summary, max(same, key=lambda entry: _nearness(entry, summary, results))))
        others = [e for e in known if (e.victim, e.recipe, e.countermeasure) not in tried and claim(e) in UNSTOPPED]
        for entry in sorted(others, key=weight, reverse=True)[:NAMED]:
            winners[entry.key] = entry
    best = sorted(winners.values(), key=weight, reverse=True)
    return Background(tuple(pairs), tuple(best), controlled)


def _of_data(summary: Summary, entries: Iterable[Entry]) -> Sequence[Entry]:
    """Entries of the method, at the epsilon that is nearest to the summary's."""
    method, epsilon = METHODS.get(summary.method, summary.method), summary.epsilon
    found = [e for e in entries if e.method == method and e.metric == summary.metric and not e.settings]
    if epsilon is None:
        return []  # nobody knows whether it is the same noise

    def distance(entry: Entry) -> float:
        return round(abs((parse_epsilon(entry.epsilon) or 0.0) - epsilon), 6)

    nearest = min(map(distance, found), default=0.0)
    return [entry for entry in found if distance(entry) == nearest <= CLOSE * epsilon]


def _nearness(entry: Entry, summary: Summary, results: Results) -> tuple[bool, bool, bool, float]:
    apart = abs((entry.iterations or 0) - int(results.settings.get("iterations") or 0))
    size = times(results.settings.get("size"))
    return entry.victim == summary.victim, entry.dataset == results.dataset, size_words(entry) == size, -apart


def _left(entry: Entry) -> str:
    return f"{entry.score.mean:.1f}" + (f" of {entry.clean.mean:.1f}" if entry.clean else "")


def _after(entry: Entry) -> str:
    """The length in words."""
    iterations = iterations_words(entry)
    return f", {iterations} iterations" if iterations else ""


def _details(entry: Entry) -> tuple[str, ...]:
    """Texts of a row after what the exploiter reaches here."""
    clean = f"{entry.clean.mean:.1f}" if entry.clean else NONE
    noise, size = _plain(noise_words(entry)), size_words(entry) or NONE
    length = iterations_words(entry) or NONE
    return _plain(score_words(entry)), clean, noise, dataset_words(entry), size, length, entry.measured_by


def _signs(entries: Sequence[Entry]) -> Iterator[str]:
    """What the signs beside scores mean."""
    if any(entry.overstated for entry in entries):
        yield f"{OVERSTATED} overstated, since a stronger run found more."
    if any(entry.measured_by != PROGRAM for entry in entries):
        yield f"{ELSEWHERE} not measured by this program."
    if any(entry.moving for entry in entries):
        yield f"{MOVING} still moved at the end of training."


def _plain(text: str) -> str:
    """Markdown without its marks of code and of bold letters."""
    return text.replace("`", "").replace("**", "")

# SPDX-License-Identifier: Apache-2.0
"""A user's results beside what was measured before: the same exploiters, and those who are known to win."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from monai_unlearnable.evidence.entries import PROGRAM, Entry, parse_epsilon
from monai_unlearnable.evidence.judging import claim, weight
from monai_unlearnable.evidence.words import dataset_words, exploiter_words, noise_words
from monai_unlearnable.metrics.judgement import UNSTOPPED
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import PROTECTED
from monai_unlearnable.report.summaries import Matrix, Summary
from monai_unlearnable.report.tables import Table

__all__ = ["Background", "background"]

METHODS = {
    "UMed": ("umed",),
    "VoxShield": ("voxshield",),
    "SymmetricLattice": ("lattice",),
    "LinearPatterns": ("lsp",),
    "AutoregressiveNoise": ("ar",),
    "ClassConvolution": ("cuda",),
    "FixedVoxels": ("ops",),
    "LinearSurrogate": ("linear",),
    "ClasswiseNoise": ("foresight", "error_minimizing_class"),
    "GradientNoise": ("error_minimizing", "error_maximizing", "salm"),
}  # methods whose noise a class makes, by the name that manifests have for it
NAMED = 3  # exploiters known to win that a report names for each dataset
NOT_TRIED = "not tried"


@dataclass(frozen=True)
class Background:
    """What was measured before of the methods in a report.

    Args:
        pairs: summaries of the report, with the entry of the same method and exploiter.
        winners: exploiters who are not in the report and won against the same methods.
        matrix: the report's summaries.
    """

    pairs: tuple[tuple[Summary, Entry], ...]
    winners: tuple[Entry, ...]
    matrix: Matrix

    def sentences(self) -> list[str]:
        """What a terminal says of it: a sentence on the first pair, one on the exploiter who wins most."""
        found = []
        for summary, entry in self.pairs[:1]:
            words = f"{_plain(exploiter_words(entry))}, {_plain(noise_words(entry))}"
            found.append(
                f"Measured before on {dataset_words(entry)} ({words}): {_left(entry)}; yours: {self._left(summary)}."
            )
        for entry in self.winners[:1]:
            words = f"{_plain(exploiter_words(entry))}: {_left(entry)}"
            found.append(
                f"Known to win, and not in your matrix: {words} ({dataset_words(entry)}, {_plain(noise_words(entry))})."
            )
        return found

    def table(self) -> Table:
        """Rows for the page of a report; none where nothing was measured before."""
        rows = [
            (_plain(exploiter_words(entry)), self._left(summary), _left(entry), *_details(entry))
            for summary, entry in self.pairs
        ]
        rows += [(_plain(exploiter_words(entry)), NOT_TRIED, _left(entry), *_details(entry)) for entry in self.winners]
        columns = ("The exploiter", "Here", "Measured before", "Protected by", "On", "Iterations", "By")
        return Table("What was measured before", columns, rows)

    def _left(self, summary: Summary) -> str:
        control = self.matrix.control(summary)
        return f"{summary.score:.1f}" + (f" of {control.score:.1f}" if control else "")


def background(results: Results, entries: Mapping[str, Entry]) -> Background:
    """What the evidence has on the protected data of a report.

    An entry belongs to a summary if the method is the same, epsilon the nearest that was measured, and recipe and
    countermeasure are the same; the same network and dataset are preferred, then the nearest length.

    Args:
        results: results of a laboratory.
        entries: entries by name.
    """
    matrix = Matrix(results.summaries())
    protected = [s for s in matrix.summaries if s.training == PROTECTED and s.done]
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
    return Background(tuple(pairs), tuple(best), matrix)


def _of_data(summary: Summary, entries: Iterable[Entry]) -> Sequence[Entry]:
    """Entries of the method, at the epsilon that is nearest to the summary's."""
    names = METHODS.get(summary.method, (summary.method, summary.method.split()[0]))
    found = [e for e in entries if e.method in names and e.metric == summary.metric and parse_epsilon(e.epsilon)]
    if summary.epsilon is None or not found:
        return found

    def distance(entry: Entry) -> float:
        return round(abs((parse_epsilon(entry.epsilon) or 0.0) - (summary.epsilon or 0.0)), 6)

    nearest = min(map(distance, found))
    return [entry for entry in found if distance(entry) == nearest]


def _nearness(entry: Entry, summary: Summary, results: Results) -> tuple[bool, bool, bool, float]:
    apart = abs((entry.iterations or 0) - int(results.settings.get("iterations") or 0))
    return entry.victim == summary.victim, entry.dataset == results.dataset, not entry.settings, -apart


def _left(entry: Entry) -> str:
    return f"{entry.score.mean:.1f}" + (f" of {entry.clean.mean:.1f}" if entry.clean else "")


def _details(entry: Entry) -> tuple[str, str, str, str]:
    iterations = f"{entry.iterations:,}" if entry.iterations else ""
    by = "this program" if entry.measured_by == PROGRAM else entry.measured_by
    return _plain(noise_words(entry)), dataset_words(entry), iterations, by


def _plain(text: str) -> str:
    """Markdown without its marks of code."""
    return text.replace("`", "")

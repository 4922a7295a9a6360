# SPDX-License-Identifier: Apache-2.0
"""Two reports side by side: what differs in the cells that both have."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.console import Group
from rich.table import Table
from rich.text import Text

from monai_unlearnable.report.columns import format_interval, format_number, format_p, format_score, heading
from monai_unlearnable.report.matrix import UNTESTED, difference_test, distinct
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import NO_COUNTERMEASURE
from monai_unlearnable.report.summaries import Cell, Summary
from monai_unlearnable.report.table import text_table

__all__ = ["COLUMNS", "Comparison", "Pair", "compare", "comparison_table", "cell_name"]

COLUMNS = ("Victim", "Recipe", "Trained on", "First", "Second", "Difference", "95% interval", "p", "Seeds")
WORDS = 3  # leading columns that hold words
LISTED = 8  # cells of one report that the terminal names


@dataclass(frozen=True)
class Pair:
    """One cell in two reports.

    Args:
        first: what the first report says.
        second: what the second says.
        interval: 95% interval over test cases of the difference, second minus first, in points; NaN where the cells
            do not name the same number of test cases.
        p_value: of the paired test; NaN likewise.
    """

    first: Summary
    second: Summary
    interval: tuple[float, float]
    p_value: float

    @property
    def difference(self) -> float:
        """Second minus first in points; NaN where either has no score."""
        return self.second.score - self.first.score

    def cells(self) -> tuple[str, ...]:
        """Text in the order of :data:`COLUMNS`."""
        return (
            self.first.victim,
            self.first.recipe,
            self.first.words,
            format_score(self.first),
            format_score(self.second),
            format_number(self.difference, "+.1f"),
            format_interval(self.interval, "+.1f"),
            format_p(self.p_value),
            f"{self.first.seeds} / {self.second.seeds}",
        )


@dataclass(frozen=True)
class Comparison:
    """Two reports.

    Args:
        first: one.
        second: the other.
        pairs: cells that both have.
        only_first: cells that only the first has.
        only_second: cells that only the second has.
    """

    first: Results
    second: Results
    pairs: tuple[Pair, ...]
    only_first: tuple[Cell, ...]
    only_second: tuple[Cell, ...]

    @property
    def countermeasures(self) -> list[str]:
        """Of the cells that both have."""
        return distinct(pair.first.countermeasure for pair in self.pairs)

    def remarks(self) -> list[str]:
        """What makes the reports hard to compare, and how far they differ, a sentence each."""
        known = [pair for pair in self.pairs if math.isfinite(pair.difference)]
        notes = []
        if self.first.dataset != self.second.dataset:
            notes.append(
                f"The datasets differ ({self.first.dataset}, {self.second.dataset}): differences are not those of the "
                "methods alone, and there are no paired tests."
            )
        if self.pairs and self.first.metric != self.second.metric:
            notes.append(f"The scores differ in kind: {self.first.metric} and {self.second.metric}.")
        if known:
            largest = max(known, key=lambda pair: abs(pair.difference))
            place = f"{largest.first.victim}, {largest.first.recipe}, {largest.first.words}"
            extra = largest.first.countermeasure
            place += "" if extra == NO_COUNTERMEASURE else f", {extra}"
            notes.append(
                f"{len(known)} cells have a score in both; the largest difference is {largest.difference:+.1f} points "
                f"({place}: {largest.first.score:.1f} and {largest.second.score:.1f})."
            )
        else:
            notes.append("No cell has a score in both.")
        return notes


def compare(first: Results, second: Results) -> Comparison:
    """Match the cells of two reports by data, victim, recipe and countermeasure.

    Args:
        first: one report.
        second: another; paired tests take its test cases for those of the first where dataset and number are the same.
    """
    one, other = ({s.cell: s for s in results.summaries()} for results in (first, second))
    paired = first.dataset == second.dataset and first.metric == second.metric
    pairs = []
    for cell in one:
        if cell in other:
            test = difference_test(one[cell], other[cell]) if paired else UNTESTED
            pairs.append(Pair(one[cell], other[cell], test.interval, test.p_value))
    only_first, only_second = tuple(c for c in one if c not in other), tuple(c for c in other if c not in one)
    return Comparison(first, second, tuple(pairs), only_first, only_second)


def cell_name(cell: Cell) -> str:
    """A cell in words."""
    data, victim, recipe, countermeasure = cell
    return f"{victim}, {recipe}, {data}{'' if countermeasure == NO_COUNTERMEASURE else f', {countermeasure}'}"


def comparison_table(first: Results, second: Results) -> Group:
    """Two reports for the terminal: a table for each countermeasure, then the cells that only one has.

    Args:
        first: one report.
        second: another.
    """
    found = compare(first, second)
    parts: list[Table | Text] = [Text(f"first: {first.title}; second: {second.title}", style="italic")]
    for countermeasure in found.countermeasures:
        rows = [pair.cells() for pair in found.pairs if pair.first.countermeasure == countermeasure]
        parts.append(text_table(COLUMNS, rows, WORDS, title=heading(countermeasure)))
    for which, cells in (("first", found.only_first), ("second", found.only_second)):
        if cells:
            more = f"; and {len(cells) - LISTED} more" if len(cells) > LISTED else ""
            parts.append(Text(f"only in the {which}: {'; '.join(map(cell_name, cells[:LISTED]))}{more}"))
    return Group(*parts, *map(Text, found.remarks()))

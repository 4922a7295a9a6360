# SPDX-License-Identifier: Apache-2.0
"""Two reports side by side: the differences in the settings that both have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group
from rich.text import Text

from monai_unlearnable.metrics.statistics import PairedTest
from monai_unlearnable.report.controlled import UNTESTED, difference_test
from monai_unlearnable.report.fidelity import figure_name, format_figure
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import CLEAN, NO_COUNTERMEASURE
from monai_unlearnable.report.summaries import MOVING_WORDS, Setting, Summary, iterations_of
from monai_unlearnable.report.tables import (
    NONE,
    Table,
    format_interval,
    format_number,
    format_p,
    format_score,
    heading,
    tested_score,
)
from monai_unlearnable.utils.grouping import distinct, grouped

__all__ = ["Comparison", "Pair", "compare", "comparison_table"]
__all__ += ["figures_table", "frontiers_table", "pair_table", "setting_name"]

LISTED = 8  # settings of one report that the terminal names


@dataclass(frozen=True)
class Pair:
    """One setting in two reports.

    Args:
        first: summary in the first report.
        second: summary in the second report.
        test: paired test over test cases, second minus first in points; NaN where they do not name the same number of
            test cases.
    """

    first: Summary
    second: Summary
    test: PairedTest

    @property
    def difference(self) -> float:
        """Second minus first in points; NaN where either has no score."""
        return self.second.score - self.first.score


@dataclass(frozen=True)
class Comparison:
    """Two reports.

    Args:
        first: one report.
        second: the other report.
        pairs: settings that both have.
        only_first: settings that only the first has.
        only_second: settings that only the second has.
    """

    first: Results
    second: Results
    pairs: tuple[Pair, ...]
    only_first: tuple[Setting, ...]
    only_second: tuple[Setting, ...]

    def groups(self) -> dict[str, list[Pair]]:
        """Pairs by their countermeasure."""
        return grouped(self.pairs, lambda pair: pair.first.countermeasure)

    def remarks(self) -> list[str]:
        """The reasons why the reports are hard to compare, and how far they differ, a sentence each."""
        first, second, notes = self.first, self.second, []
        if first.dataset != second.dataset:
            notes.append(
                f"The datasets differ ({first.dataset}, {second.dataset}): differences are not those of the methods "
                "alone, and there are no paired tests."
            )
        if self.pairs and first.metric != second.metric:
            notes.append(f"The scores differ in kind: {first.metric} and {second.metric}.")
        known = [pair for pair in self.pairs if math.isfinite(pair.difference)]
        if not known:
            return [*notes, "No setting has a score in both."]
        lengths = [iterations_of(getattr(pair, side) for pair in known) for side in ("first", "second")]
        if all(lengths) and lengths[0] != lengths[1]:
            notes.append("Trainings differ in length: {} and {} iterations.".format(*lengths))
        largest = max(known, key=lambda pair: abs(pair.difference))
        where = f"{setting_name(largest.first.setting)}: {largest.first.score:.1f} and {largest.second.score:.1f}"
        found = f"the largest difference is {largest.difference:+.1f} points ({where})"
        return [*notes, f"{len(known)} settings have a score in both; {found}."]


def compare(first: Results, second: Results) -> Comparison:
    """Match the settings of two reports: data, victim, recipe and countermeasure.

    Paired tests take the test cases of both to be the same where dataset and number are.
    """
    one, other = ({s.setting: s for s in results.summaries()} for results in (first, second))
    paired = first.dataset == second.dataset and first.metric == second.metric
    pairs = [
        Pair(one[setting], other[setting], difference_test(one[setting], other[setting]) if paired else UNTESTED)
        for setting in one
        if setting in other
    ]
    only_first, only_second = tuple(s for s in one if s not in other), tuple(s for s in other if s not in one)
    return Comparison(first, second, tuple(pairs), only_first, only_second)


def setting_name(setting: Setting) -> str:
    """A setting in words."""
    data, victim, recipe, countermeasure = setting
    names = [victim, recipe, "originals" if data == CLEAN else data]
    return ", ".join(names if countermeasure == NO_COUNTERMEASURE else [*names, countermeasure])


def pair_table(countermeasure: str, pairs: Sequence[Pair]) -> Table:
    """Both scores of each pair, and their difference."""
    other = tested_score(pair.first for pair in pairs)
    differences = ("Difference", *([f"In {other}"] if other else []))
    figures = ("First", "Second", *differences, "95% interval", "p", "Iterations", "Seeds")
    rows = [
        (
            pair.first.victim,
            pair.first.recipe,
            pair.first.words,
            format_score(pair.first),
            format_score(pair.second),
            format_number(pair.difference, "+.1f"),
            *([format_number(pair.test.difference, "+.1f")] if other else []),
            format_interval(pair.test.interval, "+.1f"),
            format_p(pair.test.p_value),
            " / ".join(distinct(iterations_of([one]) or NONE for one in (pair.first, pair.second))),
            f"{pair.first.seeds} / {pair.second.seeds}",
        )
        for pair in pairs
    ]
    caption = MOVING_WORDS if any(one.mark for pair in pairs for one in (pair.first, pair.second)) else ""
    return Table(heading(countermeasure), ("Victim", "Recipe", "Trained on", *figures), rows, 3, caption=caption)


def frontiers_table(first: Results, second: Results) -> Table:
    """P50 of each method, victim and recipe in both reports."""
    one, other = (
        {(line.method, line.victim, line.recipe): line.words for line in results.frontier()}
        for results in (first, second)
    )
    rows = [(*key, one.get(key, NONE), other.get(key, NONE)) for key in dict.fromkeys((*one, *other))]
    return Table("Frontiers", ("Method", "Victim", "Recipe", "P50, first", "P50, second"), rows, 3)


def figures_table(first: Results, second: Results) -> Table:
    """Fidelity in both reports."""
    rows = []
    for data in distinct((*first.figures, *second.figures)):
        one, other = first.figures.get(data, {}), second.figures.get(data, {})
        for name in distinct((*one, *other)):
            values = (format_figure(name, figures.get(name, math.nan)) for figures in (one, other))
            rows.append((data, figure_name(name), *values))
    return Table("Fidelity", ("Data", "Figure", "First", "Second"), rows, 2)


def comparison_table(first: Results, second: Results) -> Group:
    """Two reports for the terminal: a table for each countermeasure, then the settings that only one has."""
    found = compare(first, second)
    tables = [pair_table(name, pairs) for name, pairs in found.groups().items()]
    lines = []
    for which, settings in (("first", found.only_first), ("second", found.only_second)):
        if settings:
            more = f"; and {len(settings) - LISTED} more" if len(settings) > LISTED else ""
            lines.append(f"only in the {which}: {'; '.join(map(setting_name, settings[:LISTED]))}{more}")
    title = Text(f"first: {first.title}; second: {second.title}", style="italic")
    return Group(title, *tables, *map(Text, [*lines, *found.remarks()]))

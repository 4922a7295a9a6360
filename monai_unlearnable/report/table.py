# SPDX-License-Identifier: Apache-2.0
"""Tables for the terminal: the matrix, and the frontier in figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from monai_unlearnable.report import versus
from monai_unlearnable.report.columns import NONE, WORDS, Section, format_number, heading, sections
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import CLEAN, PROTECTED, RANDOM
from monai_unlearnable.report.tags import LONG

__all__ = ["victim_table", "frontier_table", "text_table"]

STYLES = {CLEAN: "green", PROTECTED: "bold yellow", RANDOM: "cyan"}


def victim_table(results: Results) -> Group:
    """The matrix for the terminal: training data by victim, means over seeds, a table for each countermeasure.

    Where there are several protected data, a table of the paired tests between them follows, unless it is long.

    Args:
        results: scores are in percent on clean held-out scans; p is that of the paired test against the clean control.
    """
    parts = sections(results, brief=True)
    tables: list[Table | Text] = [Text(results.title, style="italic")]
    for part in parts:
        tables += [Text(heading(part.countermeasure))] * (len(parts) > 1) + [_section(part, results.metric)]
    pairs = versus.rows(results)
    if 0 < len(pairs) <= LONG:
        about = "first method less the other, in points; paired tests over test cases"
        tables.append(text_table(versus.COLUMNS, pairs, versus.WORDS, caption=about))
    return Group(*tables)


def text_table(
    names: Sequence[str],
    rows: Iterable[Sequence[str]],
    words: int,
    title: str | None = None,
    caption: str | None = None,
) -> Table:
    """A table of plain text.

    Args:
        names: of the columns.
        rows: as many cells as names.
        words: number of leading columns that hold words, not figures.
        title: above it.
        caption: below it; may hold rich's markup.
    """
    table = Table(title=None if title is None else Text(title), caption=caption)
    for column, name in enumerate(names):
        table.add_column(name, justify="left" if column < words else "right")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _section(section: Section, metric: str) -> Table:
    table = Table(caption=f"{metric} on clean held-out scans, in percent")
    for column, name in enumerate(section.columns):
        left = column < WORDS
        table.add_column(name, justify="left" if left else "right", no_wrap=left)
    previous = None
    for summary, cells in section.rows:
        if previous not in (None, cells[0]):
            table.add_section()
        shown = ("" if cells[0] == previous else cells[0], *cells[1:])
        table.add_row(*map(Text, shown), style=STYLES[summary.training])
        previous = cells[0]
    return table


def frontier_table(results: Results) -> Table:
    """P50 of each method, victim and recipe for the terminal.

    Args:
        results: as many points as training data with noise; scores are in percent.
    """
    names = ("Method", "Victim", "Recipe", "P50", "Chance", "Clean control", "Points", f"{results.metric} at PSNR (dB)")
    rows = []
    for line in results.frontier():
        points = ", ".join(f"{point.score:.1f} at {format_number(point.psnr, '.1f')}" for point in line.points)
        figures = (f"{line.chance:.1f}", format_number(line.clean, ".1f"), str(len(line.points)), points or NONE)
        rows.append((line.method, line.victim, line.recipe, line.words, *figures))
    return text_table(names, rows, 3, caption="P50: highest PSNR at which half of the usual score is lost")

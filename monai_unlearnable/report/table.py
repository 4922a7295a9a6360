# SPDX-License-Identifier: Apache-2.0
"""Tables for the terminal: the matrix, and the frontier in figures."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from monai_unlearnable.report.columns import NONE, WORDS, Section, format_number, heading, sections
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import CLEAN, PROTECTED, RANDOM

__all__ = ["victim_table", "frontier_table"]

STYLES = {CLEAN: "green", PROTECTED: "bold yellow", RANDOM: "cyan"}


def victim_table(results: Results) -> Group:
    """The matrix for the terminal: training data by victim, means over seeds, a table for each countermeasure.

    Args:
        results: scores are in percent on clean held-out scans; p is that of the paired test against the clean control.
    """
    parts = sections(results, brief=True)
    title = Text(results.title, style="italic")
    if len(parts) < 2:
        return Group(title, *(_section(part, results.metric) for part in parts))
    tables = [table for part in parts for table in (Text(heading(part.countermeasure)), _section(part, results.metric))]
    return Group(title, *tables)


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
    table = Table(caption="P50: highest PSNR at which half of the usual score is lost")
    names = ("Method", "Victim", "Recipe", "P50", "Chance", "Clean control", "Points", f"{results.metric} at PSNR (dB)")
    for column, name in enumerate(names):
        table.add_column(name, justify="left" if column < 3 else "right")
    for line in results.frontier():
        points = ", ".join(f"{point.score:.1f} at {format_number(point.psnr, '.1f')}" for point in line.points)
        figures = (f"{line.chance:.1f}", format_number(line.clean, ".1f"), str(len(line.points)), points or NONE)
        table.add_row(*map(Text, (line.method, line.victim, line.recipe, line.words, *figures)))
    return table

# SPDX-License-Identifier: Apache-2.0
"""The table of victims, as text cells and for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import CLEAN, PROTECTED, RANDOM, WORDS, Summary

__all__ = ["COLUMNS", "victim_cells", "victim_table", "victim_name"]

COLUMNS = ("Victim", "Trained on", "Final Dice", "Interval", "Peak", "Per class", "PSNR (dB)", "SSIM", "Seeds")
STYLES = {CLEAN: "green", PROTECTED: "bold yellow", RANDOM: "cyan"}
NONE = "–"


def victim_name(summary: Summary, summaries: Sequence[Summary]) -> str:
    """The network, with its recipe where the report has several."""
    several = len({other.recipe for other in summaries}) > 1
    return f"{summary.victim}, {summary.recipe}" if several else summary.victim


def victim_cells(results: Results) -> list[tuple[Summary, tuple[str, ...]]]:
    """Each summary with the text of its row, in the order of :data:`COLUMNS`; Dice in percent."""
    summaries = results.summaries()
    return [(summary, (victim_name(summary, summaries), *_cells(summary))) for summary in summaries]


def victim_table(results: Results) -> Table:
    """A table for the terminal: training data by victim, means over seeds; Dice in percent on clean held-out scans."""
    table = Table(title=Text(results.title), caption="Dice on clean held-out scans, in percent")
    for name in COLUMNS:
        left = name in COLUMNS[:2]
        table.add_column(name, justify="left" if left else "right", no_wrap=left)
    previous = None
    for summary, cells in victim_cells(results):
        if previous not in (None, cells[0]):
            table.add_section()
        shown = ("" if cells[0] == previous else cells[0], *cells[1:])
        table.add_row(*map(Text, shown), style=STYLES[summary.training])
        previous = cells[0]
    return table


def _cells(summary: Summary) -> tuple[str, ...]:
    low, high = summary.interval
    return (
        WORDS[summary.training],
        _format(summary.dice, ".1f"),
        f"{_format(low, '.1f')} to {_format(high, '.1f')}",
        _format(summary.peak, ".1f"),
        " / ".join(_format(value, ".1f") for value in summary.per_class) or NONE,
        _format(summary.psnr, ".1f"),
        _format(summary.ssim, ".4f"),
        str(summary.seeds),
    )


def _format(value: float | None, spec: str) -> str:
    return NONE if value is None or math.isnan(value) else format(value, spec)

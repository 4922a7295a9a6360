# SPDX-License-Identifier: Apache-2.0
"""Two reports side by side as one page with the look of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from monai_unlearnable import __version__
from monai_unlearnable.report.columns import NONE, heading
from monai_unlearnable.report.compare import COLUMNS, WORDS, Comparison, Pair, cell_name, compare
from monai_unlearnable.report.fidelity import figure_name, write_figure
from monai_unlearnable.report.page import PAGE
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.summaries import Cell
from monai_unlearnable.report.tags import LONG, NOTHING, details, note, section, text_table
from monai_unlearnable.utils.files import write_atomic

__all__ = ["compare_page", "write_comparison"]


def compare_page(first: Results, second: Results) -> str:
    """The page as HTML: no scripts, nothing loaded from elsewhere.

    Args:
        first: one report.
        second: another.
    """
    found = compare(first, second)
    verdicts = "".join(
        f"<dt>{escape(which)}: {escape(results.title)}</dt><dd>{escape(results.verdict())}</dd>"
        for which, results in (("First", first), ("Second", second))
    )
    parts = (
        section("What each report says", f"<dl>{verdicts}</dl>"),
        section("Cells that both have", _pairs(found)),
        section("Frontiers", _frontiers(first, second)),
        section("Fidelity", _figures(first, second)),
        section("Only in the first", _names(found.only_first)),
        section("Only in the second", _names(found.only_second)),
    )
    return PAGE.substitute(
        title=escape(f"{first.title} and {second.title}"),
        meta=escape(f"First: {first.method} on {first.dataset}. Second: {second.method} on {second.dataset}."),
        lead=f'<p class="verdict">{escape(" ".join(found.remarks()))}</p>',
        content="\n".join(part for part in parts if part),
        source="two reports",
        version=escape(__version__),
    )


def _pairs(found: Comparison) -> str:
    groups = {
        countermeasure: [pair for pair in found.pairs if pair.first.countermeasure == countermeasure]
        for countermeasure in found.countermeasures
    }
    if not groups:
        return NOTHING
    explained = note(
        "Scores in percent on clean held-out scans, means over seeds; difference is second minus first, in points. "
        "Interval and p are those of the paired test over test cases, which supposes that both reports have the same "
        "ones in the same order; p is not corrected for the number of cells."
    )
    if len(groups) == 1:
        return _table(*groups.items()) + explained
    unfolded = len(found.pairs) <= LONG
    blocks = [
        details(heading(name) + _range(pairs), _table((name, pairs)), unfolded or not place)
        for place, (name, pairs) in enumerate(groups.items())
    ]
    return "".join(blocks) + explained


def _table(group: tuple[str, Sequence[Pair]]) -> str:
    name, pairs = group
    return text_table(heading(name), COLUMNS, [pair.cells() for pair in pairs], WORDS)


def _range(pairs: Sequence[Pair]) -> str:
    known = [pair.difference for pair in pairs if math.isfinite(pair.difference)]
    return f" (differences {min(known):+.1f} to {max(known):+.1f})" if known else ""


def _frontiers(first: Results, second: Results) -> str:
    one, other = (
        {(line.method, line.victim, line.recipe): line.words for line in results.frontier()}
        for results in (first, second)
    )
    keys = dict.fromkeys((*one, *other))
    rows = [(*key, one.get(key, NONE), other.get(key, NONE)) for key in keys]
    return text_table("Frontiers", ("Method", "Victim", "Recipe", "P50, first", "P50, second"), rows, 3)


def _figures(first: Results, second: Results) -> str:
    rows = []
    for data in dict.fromkeys((*first.figures, *second.figures)):
        values = [results.figures.get(data, {}) for results in (first, second)]
        for name in dict.fromkeys((*values[0], *values[1])):
            rows.append((data, figure_name(name), *(write_figure(name, found.get(name, math.nan)) for found in values)))
    shown = text_table("Fidelity", ("Data", "Figure", "First", "Second"), rows, 2)
    return shown if len(rows) <= LONG else details(f"{len(rows)} figures", shown)


def _names(cells: Sequence[Cell]) -> str:
    return f"<ul>{''.join(f'<li>{escape(cell_name(cell))}</li>' for cell in cells)}</ul>" if cells else ""


def write_comparison(first: Results, second: Results, path: str | Path) -> None:
    """Write the page of two reports, atomically.

    Args:
        first: one report.
        second: another.
        path: of the HTML file.

    Raises:
        OutputError: naming the file, when it cannot be written.
    """
    write_atomic(Path(path), compare_page(first, second).encode())

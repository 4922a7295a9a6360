# SPDX-License-Identifier: Apache-2.0
"""The matrix and the frontier as tables of the page, and the command of each cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import groupby

from monai_unlearnable.report.columns import (
    NONE,
    WORDS,
    Section,
    capital,
    format_number,
    heading,
    sections,
    victim_name,
)
from monai_unlearnable.report.frontier import FrontierLine
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import PROTECTED
from monai_unlearnable.report.summaries import Summary
from monai_unlearnable.report.tags import LONG, NOTHING, details, head, note, table, text_table

__all__ = ["commands", "frontier", "kind", "victims"]

EXPLAIN = {
    "Dice": "100 is perfect overlap with the expert's label",
    "balanced accuracy": "the mean fraction of right answers over the classes",
}
SELECTED = "Selected is what early stopping on held-out cases of the training data keeps."
TESTED = (
    "p is that of the paired test over test cases against the same network and recipe trained on originals, not "
    "corrected for the number of cells."
)


def kind(training: str) -> str:
    """Class of what belongs to a kind of training data."""
    return training.split()[0]


def victims(results: Results) -> str:
    """The matrix: one table for each countermeasure, long ones folded."""
    parts = sections(results)
    if not parts:
        return NOTHING
    if len(parts) == 1 and len(parts[0].rows) <= LONG:
        return _section(parts[0]) + _failures(parts[0]) + _explain(results)
    unfolded = sum(len(part.rows) for part in parts) <= LONG
    blocks = [
        details(
            f"{heading(part.countermeasure)}{_range(part)}", _section(part) + _failures(part), unfolded or not place
        )
        for place, part in enumerate(parts)
    ]
    return "".join(blocks) + _explain(results)


def _section(part: Section) -> str:
    body = []
    for name, members in groupby(part.rows, key=lambda row: row[1][0]):
        rows = list(members)
        for place, (summary, (_, training, *cells)) in enumerate(rows):
            victim = f'<th scope="rowgroup" rowspan="{len(rows)}">{escape(name)}</th>' if not place else ""
            first = f'<td class="words {kind(summary.training)}">{escape(training)}</td>'
            others = "".join(f"<td{_look(summary, cell)}>{escape(cell)}</td>" for cell in cells)
            body.append(f"<tr{'' if place else ' class=first'}>{victim}{first}{others}</tr>")
    return table(heading(part.countermeasure), head(part.columns, WORDS), body, "victims")


def _look(summary: Summary, cell: str) -> str:
    return ' class="failed"' if summary.failure and cell == summary.failure else ""


def _range(part: Section) -> str:
    scores = [s.score for s, _ in part.rows if s.training == PROTECTED and s.done]
    failed = sum(not s.done for s, _ in part.rows)
    notes = [f"protected {min(scores):.1f} to {max(scores):.1f}"] * bool(scores) + [f"{failed} without score"] * (
        failed > 0
    )
    return f" ({', '.join(notes)})" if notes else ""


def _failures(part: Section) -> str:
    """Reasons of trainings without a score."""
    reasons = [
        f"<li>{escape(f'{cells[0]}, {s.words}: {status}')}</li>"
        for s, cells in part.rows
        for status in dict.fromkeys(s.statuses)
    ]
    return f'<ul class="note">{"".join(reasons)}</ul>' if reasons else ""


def _explain(results: Results) -> str:
    rows, chances = results.rows, {row.chance for row in results.rows}
    meaning = f": {EXPLAIN[results.metric]}" if results.metric in EXPLAIN else ""
    chance = f", and {chances.pop():.0f} is chance" if len(chances) == 1 else ""
    sentences = (
        f"{capital(results.metric)} on clean held-out scans in percent{meaning}{chance}.",
        "Intervals span the seeds; with one seed, they are 95% intervals over test cases.",
        "Peak is the best moment of training, which early stopping on clean scans would keep.",
        SELECTED * any(row.selected is not None for row in rows),
        TESTED * any(row.by_case for row in rows),
        "Cells that diverged or failed have no score and enter no mean." * any(not row.done for row in rows),
    )
    return note(" ".join(sentence for sentence in sentences if sentence))


def frontier(results: Results) -> str:
    """P50 of each method, victim and recipe, and the points that it comes from."""
    lines = results.frontier()
    if not any(math.isfinite(line.clean) for line in lines):
        return ""
    names = ("Method", "Victim", "Recipe", "P50", "Half-way SSIM in label", "Chance", "Clean control", "Strengths")
    rows = [
        (
            line.method,
            line.victim,
            line.recipe,
            line.words,
            _ssim(line),
            f"{line.chance:.1f}",
            format_number(line.clean, ".1f"),
            str(len(line.points)),
        )
        for line in lines
    ]
    explained = note(
        "P50 is the highest PSNR at which models reach at most half-way between chance and the clean control, "
        "interpolated between the strengths that were tried: higher is better. At least: the weakest noise that was "
        "tried still holds. Not reached: the strongest does not. Countermeasures are left out."
    )
    shown = text_table("Frontier", names, rows, 3) + explained
    if max(len(line.points) for line in lines) < 2:
        return details("P50 of a single strength", shown)
    return shown + details("All points", _points(results, lines))


def _ssim(line: FrontierLine) -> str:
    if line.ssim50 is None:
        return NONE
    return f"{'at least ' if line.ssim_bound == 'at least' else ''}{line.ssim50:.4f}"


def _points(results: Results, lines: Sequence[FrontierLine]) -> str:
    names = (
        "Method",
        "Victim",
        "Recipe",
        "ε (of 255)",
        "PSNR (dB)",
        "SSIM in label",
        results.metric,
        "Interval",
        "Seeds",
    )
    rows = [
        (
            line.method,
            line.victim,
            line.recipe,
            NONE if point.epsilon is None else f"{255 * point.epsilon:.3g}",
            format_number(point.psnr, ".1f"),
            format_number(point.ssim_roi, ".4f"),
            f"{point.score:.1f}",
            " to ".join(format_number(end, ".1f") for end in point.interval),
            str(len(point.finals)),
        )
        for line in lines
        for point in line.points
    ]
    return text_table("Points of the frontier", names, rows, 3)


def commands(results: Results) -> str:
    """The command of each cell, by countermeasure."""
    summaries = [s for s in results.summaries() if s.commands]
    blocks = []
    for countermeasure, members in groupby(summaries, key=lambda s: s.countermeasure):
        items = "".join(
            f"<dt>{escape(f'{victim_name(s, summaries)}, {s.words}')}</dt>"
            f"<dd>{''.join(f'<pre><code>{escape(command)}</code></pre>' for command in s.commands)}</dd>"
            for s in members
        )
        blocks.append(details(heading(countermeasure), f'<dl class="commands">{items}</dl>'))
    if not blocks:
        return ""
    return note("Each trains and scores one cell alone. One click selects a command.") + "".join(blocks)

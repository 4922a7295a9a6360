# SPDX-License-Identifier: Apache-2.0
"""Tables as Markdown, for documents that quote measured figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from monai_unlearnable.report.columns import NONE, format_number, format_score
from monai_unlearnable.report.matrix import distinct
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import NO_COUNTERMEASURE
from monai_unlearnable.report.summaries import Summary

__all__ = ["markdown_table", "markdown_frontier"]


def markdown_table(results: Results) -> str:
    """The matrix: a row for each victim, recipe and training data, a column for each countermeasure.

    Args:
        results: a cell is the mean score in percent with its interval; seeds without a score are named.

    Returns:
        Lines that end with a newline.
    """
    summaries = results.summaries()
    countermeasures = distinct(s.countermeasure for s in summaries)
    rows: dict[tuple[str, str, str], dict[str, Summary]] = {}
    victims = distinct(s.victim for s in summaries)
    for s in sorted(summaries, key=lambda s: victims.index(s.victim)):
        rows.setdefault((s.victim, s.recipe, s.words), {})[s.countermeasure] = s
    words = [results.metric if name == NO_COUNTERMEASURE else name for name in countermeasures]
    head = ("Victim", "Recipe", "Trained on", "PSNR (dB)", *words, "Seeds")
    body = []
    for key, cells in rows.items():
        some = next(iter(cells.values()))
        seeds = distinct(str(s.seeds) for s in cells.values())
        scores = [_score(cells[name]) if name in cells else NONE for name in countermeasures]
        body.append((*key, format_number(some.psnr, ".1f"), *scores, " / ".join(seeds)))
    return _markdown(head, body, words=3)


def _score(summary: Summary) -> str:
    low, high = (format_number(value, ".1f") for value in summary.interval)
    note = f", {summary.note}" if summary.note and summary.done else ""
    return f"{format_score(summary)} ({low} to {high}{note})" if summary.done else format_score(summary)


def markdown_frontier(results: Results) -> str:
    """P50 of each method, victim and recipe, beside chance, clean control and the points that it comes from.

    Args:
        results: scores are in percent.

    Returns:
        Lines that end with a newline.
    """
    head = ("Method", "Victim", "Recipe", "P50", "Chance", "Clean control", f"{results.metric} at PSNR (dB)")
    body = [
        (
            line.method,
            line.victim,
            line.recipe,
            line.words,
            f"{line.chance:.1f}",
            format_number(line.clean, ".1f"),
            ", ".join(f"{point.score:.1f} at {format_number(point.psnr, '.1f')}" for point in line.points),
        )
        for line in results.frontier()
    ]
    return _markdown(head, body, words=3)


def _markdown(head: Sequence[str], body: Iterable[Sequence[str]], words: int) -> str:
    rule = ["---" if column < words else "---:" for column in range(len(head))]
    rows = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (head, rule, *body)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)

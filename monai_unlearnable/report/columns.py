# SPDX-License-Identifier: Apache-2.0
"""The columns of the matrix as text: one row a cell, columns that nothing fills left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from monai_unlearnable.report.matrix import Matrix, distinct
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import NO_COUNTERMEASURE
from monai_unlearnable.report.summaries import Summary

__all__ = [
    "NONE",
    "Section",
    "capital",
    "format_interval",
    "format_number",
    "format_p",
    "format_score",
    "heading",
    "sections",
    "victim_name",
]

NONE = "–"
EXTRAS = {"hd95": "HD95 (mm)", "hd95_missing": "Missed (%)", "auc": "AUC (%)", "accuracy": "Accuracy (%)"}
LISTED_CLASSES = 4
LEAST_P = 0.001
WORDS = 2  # leading columns that hold words

Column = tuple[str, Callable[[Summary], str]]


@dataclass(frozen=True)
class Section:
    """The cells of one countermeasure as rows of text.

    Args:
        countermeasure: name of it.
        columns: names; the first two hold words, the others figures.
        rows: each cell with its text in the order of the columns.
    """

    countermeasure: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Summary, tuple[str, ...]], ...]


def sections(results: Results, brief: bool = False) -> list[Section]:
    """The matrix as one section for each countermeasure, all with the same columns.

    Args:
        results: what to show.
        brief: whether to leave out what a terminal has no room for.
    """
    summaries = results.summaries()
    columns = _columns(results, summaries, brief)
    texts = [[write(s) for _, write in columns] for s in summaries]
    kept = [c for c in range(len(columns)) if c < WORDS or any(text[c] != NONE for text in texts)]
    names = tuple(columns[c][0] for c in kept)
    rows = [(s, tuple(text[c] for c in kept)) for s, text in zip(summaries, texts, strict=True)]
    return [
        Section(countermeasure, names, tuple(row for row in rows if row[0].countermeasure == countermeasure))
        for countermeasure in distinct(s.countermeasure for s in summaries)
    ]


def _columns(results: Results, summaries: Sequence[Summary], brief: bool) -> list[Column]:
    matrix = Matrix(summaries)
    extras = distinct(name for s in summaries for name in s.extras)
    full: list[Column] = [
        ("Selected", lambda s: format_number(s.selected, ".1f")),
        ("SSIM in label", lambda s: format_number(s.ssim_roi, ".4f")),
    ]
    return [
        ("Victim", lambda s: victim_name(s, summaries)),
        ("Trained on", lambda s: s.words),
        (f"Final {results.metric}", format_score),
        ("Interval", lambda s: format_interval(s.interval)),
        ("Peak", lambda s: format_number(s.peak, ".1f")),
        *full[: 0 if brief else 1],
        ("Per class", lambda s: _classes(s.per_class)),
        *((EXTRAS.get(name, name), _extra(name)) for name in extras),
        ("p", lambda s: format_p(matrix.p_value(s))),
        ("PSNR (dB)", lambda s: format_number(s.psnr, ".1f")),
        ("SSIM", lambda s: format_number(s.ssim, ".4f")),
        *full[1 : 1 if brief else 2],
        ("Seeds", lambda s: f"{s.seeds} ({s.note})" if s.note else str(s.seeds)),
    ]


def _extra(name: str) -> Callable[[Summary], str]:
    return lambda s: format_number(s.extras.get(name), ".1f")


def victim_name(summary: Summary, summaries: Sequence[Summary]) -> str:
    """The network, with its recipe where the report has several."""
    several = len({other.recipe for other in summaries}) > 1
    return f"{summary.victim}, {summary.recipe}" if several else summary.victim


def capital(text: str) -> str:
    """The text with a capital at its start."""
    return text[:1].upper() + text[1:]


def heading(countermeasure: str) -> str:
    """A countermeasure as a heading."""
    return "Without countermeasure" if countermeasure == NO_COUNTERMEASURE else f"Countermeasure: {countermeasure}"


def format_number(value: float | None, spec: str) -> str:
    """A number, or a dash where there is none."""
    return NONE if value is None or math.isnan(value) else format(value, spec)


def format_interval(interval: tuple[float, float], spec: str = ".1f") -> str:
    """Both ends of an interval, or a dash where one is unknown."""
    low, high = (format_number(value, spec) for value in interval)
    return NONE if NONE in (low, high) else f"{low} to {high}"


def format_score(summary: Summary) -> str:
    """The mean score, or ``diverged`` or ``failed``."""
    return summary.failure or format_number(summary.score, ".1f")


def format_p(value: float) -> str:
    """A p-value to three places."""
    return f"< {LEAST_P:g}" if value < LEAST_P else format_number(value, ".3f")


def _classes(values: Sequence[float]) -> str:
    if len(values) <= LISTED_CLASSES:
        return " / ".join(format_number(value, ".1f") for value in values) or NONE
    known = [value for value in values if not math.isnan(value)]
    return f"{len(values)} classes, {min(known):.1f} to {max(known):.1f}" if known else NONE

# SPDX-License-Identifier: Apache-2.0
"""The figures of a report as CSV, with all their digits: a row for each training, and one for each scan."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from monai_unlearnable.report.results import Results
from monai_unlearnable.utils.grouping import distinct

__all__ = ["spreadsheets"]

RUN_COLUMNS = (
    *("training", "data", "method", "epsilon", "victim", "recipe", "countermeasure", "seed", "status", "metric"),
    *("score", "chance", "peak", "selected", "iterations", "psnr", "ssim", "ssim_roi", "date"),
)
FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # spreadsheets run texts that begin with these


def spreadsheets(results: Results) -> dict[str, str]:
    """CSV texts by file name: ``runs.csv``, and ``scans.csv`` where figures of single scans are known."""
    runs = [[getattr(row, name) for name in RUN_COLUMNS] for row in results.rows]
    names = distinct(name for scans in results.scans.values() for figures in scans.values() for name in figures)
    scans = [
        [data, scan, *(figures.get(name) for name in names)]
        for data, found in results.scans.items()
        for scan, figures in found.items()
    ]
    tables = {"runs.csv": (RUN_COLUMNS, runs), "scans.csv": (("data", "scan", *names), scans)}
    return {name: _csv(columns, rows) for name, (columns, rows) in tables.items() if rows}


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return stream.getvalue()


def _cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula; nothing for one that is not known."""
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value

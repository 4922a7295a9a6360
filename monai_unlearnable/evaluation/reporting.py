# SPDX-License-Identifier: Apache-2.0
"""The report of a laboratory: figures, pictures of a few scans and of what models see in them, on one page."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from monai_unlearnable.data import LabelGeometry, read_case, read_scan
from monai_unlearnable.evaluation.laboratory import Laboratory
from monai_unlearnable.evaluation.matrix import FILE
from monai_unlearnable.evidence import background, own_entries, record
from monai_unlearnable.report import Results, write_report
from monai_unlearnable.report.charts import result_pictures
from monai_unlearnable.report.rows import CLEAN, PROTECTED
from monai_unlearnable.report.slices import before_and_after, montage, prediction_montage
from monai_unlearnable.report.viewer import MOST_SCANS, ViewedScan, view_scan

__all__ = ["record_evidence", "rewrite_report", "write_laboratory_report"]


def write_laboratory_report(laboratory: Laboratory, results: Results, folder: Path, pictured: int = 2) -> Path:
    """Write ``results.json``, CSV files, the pictures and ``index.html``.

    The page shows slices of originals, and holds the voxels of up to three of the scans that are pictured.

    Args:
        laboratory: the laboratory whose files are pictured.
        results: results of the laboratory.
        folder: folder of the report.
        pictured: number of scans of each protected dataset, and of test scans with predictions; with 0 the page holds
            no scan.

    Returns:
        The page.
    """
    montages, viewed = _scans(laboratory, pictured)
    pictures = {**montages, **result_pictures(results), **_predictions(laboratory, pictured)}
    write_report(results, pictures, folder, background(results, own_entries()).table(), viewed)
    return folder / "index.html"


def rewrite_report(folder: str | Path) -> tuple[Results, Path]:
    """Rewrite the report of a laboratory from its results.

    Args:
        folder: folder of the laboratory, or an output that was evaluated; its ``report/`` is written.

    Returns:
        The results and the report's page.

    Raises:
        InputError: naming the file, when the folder holds no laboratory.
    """
    root, examined = Path(folder), Path(folder) / "laboratory"
    laboratory = Laboratory.open(examined if examined.is_dir() and not (root / FILE).is_file() else root)
    results = laboratory.results()
    return results, write_laboratory_report(laboratory, results, root / "report")


def record_evidence(folder: str | Path, to: str | Path | None = None, **settings: Any) -> tuple[list[str], list[str]]:
    """Record what a laboratory has measured so far as entries of evidence; nothing is trained.

    Args:
        folder: folder of the laboratory.
        to: folder of the entries; by default ``evidence/`` of the laboratory.
        **settings: settings of :func:`~monai_unlearnable.evidence.recording.entries_from`.

    Returns:
        Names of the entries that were written, and of those that are marked as overstated now.

    Raises:
        InputError: naming the file, when the folder holds no laboratory, or an entry cannot be read.
    """
    laboratory = Laboratory.open(folder)
    only_runs = dataclasses.replace(laboratory.matrix, authorized=False, detectors=False)
    results = Laboratory(only_runs, folder).results()
    target = laboratory.folder / "evidence" if to is None else to
    return record(results, target, **settings)


def _scans(laboratory: Laboratory, pictured: int) -> tuple[dict[str, bytes], list[ViewedScan]]:
    """The first scans of each protected dataset: their pictures by name, and those that the page holds."""
    pictures: dict[str, bytes] = {}
    viewed: list[ViewedScan] = []
    sources = [source for source in laboratory.sources.values() if source.role == PROTECTED]
    values = laboratory.bench.summary.label_values or None
    for number, original in enumerate(laboratory.bench.originals.cases[:pictured]):
        for place, source in enumerate(sources, 1):
            both = (original, source.cases[number])
            clean, changed = (read_case(one, source.window, values, LabelGeometry.IGNORE) for one in both)
            scans = (clean.scans[0], changed.scans[0], clean.label, clean.windows[0])
            name = f"montage-{number + 1}" if len(sources) == 1 else f"montage-{place}-{number + 1}"
            pictures |= {"before-and-after": before_and_after(*scans)} if not pictures else {}
            pictures[name] = montage(*scans)
            if len(viewed) < MOST_SCANS:
                words = original.case_id if len(sources) == 1 else f"{original.case_id}, {source.name}"
                viewed.append(view_scan(words, *scans))
    return pictures, viewed


def _predictions(laboratory: Laboratory, pictured: int) -> dict[str, bytes]:
    """Predictions of the first kind of victim on test scans, by training data."""
    stored = {}
    for run in laboratory.runs():
        if (run.victim, run.recipe, run.countermeasure, run.seed) == laboratory.matrix.first_kind:
            path = laboratory.pictures_of(run)
            if path is not None and laboratory.sources[run.data].role in (CLEAN, PROTECTED):
                stored[run.data] = dict(np.load(path))
    if not stored:
        return {}
    first = next(iter(stored.values()))
    numbers = [number for number in range(pictured) if f"image{number}" in first]
    scans = [read_scan(case.root / case.images[0]) for case in laboratory.bench.test[: len(numbers)]]
    return {
        f"prediction-{number + 1}": prediction_montage(
            first[f"image{number}"].astype(np.float32),
            first[f"truth{number}"],
            {f"trained on {name}": arrays[f"prediction{number}"] for name, arrays in stored.items()},
            scan.affine,
            scan.has_geometry,
        )
        for number, scan in zip(numbers, scans, strict=True)
    }

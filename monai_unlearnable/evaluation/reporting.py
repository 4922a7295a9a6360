# SPDX-License-Identifier: Apache-2.0
"""The report of a laboratory: figures, pictures of a few scans and of what models see in them, one page."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from monai_unlearnable.data import read_case
from monai_unlearnable.evaluation.laboratory import Laboratory
from monai_unlearnable.report import Results, write_report
from monai_unlearnable.report.charts import result_pictures
from monai_unlearnable.report.rows import CLEAN, PROTECTED
from monai_unlearnable.report.slices import montage, prediction_montage

__all__ = ["write_laboratory_report"]


def write_laboratory_report(laboratory: Laboratory, results: Results, folder: Path, pictured: int = 2) -> Path:
    """Write ``results.json``, the pictures and ``index.html``.

    Args:
        laboratory: whose files are pictured.
        results: what it found.
        folder: where to.
        pictured: number of scans of each protected dataset, and of test scans with predictions.

    Returns:
        The page.
    """
    pictures = {**result_pictures(results), **_montages(laboratory, pictured), **_predictions(laboratory, pictured)}
    write_report(results, pictures, folder)
    return folder / "index.html"


def _montages(laboratory: Laboratory, pictured: int) -> dict[str, bytes]:
    pictures = {}
    sources = [source for source in laboratory.sources.values() if source.role == PROTECTED]
    for place, source in enumerate(sources, 1):
        values = laboratory.summary.label_values or None
        pairs = zip(laboratory.originals.cases[:pictured], source.cases, strict=False)
        for number, (original, case) in enumerate(pairs, 1):
            clean, changed = read_case(original, source.window, values), read_case(case, source.window, values)
            name = f"montage-{number}" if len(sources) == 1 else f"montage-{place}-{number}"
            pictures[name] = montage(clean.scans[0], changed.scans[0], clean.label, clean.windows[0])
    return pictures


def _predictions(laboratory: Laboratory, pictured: int) -> dict[str, bytes]:
    """What victims of the first kind say about test scans, by what they were trained on."""
    matrix, stored = laboratory.matrix, {}
    kind = (matrix.victims[0], matrix.recipes[0], matrix.countermeasures[0], matrix.seeds[0])
    for cell in laboratory.cells():
        if (cell.victim, cell.recipe, cell.countermeasure, cell.seed) == kind:
            path = laboratory.pictures_of(cell)
            if path is not None and laboratory.sources[cell.data].role in (CLEAN, PROTECTED):
                stored[cell.data] = dict(np.load(path))
    if not stored:
        return {}
    first = next(iter(stored.values()))
    numbers = [number for number in range(pictured) if f"image{number}" in first]
    return {
        f"prediction-{number + 1}": prediction_montage(
            first[f"image{number}"].astype(np.float32),
            first[f"truth{number}"],
            {f"trained on {name}": arrays[f"prediction{number}"] for name, arrays in stored.items()},
        )
        for number in numbers
    }

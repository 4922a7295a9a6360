# SPDX-License-Identifier: Apache-2.0
"""Can an exploiter tell that scans are protected, and read labels from the noise? Found once and kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monai_unlearnable.countermeasures import label_separability, separability
from monai_unlearnable.noise.manifest import fingerprint
from monai_unlearnable.scans.atomic import write_json
from monai_unlearnable.workflows.cells import Bench
from monai_unlearnable.workflows.matrix import Cell
from monai_unlearnable.workflows.sources import Source

__all__ = ["detect"]


def detect(bench: Bench, source: Source, folder: Path) -> dict[str, list[float]]:
    """How well simple classifiers do on cases that they did not learn from.

    Args:
        bench: the laboratory's settings.
        source: the published data.
        folder: keeps what was found.

    Returns:
        By what is told from what: area under the ROC curve, 0 to 1, and its 95% interval. 0.5 is chance.
    """
    matrix = bench.matrix
    cell = Cell(source.name, matrix.victims[0], matrix.recipes[0], "none", matrix.seeds[0])
    path = folder / f"{fingerprint(['detectors', bench.key(cell, source)])[:24]}.json"
    if not path.is_file():
        write_json(path, _classify(bench, source, cell))
    found: dict[str, list[float]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _classify(bench: Bench, source: Source, cell: Cell) -> dict[str, Any]:
    load = bench.recipe(cell.recipe).unit_images(bench.task)
    samples = [load(case.to_dict()) for case in source.cases]
    originals = [load(case.to_dict()) for case in bench.originals.cases]
    protected, clean = ([sample["image"] for sample in part] for part in (samples, originals))
    told = separability(protected, clean, seed=cell.seed)
    read, usual = (label_separability(part, seed=cell.seed) for part in (samples, originals))
    judged = {"protected from clean scans": told, "labels from residuals": read, "labels from clean residuals": usual}
    return {
        f"{what} ({kind})": [area.value, *area.interval]
        for what, found in judged.items()
        for kind, area in (("linear", found.linear), ("two layers", found.two_layer))
    }

# SPDX-License-Identifier: Apache-2.0
"""Two checks beside the matrix: does an authorized model still work, and can protection be detected?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_unlearnable.countermeasures import label_separability, separability
from monai_unlearnable.evaluation.matrix import Cell
from monai_unlearnable.evaluation.runs import Bench
from monai_unlearnable.evaluation.sources import Source
from monai_unlearnable.noise.records import fingerprint
from monai_unlearnable.report.rows import CLEAN
from monai_unlearnable.utils.files import write_json
from monai_unlearnable.victims import Victim

__all__ = ["authorized_scores", "detect"]


def authorized_scores(bench: Bench, victim: str, sources: Sequence[Source], folder: Path) -> list[dict[str, Any]]:
    """Train a network on every other original and score it on the rest, as they are and as they are published.

    Args:
        bench: the laboratory's settings.
        victim: name of the network; it is trained by the first recipe and the first seed.
        sources: published data.
        folder: keeps what was found.

    Returns:
        For each source ``data``, ``victim``, and the score on ``clean`` and on ``protected`` scans in percent.
    """
    matrix = bench.matrix
    cell = Cell(CLEAN, victim, matrix.recipes[0], "none", matrix.seeds[0])
    keys = [bench.key(cell, source) for source in sources]
    path = folder / f"{fingerprint(['authorized', *keys])[:24]}.json"
    if not path.is_file():
        model = Victim(
            bench.network(victim, cell.seed),
            bench.task,
            bench.recipe(cell.recipe),
            seed=cell.seed,
            device=matrix.device,
            num_validations=1,
        )
        trained = model.train_and_score(
            [case.to_dict() for case in bench.originals.cases[::2]],
            [case.to_dict() for case in bench.originals.cases[1::2]],
            others={source.name: [case.to_dict() for case in source.cases[1::2]] for source in sources},
            description=f"authorized {victim}",
        )
        write_json(path, [trained.scores.value, *(trained.others[source.name].value for source in sources)])
    clean, *protected = json.loads(path.read_text(encoding="utf-8"))
    return [
        {"data": source.name, "victim": victim, "clean": clean, "protected": score}
        for source, score in zip(sources, protected, strict=True)
    ]


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
    load = bench.recipe(cell.recipe).normalized_images(bench.task)
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

# SPDX-License-Identifier: Apache-2.0
"""Two checks beside the matrix: does an authorized model still work, and can protection be detected?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_unlearnable.countermeasures import label_separability, separability
from monai_unlearnable.evaluation.matrix import Run
from monai_unlearnable.evaluation.runs import Bench
from monai_unlearnable.evaluation.sources import Source
from monai_unlearnable.report.rows import CLEAN, NO_COUNTERMEASURE
from monai_unlearnable.utils.files import fingerprint, write_json
from monai_unlearnable.victims import Victim

__all__ = ["authorized_scores", "detect"]


def authorized_scores(bench: Bench, victim: str, sources: Sequence[Source], folder: Path) -> list[dict[str, Any]]:
    """Train a network on every other original and score it on the rest, as they are and as they are published.

    No case that is scored was trained on.

    Args:
        bench: what all runs share.
        victim: name of the network; it is trained by the first recipe and the first seed.
        sources: published data.
        folder: folder that keeps what was found.

    Returns:
        For each source ``data``, ``victim``, and the score on ``clean`` and on ``protected`` scans in percent.
    """
    _, recipe, _, seed = bench.matrix.first_kind
    run = Run(CLEAN, victim, recipe, NO_COUNTERMEASURE, seed)
    path = folder / f"{fingerprint(['authorized', *(bench.key(run, source) for source in sources)])[:24]}.json"
    if not path.is_file():
        model = Victim(
            bench.network(victim, seed),
            bench.task,
            bench.recipe(recipe),
            seed=seed,
            device=bench.matrix.device,
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
        bench: what all runs share.
        source: the published data.
        folder: folder that keeps what was found.

    Returns:
        By what is told from what: area under the ROC curve, 0 to 1, and its 95% interval. 0.5 is chance.
    """
    victim, recipe, _, seed = bench.matrix.first_kind
    run = Run(source.name, victim, recipe, NO_COUNTERMEASURE, seed)
    path = folder / f"{fingerprint(['detectors', bench.key(run, source)])[:24]}.json"
    if not path.is_file():
        write_json(path, _classify(bench, source, recipe, seed))
    found: dict[str, list[float]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _classify(bench: Bench, source: Source, recipe: str, seed: int) -> dict[str, list[float]]:
    load = bench.recipe(recipe).normalized_images(bench.task)
    samples = [load(case.to_dict()) for case in source.cases]
    originals = [load(case.to_dict()) for case in bench.originals.cases]
    protected, clean = ([sample["image"] for sample in part] for part in (samples, originals))
    judged = {
        "protected from clean scans": separability(protected, clean, seed=seed),
        "labels from residuals": label_separability(samples, seed=seed),
        "labels from clean residuals": label_separability(originals, seed=seed),
    }
    return {
        f"{what} ({kind})": [area.value, *area.interval]
        for what, found in judged.items()
        for kind, area in (("linear", found.linear), ("two layers", found.two_layer))
    }

# SPDX-License-Identifier: Apache-2.0
"""Does a model that may be used still work on protected scans? Protection must not blind the owner's own tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_unlearnable.noise.manifest import fingerprint
from monai_unlearnable.report.rows import CLEAN
from monai_unlearnable.scans.atomic import write_json
from monai_unlearnable.victims import Victim
from monai_unlearnable.workflows.cells import Bench
from monai_unlearnable.workflows.matrix import Cell
from monai_unlearnable.workflows.sources import Source

__all__ = ["authorized_scores"]


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
            looks=1,
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

# SPDX-License-Identifier: Apache-2.0
"""The proof of one protected dataset, and single victims trained or scored."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_unlearnable.crypto import load_key
from monai_unlearnable.errors import InputError
from monai_unlearnable.evaluation.laboratory import Laboratory
from monai_unlearnable.evaluation.matrix import Matrix
from monai_unlearnable.evaluation.reporting import write_laboratory_report
from monai_unlearnable.metrics.frontier import Scores
from monai_unlearnable.noise import Manifest
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.report import Results
from monai_unlearnable.utils.files import write_json
from monai_unlearnable.victims import Victim, load_pretrained, save_weights

__all__ = ["evaluate_folders", "train", "evaluate"]


def evaluate_folders(output_dir: str | Path, dataset_dir: str | Path, **settings: Any) -> tuple[Results, Path]:
    """Train victims on the clean, the protected and a control dataset, and write ``report/`` of the output.

    Args:
        output_dir: an output with ``protected/`` and ``noise/``; control and cells go to its ``laboratory/``.
        dataset_dir: the clean dataset.
        **settings: of the :class:`~monai_unlearnable.evaluation.matrix.Matrix`.

    Returns:
        The results and the report's page.
    """
    layout = Layout(Path(output_dir))
    method = str(Manifest.load(layout.manifest, load_key(settings.get("key"))).run["method"])
    matrix = Matrix.of(dataset_dir=str(dataset_dir), protected={method: str(output_dir)}, **settings)
    laboratory = Laboratory(matrix, layout.root / "laboratory")
    results = laboratory.run()
    return results, write_laboratory_report(laboratory, results, layout.report)


logger = logging.getLogger(__name__)

Cases = Sequence[Mapping[str, Any]]


def train(victim: Victim, cases: Cases, test: Cases, output_dir: str | Path) -> Scores:
    """Train a victim and write ``model.safetensors`` and ``scores.json``.

    Args:
        victim: a network with its task and recipe.
        cases: to train on.
        test: clean held-out cases.
        output_dir: where to.

    Raises:
        DivergedError: when the loss is no longer finite.
    """
    scores = victim.train_and_score(cases, test).scores
    save_weights(victim.network, Path(output_dir) / "model.safetensors")
    _write(scores, Path(output_dir))
    return scores


def evaluate(victim: Victim, checkpoint: str | Path, cases: Cases, output_dir: str | Path) -> Scores:
    """Score a trained victim and write ``scores.json``.

    Args:
        victim: a network like the trained one, with its task and recipe.
        checkpoint: weights that :func:`train` wrote.
        cases: to score on.
        output_dir: where to.

    Raises:
        InputError: when the weights are not those of such a network.
    """
    loaded = load_pretrained(victim.network, checkpoint)
    if loaded.fraction < 1:
        raise InputError(f"only {loaded.fraction:.0%} of the network's weights are in the file", file=checkpoint)
    scores = victim.score(cases)
    _write(scores, Path(output_dir))
    return scores


def _write(scores: Scores, folder: Path) -> None:
    write_json(folder / "scores.json", dataclasses.asdict(scores))
    interval = "" if math.isnan(scores.interval[0]) else f" ({scores.interval[0]:.1f} to {scores.interval[1]:.1f})"
    logger.warning("%s %.1f%s", scores.metric, scores.value, interval)

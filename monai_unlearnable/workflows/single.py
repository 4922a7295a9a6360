# SPDX-License-Identifier: Apache-2.0
"""One victim, trained or examined by itself: what the bundle ``victim`` runs."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_unlearnable.errors import InputError
from monai_unlearnable.metrics.protection import Scores
from monai_unlearnable.scans.atomic import write_json
from monai_unlearnable.victims import Victim, load_pretrained, save_weights

__all__ = ["train", "evaluate"]

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
    if loaded.share < 1:
        raise InputError(f"only {loaded.share:.0%} of the network's weights are in the file", file=checkpoint)
    scores = victim.score(cases)
    _write(scores, Path(output_dir))
    return scores


def _write(scores: Scores, folder: Path) -> None:
    write_json(folder / "scores.json", dataclasses.asdict(scores))
    interval = "" if math.isnan(scores.interval[0]) else f" ({scores.interval[0]:.1f} to {scores.interval[1]:.1f})"
    logger.warning("%s %.1f%s", scores.metric, scores.value, interval)

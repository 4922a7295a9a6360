# SPDX-License-Identifier: Apache-2.0
"""One cell of the laboratory's matrix: one victim, trained and scored."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from monai_unlearnable import __version__
from monai_unlearnable.countermeasures import Material, Prepared, prepare
from monai_unlearnable.data import Case, DatasetSummary
from monai_unlearnable.errors import DivergedError, UnlearnableError, root_cause
from monai_unlearnable.evaluation.matrix import Cell, Matrix
from monai_unlearnable.evaluation.sources import Source, digest_cases
from monai_unlearnable.metrics.frontier import Scores
from monai_unlearnable.noise.records import fingerprint
from monai_unlearnable.publishing.layout import file_digest
from monai_unlearnable.report import VictimRow
from monai_unlearnable.utils.catalog import KINDS, Catalog
from monai_unlearnable.utils.seeding import derive_seed
from monai_unlearnable.victims import Recipe, Task, Trained, Victim, fresh_network

__all__ = ["Bench", "train_cell"]

logger = logging.getLogger(__name__)

PICTURED = 2  # test cases of which predictions are kept


@dataclass(frozen=True)
class Bench:
    """What all cells share.

    Args:
        matrix: settings.
        originals: the clean training data.
        load_test: lists the clean held-out cases.
        summary: dimensions, channels and typical size.
        task: what victims are trained for.
    """

    matrix: Matrix
    originals: Source
    load_test: Callable[[], Sequence[Case]]
    summary: DatasetSummary
    task: Task

    @cached_property
    def test(self) -> Sequence[Case]:
        """Clean held-out cases."""
        return self.load_test()

    @property
    def size(self) -> tuple[int, ...]:
        """Spatial size of the network input."""
        return tuple(self.matrix.size or self.summary.patch_size())

    @property
    def values(self) -> dict[str, Any]:
        """What entries of catalogs may refer to."""
        matrix = self.matrix
        return {
            "dims": self.summary.spatial_dims,
            "channels": self.summary.channels,
            "classes": self.task.classes,
            "size": list(self.size),
            "keys": list(self.task.keys),
            "width": matrix.width,
            "iterations": matrix.iterations,
            "batch_size": matrix.batch_size,
            "learning_rate": matrix.learning_rate,
            "weights": matrix.weights,
        }

    @cached_property
    def catalogs(self) -> dict[str, Catalog]:
        """Networks, recipes and countermeasures, with the user's entries."""
        return {kind: Catalog.load(kind, self.matrix.catalog) for kind in KINDS}

    @cached_property
    def _weights_digest(self) -> str | None:
        return None if self.matrix.weights is None else file_digest(Path(self.matrix.weights))

    @cached_property
    def _test_digest(self) -> str:
        return digest_cases(self.test)

    def key(self, cell: Cell, source: Source) -> str:
        """SHA-256 of everything that decides on what a cell finds.

        Raises:
            InputError: when there is no such victim, recipe or countermeasure.
        """
        matrix = self.matrix
        return fingerprint(
            {
                "version": __version__,
                "victim": self.catalogs["networks"].description(cell.victim),
                "recipe": self.catalogs["recipes"].description(cell.recipe),
                "countermeasure": self.catalogs["countermeasures"].description(cell.countermeasure),
                "names": [cell.victim, cell.recipe, cell.countermeasure],
                "seed": cell.seed,
                "values": {**self.values, "weights": self._weights_digest},
                "num_validations": matrix.num_validations,
                "validation_fraction": matrix.validation_fraction,
                "task": repr(self.task),
                "training": source.digest,
                "originals": self.originals.digest,
                "test": self._test_digest,
            }
        )

    def network(self, name: str, seed: int) -> nn.Module:
        """A network with weights drawn from the seed.

        Raises:
            InputError: when there is none of that name, or it cannot take images of the size.
        """
        return fresh_network(self.catalogs["networks"], name, derive_seed(seed, "weights"), **self.values)

    def recipe(self, name: str) -> Recipe:
        """A recipe."""
        recipe: Recipe = self.catalogs["recipes"].build(name, **self.values)
        return recipe

    def prepare(self, name: str, recipe: Recipe, cases: Sequence[Case], seed: int) -> Prepared:
        """Go through a countermeasure with training cases."""
        steps = self.catalogs["countermeasures"].build(name, **self.values)
        originals = {case.case_id: case.to_dict() for case in self.originals.cases}
        material = Material(
            [case.to_dict() for case in cases],
            recipe.normalized_images(self.task),
            originals,
            derive_seed(seed, "countermeasure"),
            self.matrix.device,
        )
        return prepare(steps, material)

    def split(self, cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
        """Cases to train on, and evenly spaced ones to pick a model by."""
        count = round(self.matrix.validation_fraction * len(cases))
        chosen = set(np.linspace(0, len(cases) - 1, count).round().astype(int).tolist()) if count else set()
        parts: tuple[list[Case], list[Case]] = ([], [])
        for index, case in enumerate(cases):
            parts[index in chosen].append(case)
        return parts


def train_cell(bench: Bench, cell: Cell, source: Source) -> tuple[VictimRow, bytes | None]:
    """Train and score one victim.

    Returns:
        What it reached, and a test image with its label and the prediction as .npz bytes. A victim that diverges or
        cannot be trained gives a row that says so.
    """
    try:
        trained = _train(bench, cell, source)
    except DivergedError:
        return _row(bench, cell, source, None, "diverged"), None
    except (UnlearnableError, RuntimeError, ValueError) as error:
        logger.debug("%s failed", cell, exc_info=True)
        return _row(bench, cell, source, None, f"failed: {' '.join(str(root_cause(error)).split())}"), None
    pictures = _pictures(trained) if trained.outputs[0].ndim > 1 else None
    return _row(bench, cell, source, trained.scores, "done"), pictures


def _train(bench: Bench, cell: Cell, source: Source) -> Trained:
    recipe = bench.recipe(cell.recipe)
    training, validation = bench.split(source.cases)
    prepared = bench.prepare(cell.countermeasure, recipe, training, cell.seed)
    victim = Victim(
        bench.network(cell.victim, cell.seed),
        bench.task,
        recipe,
        prepared.steps,
        cell.seed,
        bench.matrix.device,
        bench.matrix.num_validations,
    )
    return victim.train_and_score(
        prepared.cases,
        [case.to_dict() for case in bench.test],
        [case.to_dict() for case in validation],
        description=f"{cell.victim} on {cell.data}",
    )


def _pictures(trained: Trained) -> bytes:
    """Test images as the network got them, in [0, 1]; true and predicted classes."""
    arrays: dict[str, Any] = {}
    for index in range(min(PICTURED, len(trained.outputs))):
        sample = trained.inputs[index]
        image = sample["image"][0].numpy()
        low, high = np.percentile(image, (0.5, 99.5))
        arrays[f"image{index}"] = ((image - low) / max(high - low, 1e-6)).clip(0, 1).astype(np.float16)
        arrays[f"truth{index}"] = sample["label"][0].numpy().astype(np.uint8)
        arrays[f"prediction{index}"] = trained.outputs[index].numpy().astype(np.uint8)
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def _row(bench: Bench, cell: Cell, source: Source, scores: Scores | None, status: str) -> VictimRow:
    if scores is None:
        scores = Scores(bench.task.metric, math.nan, (math.nan, math.nan), (), ())
    return VictimRow.from_scores(
        scores,
        training=source.role,
        data=cell.data,
        victim=cell.victim,
        recipe=cell.recipe,
        countermeasure=cell.countermeasure,
        seed=cell.seed,
        chance=bench.task.chance,
        method=source.method,
        epsilon=source.epsilon,
        status=status,
    )

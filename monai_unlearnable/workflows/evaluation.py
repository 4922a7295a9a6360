# SPDX-License-Identifier: Apache-2.0
"""Train the exploiter's models on clean, protected and control data, and report what they learned."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monai_unlearnable.errors import DatalistError
from monai_unlearnable.noise import Manifest
from monai_unlearnable.report import Results, VictimRow
from monai_unlearnable.report.rows import PROTECTED
from monai_unlearnable.scans import Case, DatasetSummary
from monai_unlearnable.victims import Recipe, segmentation_network, train_and_score
from monai_unlearnable.workflows.layout import Layout

__all__ = ["Evaluation", "mean_figures"]

logger = logging.getLogger(__name__)


def mean_figures(manifest: Manifest) -> dict[str, float]:
    """Means over the scans of what a manifest measured."""
    names = sorted({name for entry in manifest.scans for name in entry.measured})
    return {name: float(np.mean([e.measured[name] for e in manifest.scans if name in e.measured])) for name in names}


@dataclass(frozen=True)
class Evaluation:
    """Victims × training data × seeds, from folders alone.

    Args:
        training: cases by what they are: ``"clean"``, ``"protected"``, ``"random noise"``.
        outputs: output folders of the protected and the random-noise data, for the figures of their manifests.
        test: clean held-out cases.
        summary: dimensions, channels and label values of the dataset.
        recipe: how victims are trained.
        victims: names of networks.
        seeds: of the trainings.
        device: where to train.
    """

    training: Mapping[str, Sequence[Case]]
    outputs: Mapping[str, Path]
    test: Sequence[Case]
    summary: DatasetSummary
    recipe: Recipe
    victims: Sequence[str] = ("UNet",)
    seeds: Sequence[int] = (0,)
    device: str = "cpu"

    def run(self, title: str, dataset: str, settings: dict[str, Any] | None = None) -> Results:
        """Train every victim on every set.

        Args:
            title: heading of the report.
            dataset: name of the dataset.
            settings: recorded beside the recipe.

        Raises:
            DatalistError: when there is nothing to test on, or a training case is also a test case.
        """
        self._check()
        manifests = {name: Manifest.load(Layout(path).manifest) for name, path in self.outputs.items()}
        figures = {name: mean_figures(manifest) for name, manifest in manifests.items()}
        rows = [
            self._row(data, victim, seed, figures.get(data, {}))
            for victim in self.victims
            for data in self.training
            for seed in self.seeds
        ]
        protected = manifests.get(PROTECTED)
        return Results(
            title=title,
            method=str(protected.run["method"]) if protected else "none",
            dataset=dataset,
            figures=figures.get(PROTECTED, {}),
            rows=rows,
            settings={**self._recipe(), **(settings or {})},
        )

    def _check(self) -> None:
        if not self.test:
            raise DatalistError("there are no test cases to score victims on")
        tested = {(case.root.resolve(), case.case_id) for case in self.test}
        for data, cases in self.training.items():
            for case in cases:
                if (case.root.resolve(), case.case_id) in tested:
                    raise DatalistError(
                        f"the case is in the {data} training data and in the test data", case=case.case_id
                    )

    def _recipe(self) -> dict[str, Any]:
        count = {f"{data} training cases": len(cases) for data, cases in self.training.items()}
        return {
            "recipe": self.recipe.name,
            "iterations": self.recipe.iterations,
            "batch size": self.recipe.batch_size,
            "learning rate": self.recipe.learning_rate,
            "input size": list(self.recipe.size),
            **count,
            "test cases": len(self.test),
            "seeds": list(self.seeds),
        }

    def _row(self, data: str, victim: str, seed: int, figures: dict[str, float]) -> VictimRow:
        summary = self.summary
        network = segmentation_network(victim, summary.spatial_dims, summary.channels, summary.num_classes)
        scores = train_and_score(
            network,
            [case.to_dict() for case in self.training[data]],
            [case.to_dict() for case in self.test],
            self.recipe,
            summary.label_values,
            seed=seed,
            device=torch.device(self.device),
            description=f"{victim} on {data}",
        )
        logger.info("%s on %s data, seed %d: Dice %.1f in %.0f s", victim, data, seed, scores.mean, scores.seconds)
        return VictimRow.from_scores(
            data, victim, self.recipe.name, seed, scores, psnr=figures.get("psnr"), ssim=figures.get("ssim")
        )

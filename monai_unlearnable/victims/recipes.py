# SPDX-License-Identifier: Apache-2.0
"""How exploiters train: recipes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import monai.transforms as mt
import torch

from monai_unlearnable.countermeasures.base import Step
from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.pipelines import percentile_window
from monai_unlearnable.victims.batch_attacks import BatchAttack
from monai_unlearnable.victims.preprocessing import (
    KeepAffine,
    Placed,
    Preparation,
    Standardization,
    View,
)
from monai_unlearnable.victims.tasks import Task
from monai_unlearnable.victims.weight_attacks import SlowStem, WeightRecovery

__all__ = ["Recipe", "Step"]


@dataclass(frozen=True)
class Recipe:
    """How a victim is trained: AdamW with a one-cycle schedule, and these settings.

    Args:
        size: spatial size of the network input.
        iterations: training steps.
        batch_size: cases a step.
        learning_rate: peak of the one-cycle schedule.
        intensity: dictionary transforms of physical values to [0, 1], where countermeasures act; by default a window
            between percentiles of each channel.
        preparation: what follows on it, the same in training and test: the grid that the network sees, normalization.
        augmentation: MONAI dictionary transforms of prepared images (and labels), drawn anew at each step.
        patches: whether images may stay larger than ``size``: the augmentation cuts patches out of them, and they are
            predicted by a sliding window. Else they are cropped or padded around their center.
        mirrored: whether images are predicted as nnU-Net does it, see
            :class:`~monai_unlearnable.victims.prediction.MirroredInferer`; in classification they are not.
        weights: file to start from, see :func:`~monai_unlearnable.victims.weights.load_pretrained`.
        frozen: regular expression of parameter names that are not trained.
        adversary: attack that changes batches, to the worst of their neighborhood for instance.
        pace: how slowly shallow layers learn; None for all alike.
        recovery: search for better weights after the training, with a few clean cases.
        patience: validations without a better score on held-out training data after which to stop, with the weights
            that were best there; None trains to the end.
        name: name in tables.
    """

    size: tuple[int, ...]
    iterations: int = 500
    batch_size: int = 4
    learning_rate: float = 3e-3
    intensity: Sequence[Any] = field(default_factory=percentile_window)
    preparation: Preparation = field(default_factory=Standardization)
    augmentation: Sequence[Any] = field(default_factory=tuple)
    patches: bool = False
    mirrored: bool = False
    weights: str | None = None
    frozen: str | None = None
    adversary: BatchAttack | None = None
    pace: SlowStem | None = None
    recovery: WeightRecovery | None = None
    patience: int | None = None
    name: str = "plain"

    def check_weights(self) -> None:
        """Refuse to start from weights where no file is named.

        Raises:
            InputError: naming the recipe.
        """
        if self.weights == "":
            raise InputError(f"the recipe {self.name!r} starts from weights, and no file is named; give weights")

    def normalized_images(self, task: Task) -> mt.Compose:
        """Transforms from file names to images in [0, 1] on the grid of the file, the same for training and test."""
        return mt.Compose(
            [
                *task.loading(),
                KeepAffine(),
                *self.intensity,
                mt.EnsureTyped(task.keys, track_meta=False),
                mt.EnsureTyped("image", dtype=torch.float32, track_meta=False),
            ]
        )

    def preprocessing(self, task: Task, steps: Sequence[Step] = (), scored: bool = False) -> mt.Compose:
        """Transforms from file names to network input, the same for training and test.

        Args:
            task: task that reads the labels.
            steps: countermeasures on images in [0, 1].
            scored: whether label maps stay on the grid of the file, and the item gets an entry ``view`` that brings
                predictions there, see :class:`~monai_unlearnable.victims.prediction.Placement`.
        """
        keys = task.keys[:1] if scored else task.keys
        # Flat, because a CacheDataset takes a nested Compose for a random transform and would not cache its result.
        return mt.Compose(
            [
                *self.normalized_images(task).transforms,
                *steps,
                Placed(keys),
                *self.preparation.transforms(task, keys),
                *task.fitting(keys, self.size, whole=not self.patches),
                View(keep=scored),
                mt.EnsureTyped(task.keys, track_meta=False),
            ]
        )

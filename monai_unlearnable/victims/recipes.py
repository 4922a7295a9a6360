# SPDX-License-Identifier: Apache-2.0
"""How an exploiter prepares data and trains; a recipe knows nothing of how noise was made."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from monai.transforms import (
    ClipIntensityPercentilesd,
    Compose,
    EnsureTyped,
    NormalizeIntensityd,
    ScaleIntensityd,
    Transform,
)

from monai_unlearnable.victims.adversarial import AdversarialBatch
from monai_unlearnable.victims.tasks import Task

__all__ = ["Recipe"]

Step = Callable[[dict[str, Any]], dict[str, Any]]


class _Spacing(Transform):
    """Keeps the voxel size that later transforms forget."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        dims = d["image"].ndim - 1
        d["spacing"] = d["image"].pixdim[:dims].float()
        return d


@dataclass(frozen=True)
class Recipe:
    """How a victim is trained: percentile window, z-score, AdamW with a one-cycle schedule, and what is set here.

    Args:
        size: spatial size of the network input.
        iterations: training steps.
        batch_size: cases a step.
        learning_rate: peak of the one-cycle schedule.
        augmentation: MONAI dictionary transforms on z-scored images (and labels), applied anew at each step.
        patches: whether images may stay larger than ``size``: the augmentation cuts patches out of them, and they are
            predicted by a sliding window. Else they are cropped around their center.
        weights: file to start from, see :func:`~monai_unlearnable.victims.finetune.load_pretrained`.
        frozen: regular expression of parameter names that are not trained.
        adversary: changes batches to the worst of their neighborhood.
        patience: stop when the score on held-out training data has not risen for so many looks, and keep the weights
            that were best there; None trains to the end.
        name: for tables.
    """

    size: tuple[int, ...]
    iterations: int = 500
    batch_size: int = 4
    learning_rate: float = 3e-3
    augmentation: Sequence[Any] = field(default_factory=tuple)
    patches: bool = False
    weights: str | None = None
    frozen: str | None = None
    adversary: AdversarialBatch | None = None
    patience: int | None = None
    name: str = "plain"

    def unit_images(self, task: Task) -> Compose:
        """Transforms from file names to images in [0, 1], the same for training and test."""
        return Compose(
            [
                *task.loading(),
                _Spacing(),
                ClipIntensityPercentilesd("image", 0.5, 99.5, channel_wise=True),
                ScaleIntensityd("image", channel_wise=True),
                EnsureTyped(task.keys, track_meta=False),
                EnsureTyped("image", dtype=torch.float32, track_meta=False),
            ]
        )

    def preprocessing(self, task: Task, steps: Sequence[Step] = ()) -> Compose:
        """Transforms from file names to network input, the same for training and test.

        Args:
            task: reads the labels.
            steps: countermeasures on images in [0, 1].
        """
        # Flat, because a CacheDataset takes a nested Compose for a random transform and would not cache its result.
        return Compose(
            [
                *self.unit_images(task).transforms,
                *steps,
                NormalizeIntensityd("image", channel_wise=True),
                *task.fitting(self.size, whole=not self.patches),
                EnsureTyped(task.keys, track_meta=False),
            ]
        )

    def augmented(self, task: Task, steps: Sequence[Step] = ()) -> Compose:
        """Transforms from file names to training input."""
        return Compose([*self.preprocessing(task, steps).transforms, *self.augmentation])

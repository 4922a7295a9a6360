# SPDX-License-Identifier: Apache-2.0
"""What a victim is trained for: how labels are read, what is minimized, what its outputs score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer, SimpleInferer, SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.transforms import MapLabelValued, Resized, ResizeWithPadOrCropd, SpatialPadd
from torch import Tensor, nn

from monai_unlearnable.errors import LabelError
from monai_unlearnable.metrics.classification import chance_level, classification_scores
from monai_unlearnable.metrics.protection import Scores
from monai_unlearnable.metrics.segmentation import segmentation_scores
from monai_unlearnable.victims.adapters import DeepSupervision
from monai_unlearnable.victims.reading import load_images

__all__ = ["Task", "Segmentation", "Classification"]


class Task(ABC):
    """A kind of prediction.

    Attributes:
        metric: name of the score, for tables.
        classes: outputs of the network.
        keys: what spatial transforms act on.
    """

    metric: str
    keys: tuple[str, ...]

    @property
    @abstractmethod
    def classes(self) -> int:
        """Outputs of the network."""

    @property
    @abstractmethod
    def chance(self) -> float:
        """Score of a model that has learned nothing, in percent."""

    @property
    @abstractmethod
    def loss(self) -> nn.Module:
        """What training minimizes: a function of logits (B, classes, ...) and labels."""

    @abstractmethod
    def loading(self) -> list[Any]:
        """Transforms from file names to an image (C, spatial...) and its label."""

    @abstractmethod
    def fitting(self, size: Sequence[int], whole: bool) -> list[Any]:
        """Transforms that bring images to a network's input.

        Args:
            size: of the input.
            whole: whether all of the image has to be in it; else it may stay larger.
        """

    @abstractmethod
    def inferer(self, size: Sequence[int]) -> Inferer:
        """How a network whose input has ``size`` predicts an image that may be larger."""

    @abstractmethod
    def decode(self, logits: Tensor) -> Tensor:
        """What is kept of the logits (classes, ...) of one case."""

    @abstractmethod
    def score(self, outputs: Sequence[Tensor], labels: Sequence[Tensor], spacings: Sequence[Any] | None) -> Scores:
        """Score decoded outputs.

        Args:
            outputs: one of :meth:`decode` a case.
            labels: what is true, one a case.
            spacings: voxel sizes in mm, one a case; None where distances do not matter now.

        Raises:
            InputError: when there is nothing to score on.
        """


@dataclass(frozen=True)
class Segmentation(Task):
    """A class for every voxel.

    Args:
        label_values: stored label value of each class, background first.
    """

    label_values: tuple[int, ...]
    metric = "Dice"
    keys = ("image", "label")
    chance = 0.0

    @property
    def classes(self) -> int:
        return len(self.label_values)

    @property
    def loss(self) -> nn.Module:
        return DeepSupervision(DiceCELoss(softmax=True, to_onehot_y=True, include_background=False))

    def loading(self) -> list[Any]:
        return [
            load_images(self.keys),
            MapLabelValued("label", self.label_values, range(self.classes), dtype=np.uint8),
        ]

    def fitting(self, size: Sequence[int], whole: bool) -> list[Any]:
        return [(ResizeWithPadOrCropd if whole else SpatialPadd)(self.keys, size)]

    def inferer(self, size: Sequence[int]) -> Inferer:
        return SlidingWindowInferer(tuple(size), sw_batch_size=4)

    def decode(self, logits: Tensor) -> Tensor:
        return logits.argmax(0).to(torch.uint8)

    def score(self, outputs: Sequence[Tensor], labels: Sequence[Tensor], spacings: Sequence[Any] | None) -> Scores:
        return segmentation_scores(outputs, labels, self.classes, spacings, distances=spacings is not None)


@dataclass(frozen=True)
class Classification(Task):
    """A class for every image.

    Args:
        count: number of classes.
    """

    count: int
    metric = "balanced accuracy"
    keys = ("image",)

    def __post_init__(self) -> None:
        if self.count < 2:
            raise LabelError(
                f"{self.count} class(es) found; a classifier needs at least two", value=self.count, limit=2
            )

    @property
    def classes(self) -> int:
        return self.count

    @property
    def chance(self) -> float:
        return chance_level(self.count)

    @property
    def loss(self) -> nn.Module:
        return nn.CrossEntropyLoss()

    def loading(self) -> list[Any]:
        return [load_images(self.keys)]

    def fitting(self, size: Sequence[int], whole: bool) -> list[Any]:
        return [Resized(self.keys, size, mode="area")]

    def inferer(self, size: Sequence[int]) -> Inferer:
        return SimpleInferer()

    def decode(self, logits: Tensor) -> Tensor:
        return logits.float().softmax(0)

    def score(self, outputs: Sequence[Tensor], labels: Sequence[Tensor], spacings: Sequence[Any] | None) -> Scores:
        targets = np.array([int(label) for label in labels])
        return classification_scores(torch.stack(list(outputs)).numpy(), targets)

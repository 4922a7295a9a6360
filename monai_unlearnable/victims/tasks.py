# SPDX-License-Identifier: Apache-2.0
"""Segmentation and classification: how cases are read, what is learned, how it is scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer, SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.transforms import CastToTyped, Resized, ResizeWithPadOrCropd, Transform
from monai.utils import ensure_tuple
from torch import Tensor, nn

from monai_unlearnable.data import LabelGeometry, encode_label, read_label, read_scan
from monai_unlearnable.data.labels import index_dtype
from monai_unlearnable.data.scan import filled_channels
from monai_unlearnable.errors import LabelError
from monai_unlearnable.metrics.scores import Scores
from monai_unlearnable.metrics.scoring import chance_level, classification_scores, multitask_scores, segmentation_scores
from monai_unlearnable.utils.enums import CaseKeys
from monai_unlearnable.utils.heads import TaskHeads
from monai_unlearnable.victims.networks import DeepSupervision
from monai_unlearnable.victims.prediction import MirroredInferer, Placement

__all__ = ["Classification", "LoadImages", "MultiTaskClassification", "Segmentation", "Task"]


class LoadImages(Transform):
    """Reads images and their label maps as ``protect`` does: physical values in float32, class indices, channels first.

    Several files of one case become the channels of one image. Voxels that hold no data, such as NaN and the padding
    around a CT, get its lowest value.

    Args:
        keys: entries that hold paths: the image, and the label map where there is one.
        label_values: stored label value of each class, background first; needed where there is a label map.
        channels: number of channels of the images, of which gray pictures among color ones get three equal ones; by
            default that of the files.
    """

    def __init__(self, keys: KeysCollection, label_values: Sequence[int] = (), channels: int | None = None) -> None:
        self.keys, self.label_values, self.channels = ensure_tuple(keys), tuple(label_values), channels

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Read what the keys name; other entries stay."""
        image, *labels = self.keys
        scans = [read_scan(path) for path in ensure_tuple(data[image])]
        read = {image: filled_channels(scans, self.channels)}
        for key in labels:
            path, case = Path(data[key]), data.get(CaseKeys.CASE_ID)
            label = read_label(path, scans, case, LabelGeometry.IGNORE)
            read[key] = encode_label(label, self.label_values, case, path)
        affine = torch.from_numpy(scans[0].affine)
        return {**data, **{key: MetaTensor(torch.from_numpy(array), affine=affine) for key, array in read.items()}}


class Task(ABC):
    """A kind of prediction.

    Attributes:
        metric: name of the score, for tables.
        keys: entries that spatial transforms act on.
        victim: network that is trained for it where none is named.
    """

    metric: str
    keys: tuple[str, ...]
    victim: str

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

    def adapted(self, network: nn.Module) -> nn.Module:
        """A network of :attr:`classes` outputs as the task trains it."""
        return network

    @abstractmethod
    def loading(self) -> list[Any]:
        """Transforms from file names to an image (C, spatial...) and its label."""

    @abstractmethod
    def fitting(self, keys: Sequence[str], size: Sequence[int], whole: bool) -> list[Any]:
        """Transforms that bring images to a network's input.

        Args:
            keys: the image, and the label map where it goes along.
            size: spatial size of the input.
            whole: whether it holds the whole image; else patches are cut out later, from images of any size.
        """

    @abstractmethod
    def inferer(self, size: Sequence[int], mirrored: bool = False) -> Inferer:
        """How a network whose input has ``size`` predicts an image of any size.

        Args:
            size: spatial size of the input.
            mirrored: whether to do it as nnU-Net does, where that can be done.
        """

    @abstractmethod
    def decode(self, logits: Tensor, placement: Placement) -> Tensor:
        """What is kept of the logits of one case.

        Args:
            logits: output of the network (classes, ...).
            placement: where its input lies in the image of the file.
        """

    @abstractmethod
    def score(self, outputs: Sequence[Tensor], labels: Sequence[Tensor], spacings: Sequence[Any] | None) -> Scores:
        """Score decoded outputs.

        Args:
            outputs: results of :meth:`decode`, one a case.
            labels: true labels, one a case.
            spacings: voxel sizes in mm, one a case; None where distances do not matter now.

        Raises:
            InputError: when there is nothing to score on.
        """


@dataclass(frozen=True)
class Segmentation(Task):
    """A class for every voxel.

    Args:
        label_values: stored label value of each class, background first.
        channels: number of channels of the images, see :class:`LoadImages`.
    """

    label_values: tuple[int, ...]
    channels: int | None = field(default=None, repr=False)  # the keys of kept runs hold the rest
    metric = "Dice"
    keys = ("image", "label")
    victim = "UNet"
    chance = 0.0

    @property
    def classes(self) -> int:
        return len(self.label_values)

    @property
    def loss(self) -> nn.Module:
        return DeepSupervision(DiceCELoss(softmax=True, to_onehot_y=True, include_background=False))

    def loading(self) -> list[Any]:
        return [LoadImages(self.keys, self.label_values, self.channels)]

    def fitting(self, keys: Sequence[str], size: Sequence[int], whole: bool) -> list[Any]:
        fit = [ResizeWithPadOrCropd(keys, size)] if whole else []
        # resampled labels are of another type
        return [*fit, *(CastToTyped(key, self._dtype) for key in keys[1:])]

    def inferer(self, size: Sequence[int], mirrored: bool = False) -> Inferer:
        return MirroredInferer(size) if mirrored else SlidingWindowInferer(tuple(size), sw_batch_size=4)

    @property
    def _dtype(self) -> torch.dtype:
        return torch.from_numpy(np.empty(0, index_dtype(self.classes))).dtype

    def decode(self, logits: Tensor, placement: Placement) -> Tensor:
        """Classes (spatial...) of the voxels of the file, background where the network saw nothing."""
        # on a CPU max takes a tenth of the time of argmax
        return placement.classes(logits, lambda values: values.max(0).indices.to(self._dtype))

    def score(self, outputs: Sequence[Tensor], labels: Sequence[Tensor], spacings: Sequence[Any] | None) -> Scores:
        return segmentation_scores(outputs, labels, self.classes, spacings, distances=spacings is not None)


@dataclass(frozen=True)
class Classification(Task):
    """A class for every image.

    Args:
        count: number of classes, at least 2.
        channels: number of channels of the images, see :class:`LoadImages`.
    """

    count: int
    channels: int | None = field(default=None, repr=False)
    metric = "balanced accuracy"
    keys = ("image",)
    victim = "ResNet18"

    def __post_init__(self) -> None:
        if self.count < 2:
            reason = f"{self.count} class(es) found; a classifier needs at least two"
            raise LabelError(reason, value=self.count, limit=2)

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
        return [LoadImages(self.keys, channels=self.channels)]

    def fitting(self, keys: Sequence[str], size: Sequence[int], whole: bool) -> list[Any]:
        return [Resized(keys, size, mode="area")]

    def inferer(self, size: Sequence[int], mirrored: bool = False) -> Inferer:
        return SimpleInferer()

    def decode(self, logits: Tensor, placement: Placement) -> Tensor:
        """Probabilities of the classes."""
        return logits.float().softmax(0)

    def score(self, outputs: Sequence[Tensor], labels: Sequence[Tensor], spacings: Sequence[Any] | None) -> Scores:
        targets = np.array([int(label) for label in labels])
        return classification_scores(torch.stack(list(outputs)).numpy(), targets)


@dataclass(frozen=True)
class MultiTaskClassification(Classification):
    """A class for every image in each of several tasks, by one network with a head for each.

    Args:
        count: number of classes of all tasks together.
        channels: number of channels of the images, see :class:`LoadImages`.
        tasks: number of classes of each task, at least 2, by its name; in sorted order.
    """

    tasks: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, tasks: Mapping[str, int], channels: int | None = None) -> MultiTaskClassification:
        """A classifier of several tasks.

        Args:
            tasks: number of classes of each task, by its name.
            channels: number of channels of the images, see :class:`LoadImages`.

        Raises:
            LabelError: naming the first task that has a single class.
        """
        for task, count in tasks.items():
            if count < 2:
                reason = f"task {task}: {count} class(es) found; a classifier needs at least two"
                raise LabelError(reason, value=count, limit=2)
        return cls(sum(tasks.values()), channels, tuple(sorted(tasks.items())))

    @property
    def chance(self) -> float:
        return float(np.mean([chance_level(count) for _, count in self.tasks]))

    def adapted(self, network: nn.Module) -> nn.Module:
        return TaskHeads(network, [count for _, count in self.tasks])

    def decode(self, logits: Tensor, placement: Placement) -> Tensor:
        """Probabilities of the classes of each task, (classes, tasks), where the task with the most classes counts."""
        return super().decode(logits, placement)

    def score(self, outputs: Sequence[Tensor], labels: Sequence[Tensor], spacings: Sequence[Any] | None) -> Scores:
        found, truth = torch.stack(list(outputs)), torch.stack([torch.as_tensor(label) for label in labels])
        ranks = {task: found[:, :count, index] for index, (task, count) in enumerate(self.tasks)}
        return multitask_scores(ranks, {task: truth[:, index] for index, (task, _) in enumerate(self.tasks)})

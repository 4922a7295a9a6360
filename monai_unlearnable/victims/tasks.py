# SPDX-License-Identifier: Apache-2.0
"""Segmentation and classification: how cases are read, what is learned, how it is scored."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import ImageReader, MetaTensor
from monai.inferers import Inferer, SimpleInferer, SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.transforms import LoadImaged, MapLabelValued, Resized, ResizeWithPadOrCropd, SpatialPadd, Transform
from monai.utils import ensure_tuple
from numpy.typing import NDArray
from torch import Tensor, nn

from monai_unlearnable.data import read_scan
from monai_unlearnable.data.dicom import DicomFormat, is_annotation
from monai_unlearnable.data.formats import read_label_scan
from monai_unlearnable.data.scan import Scan
from monai_unlearnable.errors import LabelError
from monai_unlearnable.metrics.frontier import Scores
from monai_unlearnable.metrics.scores import chance_level, classification_scores, segmentation_scores
from monai_unlearnable.victims.networks import DeepSupervision

__all__ = ["DicomReader", "load_images", "Task", "Segmentation", "Classification"]


class DicomReader(ImageReader):
    """Reads a series or a file with the axes x, y, z of its NIfTI twin, so that label maps lie on it.

    MONAI's own reader takes instance numbers for the order of slices, which is the opposite one in many series.
    """

    def verify_suffix(self, filename: Any) -> bool:
        """Whether all names are folders, or end as DICOM files do."""
        paths = [Path(name) for name in ensure_tuple(filename)]
        return all(path.is_dir() or path.name.lower().endswith(DicomFormat.suffixes) for path in paths)

    def read(self, data: Any, **options: Any) -> list[Scan]:
        """Read a series, or several as channels of one image."""
        return [DicomFormat().read(Path(name)) for name in ensure_tuple(data)]

    def get_data(self, img: Sequence[Scan]) -> tuple[NDArray, dict[str, Any]]:
        """Physical values (C, spatial...), and what MONAI's pipelines want to know of them."""
        affine, shape = img[0].affine, np.asarray(img[0].spatial_shape)
        meta = {"affine": affine, "original_affine": affine, "spatial_shape": shape, "original_channel_dim": 0}
        return np.concatenate([np.ascontiguousarray(scan.physical()) for scan in img]), meta


class LoadImages(Transform):
    """Reads images and label maps, channels first; a label that is a DICOM segmentation on the grid of the image.

    Args:
        keys: of the entries that hold paths, those of images before those of labels.
    """

    def __init__(self, keys: KeysCollection) -> None:
        self.keys = ensure_tuple(keys)
        self.load = {key: _load_image(key) for key in self.keys}

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Read what the keys name; other entries stay."""
        d, image = dict(data), self.keys[0]
        annotations = [key for key in self.keys if isinstance(d[key], (str, Path)) and is_annotation(Path(d[key]))]
        if annotations:
            scans = [read_scan(path) for path in ensure_tuple(d[image])]
            d[image] = _as_tensor(scans)
            d |= {key: _as_tensor([read_label_scan(Path(d[key]), scans)]) for key in annotations}
        for key in self.keys:
            if not isinstance(d[key], MetaTensor):
                d = self.load[key](d)
        return d


def _as_tensor(scans: Sequence[Scan]) -> MetaTensor:
    return cast(MetaTensor, MetaTensor.ensure_torch_and_prune_meta(*DicomReader().get_data(scans)))


def load_images(keys: KeysCollection) -> Transform:
    """The transform that reads images and label maps, channels first."""
    return LoadImages(keys)


def _load_image(key: str) -> LoadImaged:
    with warnings.catch_warnings():
        # MONAI makes all of its readers, one of which looks for a decoder that needs a GPU.
        warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
        load = LoadImaged(key, image_only=True, ensure_channel_first=True)
    load.register(DicomReader())
    return load


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

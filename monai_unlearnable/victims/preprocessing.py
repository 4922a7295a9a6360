# SPDX-License-Identifier: Apache-2.0
"""From images in [0, 1] on the grid of their file to what a network sees: grid, crop and normalization."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import monai.transforms as mt
import torch
from monai.data import MetaTensor
from monai.utils import convert_to_tensor
from torch import Tensor

from monai_unlearnable.data import spatial_affine
from monai_unlearnable.utils.pipelines import percentile_window
from monai_unlearnable.victims.resampling import ResampleSpacingd
from monai_unlearnable.victims.tasks import Task

__all__ = ["KeepAffine", "MonaiPreparation", "NnunetPreparation", "Placed", "Preparation", "Standardization", "View"]
__all__ += ["percentile_window"]  # which recipes of the catalog name here

AFFINE, SPACING, VIEW = "affine", "spacing", "view"  # entries of a sample
RAS = (("L", "R"), ("P", "A"), ("I", "S"))  # MONAI's default, which it asks to be named


class KeepAffine(mt.Transform):
    """Keeps what later transforms forget: where the voxels of the file lie, and their size in mm."""

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        image = data["image"]
        dims = image.ndim - 1
        affine = torch.from_numpy(spatial_affine(image.affine.numpy(), dims))
        return {**data, AFFINE: affine, SPACING: image.pixdim[:dims].float()}


class Placed(mt.MapTransform):
    """Images that know where they lie, for transforms that turn, resample, crop or pad them.

    Args:
        keys: images and label maps (C, spatial...) on the grid of the file.
    """

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        affine = data[AFFINE]
        plain = {key: convert_to_tensor(data[key], track_meta=False) for key in self.keys}
        return {**data, **{key: MetaTensor(image, affine=affine) for key, image in plain.items()}}


class View(mt.Transform):
    """Replaces the place of the file's voxels by the matrix from their indices to those of the network's input.

    Args:
        keep: whether predictions are to be brought back; else nothing is kept.
    """

    def __init__(self, keep: bool) -> None:
        self.keep = keep

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        rest = {name: value for name, value in data.items() if name != AFFINE}
        if not self.keep:
            return rest
        file, own = data[AFFINE], data["image"].affine
        return {**rest, VIEW: torch.linalg.solve(own.double(), file.double())}


class Preparation(ABC):
    """What is done to images in [0, 1] before they are cut or padded to a network's input."""

    @abstractmethod
    def transforms(self, task: Task, keys: Sequence[str]) -> list[Any]:
        """Dictionary transforms of images and label maps that know where they lie, see :class:`Placed`.

        Args:
            task: task of the network.
            keys: the image, and the label map where it goes along.
        """


@dataclass(frozen=True)
class Standardization(Preparation):
    """z-scores of each channel, on the grid of the file."""

    def transforms(self, task: Task, keys: Sequence[str]) -> list[Any]:
        return [mt.NormalizeIntensityd(keys[0], channel_wise=True)]


@dataclass(frozen=True)
class MonaiPreparation(Preparation):
    """The grid of MONAI's segmentation tutorials: foreground, axes to the right, front and top, one spacing.

    Intensities stay in [0, 1]. Images of whole classes stay as they are.

    Args:
        spacing: distance of voxels along the axes to the right, front and top, in mm; along the axes of 2D images.
    """

    spacing: Sequence[float]

    def transforms(self, task: Task, keys: Sequence[str]) -> list[Any]:
        if len(task.keys) == 1:
            return []
        turn = [mt.Orientationd(keys, axcodes="RAS", labels=RAS)] if len(self.spacing) == 3 else []
        return [
            mt.CropForegroundd(keys, source_key=keys[0], select_fn=_foreground, allow_smaller=True),
            *turn,
            mt.Spacingd(keys, pixdim=self.spacing, mode=("bilinear", "nearest")[: len(keys)]),
        ]


@dataclass(frozen=True)
class NnunetPreparation(Preparation):
    """nnU-Net's preprocessing: a crop to what is not zero, z-scores of each channel, one spacing.

    Intensities begin at the lowest one of the scan, see :func:`percentile_window` with 0 and 100: that counts as zero.
    Images of whole classes keep their grid.

    Args:
        spacing: distance of voxels along the axes of the file, in mm, see
            :func:`~monai_unlearnable.data.grids.nnunet_spacing`.
        within: whether z-scores are those of what is not zero, where zero stays: nnU-Net's rule for sets that are
            smaller by a quarter after the crop, such as skulls that were stripped.
    """

    spacing: Sequence[float]
    within: bool = False

    def transforms(self, task: Task, keys: Sequence[str]) -> list[Any]:
        score = mt.NormalizeIntensityd(keys[0], nonzero=self.within, channel_wise=True)
        if len(task.keys) == 1:
            return [score]
        crop = mt.CropForegroundd(keys, source_key=keys[0], select_fn=_foreground, allow_smaller=True)
        return [crop, score, ResampleSpacingd(keys, self.spacing, label_key=keys[1] if len(keys) > 1 else None)]


def _foreground(image: Tensor) -> Tensor:
    """What is above the lowest intensity; of an empty image everything."""
    found = image > 0
    return found if found.any() else torch.ones_like(found)

# SPDX-License-Identifier: Apache-2.0
"""From images in [0, 1] on the grid of their file to what a network sees: grid, crop and normalization."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import monai.transforms as mt
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.utils import convert_to_tensor
from monai.utils.enums import TransformBackends
from numpy.typing import NDArray
from scipy.ndimage import zoom
from torch import Tensor

from monai_unlearnable.data import RAS, spatial_affine
from monai_unlearnable.data.grids import thick_axis
from monai_unlearnable.utils.pipelines import percentile_window
from monai_unlearnable.victims.tasks import Task

__all__ = ["KeepAffine", "MonaiPreparation", "NnunetPreparation", "Placed", "Preparation", "Standardization", "View"]
__all__ += ["ResampleSpacingD", "ResampleSpacingDict", "ResampleSpacingd"]
__all__ += ["percentile_window"]  # which recipes of the catalog name here

AFFINE, SPACING, VIEW = "affine", "spacing", "view"  # entries of a sample
TIE = 1e-4  # fractions that differ by less are equal


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


class ResampleSpacingd(mt.MapTransform):
    """Resamples as nnU-Net v2 does, with half voxels at the ends.

    Images are interpolated by cubic splines and clipped to their range, label maps by the class with the largest
    linearly interpolated fraction. Volumes whose spacing differs more than threefold between axes, before or else
    after, are interpolated within the slices, and each slice is taken from the nearest one.

    Args:
        keys: images and label maps (C, spatial...) that know where they lie, as MetaTensor.
        spacing: distance of voxels along each axis, in mm.
        label_key: entry with class indices, where there is one.
        allow_missing_keys: whether keys may be absent.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        keys: KeysCollection,
        spacing: Sequence[float],
        label_key: str | None = "label",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spacing, self.label_key = np.array(spacing, float), label_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._resampled(d[key], key == self.label_key)
        return d

    def _resampled(self, image: MetaTensor, is_label: bool) -> MetaTensor:
        shape, own = np.array(image.shape[1:]), image.pixdim.numpy()
        size = [max(1, round(extent)) for extent in shape * own / self.spacing]
        if (shape == size).all():
            return image
        thick = thick_axis(own.tolist())
        across = thick_axis(self.spacing.tolist()) if thick is None else thick
        if is_label:
            values = np.stack([_classes(channel, size, across) for channel in image.numpy()])
        else:
            doubles = image.numpy().astype(np.float64)
            values = np.stack([_zoom(channel, size, 3, across) for channel in doubles]).astype(np.float32)
        ratio = shape / size
        change = np.diag([*ratio, 1.0])
        change[:-1, -1] = (ratio - 1) / 2
        return MetaTensor(torch.from_numpy(values), affine=image.affine @ torch.from_numpy(change))


def _classes(channel: NDArray, size: Sequence[int], across: int | None) -> NDArray:
    """The class with the largest fraction; of equal ones that of the nearest voxel, if it is among them."""
    nearest = _spline(channel, size, 0)
    best, result = np.full(size, -1.0), np.zeros(size, channel.dtype)
    for value in np.unique(channel):
        fraction = _zoom((channel == value).astype(np.float64), size, 1, across) + TIE * (nearest == value)
        result[fraction > best], best = value, np.maximum(fraction, best)
    return result


def _zoom(values: NDArray, size: Sequence[int], order: int, across: int | None) -> NDArray:
    """Splines within the range of values; across slices the nearest one, each of them within its own range."""
    axes = tuple(axis for axis in range(values.ndim) if axis != across)
    within = [size[axis] if axis in axes else extent for axis, extent in enumerate(values.shape)]
    low, high = values.min(axes, keepdims=True), values.max(axes, keepdims=True)
    return _spline(_spline(values, within, order).clip(low, high), size, 0)


def _spline(values: NDArray, size: Sequence[int], order: int) -> NDArray:
    if values.shape == tuple(size):
        return values
    return zoom(values, np.divide(size, values.shape), order=order, mode="nearest", grid_mode=True)


ResampleSpacingD = ResampleSpacingDict = ResampleSpacingd


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

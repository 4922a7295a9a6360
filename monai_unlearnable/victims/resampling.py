# SPDX-License-Identifier: Apache-2.0
"""nnU-Net's resampling to one spacing: the target, and cubic interpolation within, not across thick slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils.enums import TransformBackends
from numpy.typing import NDArray
from scipy.ndimage import zoom

from monai_unlearnable.data.grids import thick_axis

__all__ = ["ResampleSpacingD", "ResampleSpacingDict", "ResampleSpacingd"]

TIE = 1e-4  # fractions that differ by less are equal


class ResampleSpacingd(MapTransform):
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

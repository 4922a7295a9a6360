# SPDX-License-Identifier: Apache-2.0
"""Masks from labels: regions, contours, texture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_unlearnable.masks.base import MaskProvider, max_filter

__all__ = ["Roi", "ContourBand", "OfClasses", "TextureMap", "local_deviation"]


def _dilate(mask: Tensor, radius: int) -> Tensor:
    """Dilation of each channel by ``radius`` voxels in Chebyshev distance; voxels beyond the border count as absent."""
    return max_filter(mask, radius)


def _erode(mask: Tensor, radius: int) -> Tensor:
    """Erosion, the dual of :func:`_dilate`: the border of the image is no contour."""
    return 1 - _dilate(1 - mask, radius)


def _classes(label: Tensor) -> Tensor:
    """One channel a class present, without the background: (B, 1, spatial...) -> (B, K, spatial...), float."""
    present = torch.unique(label)
    present = present[present > 0]
    shape = (1, -1, *[1] * (label.ndim - 2))
    return (label == present.reshape(shape)).float()


@dataclass(frozen=True)
class Roi(MaskProvider):
    """The foreground of the label.

    Args:
        margin: voxels by which the region is dilated (Chebyshev distance).
    """

    margin: int = 0

    def mask(self, image: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        return _dilate((label > 0).float(), self.margin)


@dataclass(frozen=True)
class ContourBand(MaskProvider):
    """A band around the contour of every class: dilation minus erosion per class, united over the classes.

    Taken per class, so that borders between two classes count as contours too (UMed, arXiv 2403.14250, uses a
    half-width of 3 on both sides).

    Args:
        inner: voxels that the band reaches into a class.
        outer: voxels that it reaches out of the class.
    """

    inner: int = 3
    outer: int = 3

    def mask(self, image: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        classes = _classes(label)
        if classes.shape[1] == 0:
            return torch.zeros_like(image[:, :1])
        band = _dilate(classes, self.outer) - _erode(classes, self.inner)
        return band.amax(dim=1, keepdim=True)


@dataclass(frozen=True)
class OfClasses(MaskProvider):
    """The voxels of some classes, or the whole of the images of some classes.

    ``Everywhere() & ~OfClasses([1])`` leaves class 1 unperturbed. Models then learn the absence of noise as evidence
    for it, and take all clean images for that class.

    Args:
        kinds: the classes.
    """

    kinds: Sequence[int]
    of_images = True

    def mask(self, image: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        chosen = torch.isin(label, torch.tensor(list(self.kinds), device=label.device)).float()
        return chosen.reshape(-1, *[1] * (image.ndim - 1)).expand_as(image[:, :1]) if label.ndim == 1 else chosen


@dataclass(frozen=True)
class TextureMap(MaskProvider):
    """Local standard deviation, 1 where it reaches ``saturation`` times its mean over the image.

    Stands in for the local binary pattern of UMed (our choice): it is zero, not maximal, on constant regions.

    Args:
        radius: half-width of the neighborhood in voxels.
        saturation: multiple of the mean local deviation from which the map is 1.
        floor: smallest value of the map, in [0, 1]; 1 turns the map off.
    """

    radius: int = 1
    saturation: float = 1.0
    floor: float = 0.0

    needs_label = False

    def mask(self, image: Tensor, label: Tensor | None) -> Tensor:
        spatial = tuple(range(1, image.ndim))
        deviation = local_deviation(image, self.radius).mean(1, keepdim=True)
        typical = self.saturation * deviation.mean(spatial, keepdim=True)
        texture = (deviation / typical.clamp(min=1e-12)).clamp(max=1)
        return self.floor + (1 - self.floor) * texture


def local_deviation(image: Tensor, radius: int) -> Tensor:
    """Standard deviation over the neighborhood of each voxel, exactly zero where that is constant.

    Args:
        image: (B, C, spatial...).
        radius: half-width of the neighborhood in voxels.
    """
    mean = _local_mean(image, radius)
    variance = (_local_mean(image * image, radius) - mean * mean).clamp(min=0)
    return variance.masked_fill(_flat(image, radius), 0).sqrt()


def _flat(image: Tensor, radius: int) -> Tensor:
    """Where the neighborhood is constant: the variance there is a rounding error, not 0."""
    return max_filter(image, radius) == -max_filter(-image, radius)


def _local_mean(image: Tensor, radius: int) -> Tensor:
    pool = F.avg_pool2d if image.ndim == 4 else F.avg_pool3d
    return pool(image, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)

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


@dataclass(frozen=True)
class Roi(MaskProvider):
    """The foreground of the label.

    Args:
        margin: voxels by which the region is dilated (Chebyshev distance).
    """

    margin: int = 0

    def mask(self, image: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        return max_filter((label > 0).float(), self.margin)


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
        present = torch.unique(label)
        present = present[present > 0]
        if not len(present):
            return torch.zeros_like(image[:, :1])
        classes = (label == present.reshape(1, -1, *[1] * (label.ndim - 2))).float()
        # The border of the image is no contour: voxels beyond it count for neither filter.
        band = max_filter(classes, self.outer) - (1 - max_filter(1 - classes, self.inner))
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

    def local_mean(values: Tensor) -> Tensor:
        pool = F.avg_pool2d if values.ndim == 4 else F.avg_pool3d
        return pool(values, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)

    mean = local_mean(image)
    variance = (local_mean(image * image) - mean * mean).clamp(min=0)
    is_constant = max_filter(image, radius) == -max_filter(-image, radius)  # the variance there is a rounding error
    return variance.masked_fill(is_constant, 0).sqrt()

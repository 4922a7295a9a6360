# SPDX-License-Identifier: Apache-2.0
"""A mask that follows the image: more noise where texture hides it."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from monai_unlearnable.masks.base import MaskProvider
from monai_unlearnable.masks.filters import max_filter

__all__ = ["TextureMap", "local_deviation"]


@dataclass(frozen=True)
class TextureMap(MaskProvider):
    """Local standard deviation, 1 where it reaches ``saturation`` times its mean over the image.

    Stands in for the local binary pattern of UMed (our choice): it is zero, not maximal, on constant regions.

    Args:
        radius: half-width of the neighborhood in sites.
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
    """Standard deviation over the neighborhood of each site, exactly zero where that is constant.

    Args:
        image: (B, C, spatial...).
        radius: half-width of the neighborhood in sites.
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

# SPDX-License-Identifier: Apache-2.0
"""Filters that masks are made with."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["max_filter"]


def max_filter(image: Tensor, radius: int) -> Tensor:
    """The largest value within ``radius`` sites along every axis; sites beyond the border do not count.

    One axis after the other: a cube of side n costs 3n instead of n cubed, and gives the very same values.

    Args:
        image: (B, C, spatial...), 2D or 3D.
        radius: half-width of the neighborhood in sites (Chebyshev distance).
    """
    pool = F.max_pool2d if image.ndim == 4 else F.max_pool3d
    for axis in range(image.ndim - 2 if radius else 0):
        size = [1 + 2 * radius * (axis == other) for other in range(image.ndim - 2)]
        image = pool(image, size, stride=1, padding=[extent // 2 for extent in size])
    return image

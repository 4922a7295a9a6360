# SPDX-License-Identifier: Apache-2.0
"""What an exploiter's pipeline does to an image before the network sees it, differentiable."""

from __future__ import annotations

from torch import Tensor

__all__ = ["standardize"]


def standardize(image: Tensor) -> Tensor:
    """Zero mean and unit variance of each channel of each image, (B, C, spatial...)."""
    spatial = tuple(range(2, image.ndim))
    mean, std = image.mean(spatial, keepdim=True), image.std(spatial, keepdim=True)
    return (image - mean) / std.clamp(min=1e-6)

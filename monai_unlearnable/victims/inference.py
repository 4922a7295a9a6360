# SPDX-License-Identifier: Apache-2.0
"""Prediction of images as nnU-Net does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, combinations
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor

__all__ = ["MirroredInferer"]


class MirroredInferer(SlidingWindowInferer):
    """nnU-Net's prediction: windows at half steps with Gaussian weights, each the mean over all its mirrored copies.

    Args:
        size: spatial size of the network's input.
    """

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__(tuple(size), sw_batch_size=4, overlap=0.5, mode="gaussian")

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Logits (B, classes, spatial...) of images (B, C, spatial...)."""
        axes = range(2, inputs.ndim)
        ways = list(chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1)))

        def mean(windows: Tensor, *more: Any, **named: Any) -> Tensor:
            total = torch.zeros(())
            for way in ways:
                total = total + network(windows.flip(way), *more, **named).flip(way)
            return total / len(ways)

        return super().__call__(inputs, mean, *args, **kwargs)

# SPDX-License-Identifier: Apache-2.0
"""How an exploiter prepares data and trains; a recipe knows nothing of how noise was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    ClipIntensityPercentilesd,
    Compose,
    EnsureTyped,
    LoadImaged,
    MapLabelValued,
    NormalizeIntensityd,
    ResizeWithPadOrCropd,
)

__all__ = ["Recipe"]

KEYS = ("image", "label")


@dataclass(frozen=True)
class Recipe:
    """The plain recipe: percentile window, z-score, centered crop or pad, AdamW with a one-cycle schedule, DiceCE.

    Args:
        size: spatial size of the network input; images are padded or cropped around their center.
        iterations: training steps.
        batch_size: cases a step.
        learning_rate: peak of the one-cycle schedule.
        augmentation: MONAI dictionary transforms on ``image`` and ``label``, applied anew at each step.
        name: for tables.
    """

    size: tuple[int, ...]
    iterations: int = 500
    batch_size: int = 4
    learning_rate: float = 3e-3
    augmentation: Sequence[Any] = field(default_factory=tuple)
    name: str = "plain"

    def preprocessing(self, label_values: Sequence[int]) -> Compose:
        """Transforms from file names to network input, the same for training and test."""
        return Compose(
            [
                LoadImaged(KEYS, image_only=True, ensure_channel_first=True),
                MapLabelValued("label", label_values, range(len(label_values)), dtype=np.uint8),
                ClipIntensityPercentilesd("image", 0.5, 99.5, channel_wise=True),
                NormalizeIntensityd("image", channel_wise=True),
                ResizeWithPadOrCropd(KEYS, self.size),
                EnsureTyped(KEYS, dtype=(torch.float32, torch.uint8), track_meta=False),
            ]
        )

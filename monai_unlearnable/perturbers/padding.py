# SPDX-License-Identifier: Apache-2.0
"""Images of any size for networks that take multiples only."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

__all__ = ["even_sides", "pad_to"]


def even_sides(total: int) -> tuple[int, int]:
    """So many sites split over both sides, as MONAI's ``SpatialPad`` does it."""
    return total // 2, total - total // 2


def pad_to(image: Tensor, label: Tensor | None, divisor: int) -> tuple[Tensor, Any]:
    """Images and label maps with zeros on both sides, evenly, up to multiples; classes of whole images stay.

    Args:
        image: (B, C, spatial...).
        label: (B, 1, spatial...), (B,) or None.
        divisor: of the spatial sizes.
    """
    sides = [side for extent in reversed(image.shape[2:]) for side in even_sides(-extent % divisor)]
    return F.pad(image, sides), label if label is None or label.ndim == 1 else F.pad(label, sides)

# SPDX-License-Identifier: Apache-2.0
"""Noise as the file will hold it, while it is being optimized."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_unlearnable.budget import STEP_TOLERANCE

__all__ = ["round_to_lattice"]


def round_to_lattice(noise: Tensor, step: Tensor) -> Tensor:
    """Truncate noise toward zero to whole storage steps; gradients pass straight through.

    Args:
        noise: unit intensity, (B, C, spatial...).
        step: unit intensity of one storage step, (B, C); 0 where storage is floating point, which is left as it is.
    """
    size = step.to(noise).reshape(*step.shape, *[1] * (noise.ndim - 2))
    steps = noise / size.clamp(min=1e-12)
    whole = torch.trunc(steps + STEP_TOLERANCE * torch.sign(noise)) * size
    return noise + (torch.where(size > 0, whole, noise) - noise).detach()

# SPDX-License-Identifier: Apache-2.0
"""The control of every experiment: noise that knows nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from monai_unlearnable.masks import MaskProvider, Roi
from monai_unlearnable.perturbers.base import Perturber
from monai_unlearnable.seeding import derive_seed

__all__ = ["RandomNoise"]


class RandomNoise(Perturber):
    """Plus or minus epsilon at every site of the support, drawn independently.

    At equal epsilon no noise in the same support is larger, in any norm: a protection that does no more than this
    control does nothing.

    Args:
        epsilon: change of a site, in unit intensity.
        support: where noise is allowed; the exact region by default.
        seed: together with the case id decides on the noise.
    """

    def __init__(self, epsilon: float = 8 / 255, support: MaskProvider | None = None, seed: int = 0) -> None:
        super().__init__()
        self.epsilon, self.allowed, self.seed = epsilon, Roi() if support is None else support, seed

    @property
    def needs_label(self) -> bool:  # type: ignore[override]
        return self.allowed.needs_label

    def arguments(self) -> dict[str, Any]:
        """The arguments of the constructor that make an equal perturber."""
        return {"epsilon": self.epsilon, "support": self.allowed, "seed": self.seed}

    def support(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        return self.allowed(image, label)

    def delta(self, image: Tensor, case_ids: Sequence[str], label: Tensor | None = None) -> Tensor:
        signs = [self._signs(image[index].shape, case_id) for index, case_id in enumerate(case_ids)]
        return self.epsilon * torch.stack(signs).to(image) * self.allowed(image, label)

    def _signs(self, shape: torch.Size, case_id: str) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, case_id))
        return torch.randint(0, 2, tuple(shape), generator=generator) * 2 - 1

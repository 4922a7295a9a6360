# SPDX-License-Identifier: Apache-2.0
"""VoxShield-style noise: one volumetric generator for the whole region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from monai_unlearnable.masks import MaskProvider, Roi
from monai_unlearnable.perturbers.base import Perturber
from monai_unlearnable.perturbers.networks import NoiseUNet

__all__ = ["VoxShield"]


class VoxShield(Perturber):
    r"""Noise of a generator in the region, after VoxShield (arXiv 2605.17345), our reading.

    .. math:: \delta = \epsilon \tanh(G(x)) \odot S

    with the support :math:`S`, by default the exact region. What makes it volumetric is how :math:`G` is trained: with
    :class:`~monai_unlearnable.engines.LogitDivergence` and :class:`~monai_unlearnable.engines.SliceContrast`.

    Args:
        spatial_dims: 3, or 2 without the slice term.
        in_channels: image channels.
        epsilon: largest change of a site, in unit intensity.
        channels: widths of the generator; sizes must be multiples of ``2 ** len(channels)``.
        support: where noise is allowed.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        epsilon: float = 8 / 255,
        channels: Sequence[int] = (8, 16, 32),
        support: MaskProvider | None = None,
    ) -> None:
        super().__init__()
        self.spatial_dims, self.in_channels, self.epsilon = spatial_dims, in_channels, epsilon
        self.channels = tuple(channels)
        self.allowed = Roi() if support is None else support
        self._depend_on(self.allowed)
        self.generator = NoiseUNet(spatial_dims, in_channels, self.channels)
        self.divisor = 2 ** len(self.channels)

    @property
    def needs_label(self) -> bool:  # type: ignore[override]
        return self.allowed.needs_label

    def arguments(self) -> dict[str, Any]:
        """The arguments of the constructor that make an equal perturber (weights apart)."""
        names = ("spatial_dims", "in_channels", "epsilon", "channels")
        return {**{name: getattr(self, name) for name in names}, "support": self.allowed}

    def delta(
        self, image: Tensor, case_ids: Sequence[str], label: Tensor | None = None, support: Tensor | None = None
    ) -> Tensor:
        support = self.support(image, label) if support is None else support
        # In the precision of the support: epsilon rounded to bfloat16, as under autocast, may be larger than epsilon.
        return self.epsilon * support * torch.tanh(self.generator(image))

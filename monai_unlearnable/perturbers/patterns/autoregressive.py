# SPDX-License-Identifier: Apache-2.0
"""Noise in which neighbors predict each site, by a rule of the class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from monai_unlearnable.masks import MaskProvider
from monai_unlearnable.perturbers.patterns.base import ClassPatterns
from monai_unlearnable.seeding import seeded

__all__ = ["AutoregressiveNoise"]

# Bounds on the angle of the poles: slower waves are stripes that readers see, faster ones are all alike.
ANGLES = (0.2 * math.pi, 0.8 * math.pi)


class AutoregressiveNoise(ClassPatterns):
    r"""A process in which each site follows from the earlier ones of its 3x3 (3x3x3) neighborhood.

    With the shift :math:`z_a` to the site before along axis :math:`a` and angles :math:`\omega_{k,a}` that are drawn
    for each class and channel, the pattern of class k solves

    .. math::
        \prod_a \left(1 - 2 \cos\omega_{k,a}\, z_a + z_a^2\right) P_k = 0

    from a random start of the case. Written out, each site is a fixed linear combination of the 8 (26) sites up to two
    steps before it, so a filter of this size, :meth:`coefficients`, is silent on the noise of its class and on no
    other.

    After Sandoval-Segura et al., Autoregressive Perturbations for Data Poisoning, NeurIPS 2022. There all coefficients
    are drawn independently, scaled to a sum of 1, and kept if the noise of a 36x36 image does not grow. Our choice is a
    family that neither grows nor fades at any size: its poles lie on the unit circle. Two more properties follow. Its
    solutions are sums of waves, one along each axis, with a phase for every line (the random start), so that no
    recursion has to be run. And the filters are palindromes: a mirrored image obeys the same rule.

    Noise is scaled to ``epsilon`` by its largest value, as any clipping would break the rule. The root mean square is
    about half of epsilon in 2D and 0.4 of it in 3D.

    Args:
        epsilon: largest change of a site, in unit intensity.
        support: where noise is allowed, see :class:`ClassPatterns`.
        granularity: see :class:`ClassPatterns`; for a case alone it is the rule that is drawn, the start always is.
        seed: decides on the rules and on the starts.
    """

    def __init__(
        self,
        epsilon: float = 8 / 255,
        support: MaskProvider | None = None,
        granularity: str = "class",
        seed: int = 0,
    ) -> None:
        super().__init__(epsilon, support, granularity)
        self.seed = seed

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), "seed": self.seed}

    def coefficients(self, kind: int, channels: int, spatial_dims: int) -> Tensor:
        """The filters of a class: the correlation of the noise with them is zero.

        Args:
            kind: the class.
            channels: of the image.
            spatial_dims: 2 or 3.

        Returns:
            (C, 3, 3) or (C, 3, 3, 3); the last entry, 1, is that of the site itself.
        """
        filters = torch.ones(channels, *[1] * spatial_dims, dtype=torch.float64)
        for axis, angles in enumerate(self._angles(kind, channels, spatial_dims).T):
            taps = torch.stack([torch.ones_like(angles), -2 * torch.cos(angles), torch.ones_like(angles)], dim=1)
            filters = filters * _along(taps, axis, spatial_dims)
        return filters.float()

    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        channels, shape = image.shape[0], image.shape[1:]
        angles, start = self._angles(kind, channels, len(shape)), seeded(self.seed, "case", case_id)
        field = torch.zeros(image.shape, dtype=torch.float64)
        for axis, extent in enumerate(shape):
            lines = (channels, *shape[:axis], 1, *shape[axis + 1 :])
            phase = 2 * math.pi * torch.rand(lines, generator=start, dtype=torch.float64)
            field += torch.cos(_along(torch.outer(angles[:, axis], torch.arange(extent)), axis, len(shape)) + phase)
        return field / field.abs().max()

    def _angles(self, kind: int, channels: int, spatial_dims: int) -> Tensor:
        low, high = ANGLES
        draw = torch.rand(channels, spatial_dims, generator=seeded(self.seed, "class", kind), dtype=torch.float64)
        return low + (high - low) * draw


def _along(values: Tensor, axis: int, spatial_dims: int) -> Tensor:
    """Values (C, N) laid along one spatial axis: (C, 1, ..., N, ..., 1)."""
    shape: Sequence[int] = [-1 if other == axis else 1 for other in range(spatial_dims)]
    return values.reshape(len(values), *shape)

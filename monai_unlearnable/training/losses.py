# SPDX-License-Identifier: Apache-2.0
"""What a generator goes down besides the exploiter's loss; surrogates never see these terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.config import Configurable

__all__ = ["LogitDivergence", "Penalty", "SliceContrast"]


class Penalty(Protocol):
    """A term of the loss of a perturber."""

    def __call__(self, noise: Tensor, logits: Tensor, clean_logits: Callable[[], Tensor]) -> Tensor:
        """The value of the term.

        Args:
            noise: normalized intensity, (B, C, spatial...).
            logits: of the surrogate on protected images.
            clean_logits: gives those on the clean images, seen in the same way, without gradient.
        """


@dataclass(frozen=True)
class LogitDivergence(Configurable):
    r"""Outputs on protected images are driven away from those on clean ones: :math:`-w \cdot \mathrm{mean}\,|f(x') -
    f(x)|` (VoxShield, arXiv 2605.17345).

    Args:
        weight: :math:`w`.
    """

    weight: float = 0.05

    def __call__(self, noise: Tensor, logits: Tensor, clean_logits: Callable[[], Tensor]) -> Tensor:
        return -self.weight * (logits - clean_logits()).abs().mean()


@dataclass(frozen=True)
class SliceContrast(Configurable):
    r"""Spectra of neighboring slices are driven apart (VoxShield, arXiv 2605.17345, its inter-slice term):

    .. math:: -w \cdot \mathrm{mean}_z\; \frac{\big\| |F\delta_{z+1}| - |F\delta_z| \big\|_2}
        {\max |\delta| \, \sqrt{n_z}}

    with the orthonormal 2D Fourier transform :math:`F` and the number of voxels with noise :math:`n_z` in the fuller
    one of the two slices. The published term has neither denominator nor orthonormal transform, so that its weight
    depends on size and epsilon; this one does not.

    Args:
        weight: :math:`w`.
        axis: spatial axis across slices.
    """

    weight: float = 1.0
    axis: int = 2

    def __call__(self, noise: Tensor, logits: Tensor, clean_logits: Callable[[], Tensor]) -> Tensor:
        if noise.ndim != 5:
            raise InputError("slices need volumes", value=noise.ndim - 2, limit=3)
        slices = noise.movedim(2 + self.axis, 2)
        spectrum = torch.fft.fft2(slices.float(), norm="ortho").abs()
        apart = (spectrum[:, :, 1:] - spectrum[:, :, :-1]).square().sum((-2, -1))
        filled = (slices.detach() != 0).sum((-2, -1))
        filled = torch.maximum(filled[:, :, 1:], filled[:, :, :-1])
        largest = noise.detach().abs().amax().clamp(min=1e-12)
        # The square root has no gradient at zero, where slices are equal.
        distance = (apart + 1e-12 * largest**2).sqrt() / (largest * filled.clamp(min=1).sqrt())
        return -self.weight * distance[filled > 0].mean() if bool(filled.any()) else noise.sum() * 0

# SPDX-License-Identifier: Apache-2.0
"""The control of every experiment: noise that knows nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.utils.enums import StrEnum
from scipy.ndimage import gaussian_filter
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import MaskProvider, Roi
from monai_unlearnable.perturbers.base import Perturber
from monai_unlearnable.perturbers.patterns import random_signs
from monai_unlearnable.utils.enums import look_up
from monai_unlearnable.utils.seeding import seeded

__all__ = ["NoiseDistribution", "RandomNoise"]

GAUSSIAN_SCALE = 0.5  # standard deviation in units of epsilon; 5% of the voxels are clipped


class NoiseDistribution(StrEnum):
    """What random noise is drawn from."""

    SIGN = "sign"
    UNIFORM = "uniform"
    GAUSSIAN = "gaussian"
    LOW_PASS = "low_pass"  # noqa: S105


class RandomNoise(Perturber):
    """Random noise in the support; plus or minus epsilon at every voxel, drawn independently, unless told otherwise.

    At equal epsilon no noise in the same support is larger than this, in any norm: a protection that does no more than
    this control does nothing. A control of equal PSNR has ``rms``, a smooth one ``low_pass``.

    Args:
        epsilon: largest change of a voxel, in normalized intensity.
        support: mask of where noise is allowed; by default the exact region. Datasets of classes of whole images take
            :class:`~monai_unlearnable.masks.Everywhere`.
        seed: random seed, which decides on the noise together with the case id.
        distribution: ``"sign"``; ``"uniform"`` in plus or minus epsilon; ``"gaussian"`` with a standard deviation of
            half epsilon, clipped at epsilon; ``"low_pass"``, the same after smoothing a field of independent values.
        sigma: standard deviation of the Gaussian that smooths ``"low_pass"``, in voxels.
        rms: root mean square over the support to which the noise of a case is scaled, in normalized intensity, clipped
            at epsilon; a support that weakens noise can leave it lower. None leaves noise as drawn.

    Raises:
        InputError: when the distribution is unknown, or ``rms`` is not in (0, epsilon].
    """

    takes_tasks = True  # it knows no label
    windowed = False  # windows would all show the same noise

    def __init__(
        self,
        epsilon: float = 8 / 255,
        support: MaskProvider | None = None,
        seed: int = 0,
        distribution: str = "sign",
        sigma: float = 2.0,
        rms: float | None = None,
    ) -> None:
        super().__init__()
        if rms is not None and not 0 < rms <= epsilon:
            raise InputError("the root mean square must be above 0 and at most epsilon", value=rms, limit=epsilon)
        self.epsilon, self.allowed, self.seed = epsilon, Roi() if support is None else support, seed
        self.distribution, self.sigma, self.rms = look_up("distribution", distribution, NoiseDistribution), sigma, rms
        self._depend_on(self.allowed)

    def delta(
        self, image: Tensor, case_ids: Sequence[str], label: Tensor | None = None, support: Tensor | None = None
    ) -> Tensor:
        support = self.support(image, label) if support is None else support
        noise = [self._noise(image[index].shape, case_id, support[index]) for index, case_id in enumerate(case_ids)]
        return self.epsilon * torch.stack(noise).to(image) * support

    def _noise(self, shape: torch.Size, case_id: str, support: Tensor) -> Tensor:
        """Noise in units of epsilon."""
        field = self._field(tuple(shape), seeded(self.seed, case_id))
        if self.rms is not None:
            field = field * _gain(field, support.cpu(), self.rms / self.epsilon)
        return field.clamp(-1, 1)

    def _field(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        if self.distribution == NoiseDistribution.SIGN:
            return random_signs(shape, generator)
        if self.distribution == NoiseDistribution.UNIFORM:
            return torch.rand(shape, generator=generator) * 2 - 1
        field = torch.randn(shape, generator=generator)
        if self.distribution == NoiseDistribution.LOW_PASS:
            smooth = gaussian_filter(field.numpy(), [0, *[self.sigma] * (len(shape) - 1)], mode="wrap")
            field = torch.from_numpy(smooth / max(float(smooth.std()), 1e-12))
        return GAUSSIAN_SCALE * field


def _gain(field: Tensor, support: Tensor, target: float) -> float:
    """The factor that brings the root mean square over the support to ``target``, after clipping to [-1, 1].

    Found by bisection: the more is clipped, the less a factor adds.
    """
    inside = (support > 0).expand_as(field)
    values, weights = field[inside].double(), support.expand_as(field)[inside].double()
    low, high = 0.0, 2.0**12
    for _ in range(50):
        middle = (low + high) / 2
        reached = (weights * (middle * values).clamp(-1, 1)).square().mean().sqrt()
        low, high = (middle, high) if reached < target else (low, middle)
    return high

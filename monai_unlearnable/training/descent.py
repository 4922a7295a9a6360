# SPDX-License-Identifier: Apache-2.0
"""How a perturber descends: the optimizer of patterns, and terms of the loss that surrogates never see."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer

from monai_unlearnable.errors import InputError
from monai_unlearnable.perturbers import MultiTaskNoise
from monai_unlearnable.utils.config import Configurable, Described

__all__ = ["EmbeddingContrast", "LogitDivergence", "Penalty", "SignDescent", "SliceContrast"]

ROUNDS = 4  # of alternating projections; after a step as small as ours what is left of an offset is far below a bit


class SignDescent(Optimizer):
    """Steps against the sign of the gradient, projected onto the L-infinity ball after each.

    Projecting parameters, rather than clamping what is made of them, leaves no gradient zero at the border of the ball.
    With momentum, gradients of equal length are summed (Dong et al., "Boosting adversarial attacks with momentum", CVPR
    2018, eq. 6), so that those of single steps cancel where they disagree.

    Args:
        params: parameters that are themselves noise in normalized intensity.
        lr: size of a step.
        epsilon: largest absolute value of a pattern, in normalized intensity.
        momentum: fraction of the sum that is kept from step to step.
        zero_mean: whether patterns (K, C, spatial...) may have no offset either, each channel on its own.

    Raises:
        InputError: when a pattern has one voxel and may have no offset, which leaves it nothing.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, epsilon: float, momentum: float = 0.0, zero_mean: bool = False
    ) -> None:
        super().__init__(params, {"lr": lr, "epsilon": epsilon, "momentum": momentum, "zero_mean": zero_mean})
        if zero_mean and any(pattern[0, 0].numel() == 1 for pattern in self.param_groups[0]["params"]):
            raise InputError("a pattern of one voxel is an offset, and none is wanted here (zero_mean)")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    direction = self._accumulated(parameter, group["momentum"])
                    _project(parameter.sub_(group["lr"] * direction.sign()), group["epsilon"], group["zero_mean"])

    def _accumulated(self, parameter: Tensor, momentum: float) -> Tensor:
        assert parameter.grad is not None
        gradient = parameter.grad
        if momentum:
            unit = gradient / gradient.abs().sum().clamp(min=torch.finfo(gradient.dtype).tiny)
            gradient = momentum * self.state[parameter].get("sum", torch.zeros_like(unit)) + unit
            self.state[parameter]["sum"] = gradient
        return gradient


def _project(pattern: Tensor, epsilon: float, zero_mean: bool) -> None:
    """Onto the ball, in place, and onto patterns without an offset where asked."""
    for _ in range(ROUNDS if zero_mean else 0):
        pattern.clamp_(-epsilon, epsilon)
        pattern.sub_(pattern.mean(tuple(range(2, pattern.ndim)), keepdim=True))
    pattern.clamp_(-epsilon, epsilon)


class Penalty(Protocol):
    """A term of the loss of a perturber."""

    def __call__(self, noise: Tensor, logits: Tensor, clean_logits: Callable[[], Tensor]) -> Tensor:
        """The value of the term.

        Args:
            noise: normalized intensity, (B, C, spatial...).
            logits: logits of the surrogate on protected images.
            clean_logits: function that returns those on the clean images, seen in the same way, without gradient.
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
        axis: spatial axis across slices, 0 to 2.

    Raises:
        InputError: when there is no such axis.
    """

    weight: float = 1.0
    axis: int = 2

    def __post_init__(self) -> None:
        if self.axis not in range(3):
            raise InputError(f"the axis across slices is {self.axis}; axes are 0 to 2", value=self.axis, limit=2)

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


class EmbeddingContrast(Described):
    r"""Embeddings of classes are kept apart (MTL-UE, arXiv 2505.05279, its intra- and inter-task terms, our reading):

    .. math::
        w_1 \, \mathrm{mean}_{t,\, k < l} \cos(e_{t,k}, e_{t,l})
        + w_2 \, \mathrm{mean}_{t \neq u,\, k,\, l} \cos^2(e_{t,k}, e_{u,l})

    The first drives the classes of a task apart, so that their noise differs. The second makes those of different tasks
    orthogonal, so that the noise of one tells nothing about another.

    Args:
        perturber: noise whose embeddings are meant.
        intra: :math:`w_1`.
        inter: :math:`w_2`.
    """

    undescribed = ("perturber",)

    def __init__(self, perturber: MultiTaskNoise, intra: float = 0.1, inter: float = 0.1) -> None:
        self.perturber, self.intra, self.inter = perturber, intra, inter

    def __call__(self, noise: Tensor, logits: Tensor, clean_logits: Callable[[], Tensor]) -> Tensor:
        tables = self.perturber.embeddings()
        vectors = functional.normalize(torch.cat(tables))  # zero where a class is unperturbed
        cosines = vectors @ vectors.T
        own = torch.block_diag(*(torch.ones(len(table), len(table)) for table in tables)).to(cosines)
        pairs = own.triu(1)
        intra = (cosines * pairs).sum() / pairs.sum().clamp(min=1)
        inter = (cosines.square() * (1 - own)).sum() / (1 - own).sum().clamp(min=1)
        return self.intra * intra + self.inter * inter

# SPDX-License-Identifier: Apache-2.0
"""The optimizer of patterns."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

from monai_unlearnable.errors import InputError

__all__ = ["SignDescent"]

ROUNDS = 4  # of alternating projections; after a step as small as ours what is left of an offset is far below a bit


class SignDescent(Optimizer):
    """Steps against the sign of the gradient, projected onto the L-infinity ball after each.

    Projecting parameters, rather than clamping what is made of them, leaves no gradient zero at the border of the ball.
    With momentum, gradients of equal length are summed (Dong et al., "Boosting adversarial attacks with momentum", CVPR
    2018, eq. 6), so that those of single steps cancel where they disagree.

    Args:
        params: parameters that are themselves noise in normalized intensity.
        lr: size of a step.
        epsilon: of the ball.
        momentum: fraction of the sum that is kept from step to step.
        zero_mean: project onto patterns (K, C, spatial...) without an offset as well, each channel on its own.

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

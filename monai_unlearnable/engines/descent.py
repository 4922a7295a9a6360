# SPDX-License-Identifier: Apache-2.0
"""The optimizer of patterns."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["SignDescent"]


class SignDescent(Optimizer):
    """Steps against the sign of the gradient, projected onto the L-infinity ball after each.

    Projecting parameters, rather than clamping what is made of them, leaves no gradient zero at the border of the ball.

    Args:
        params: parameters that are themselves noise in unit intensity.
        lr: size of a step.
        radius: of the ball.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, radius: float) -> None:
        super().__init__(params, {"lr": lr, "radius": radius})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(group["lr"] * parameter.grad.sign()).clamp_(-group["radius"], group["radius"])

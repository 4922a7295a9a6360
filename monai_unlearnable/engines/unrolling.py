# SPDX-License-Identifier: Apache-2.0
"""Training steps that gradients pass through."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["Lookahead"]


class Lookahead:
    r"""The coming steps of a network in training, tried without taking them.

    Weights after a step of AdamW are a function of the images it was taken on:

    .. math:: \theta_{t+1} = (1 - \eta_t \lambda)\, \theta_t - \eta_t\, \hat m_t / (\sqrt{\hat v_t} + \varepsilon),
        \qquad m_t = \beta_1 m_{t-1} + (1 - \beta_1) \nabla_\theta L(\theta_t; x)

    Gradients pass through the weights and the first moment; the second moment, a scale, is a constant to them.

    Args:
        network: whose weights and buffers are started from, and left as they are.
        optimizer: its AdamW, whose moments are started from.
        rates: the learning rate of each coming step.
    """

    # More than AdamW has: a weight without gradient would have a derivative of 1 / epsilon.
    EPSILON = 1e-6

    def __init__(self, network: nn.Module, optimizer: torch.optim.AdamW, rates: Iterator[float]) -> None:
        group = optimizer.param_groups[0]
        self.betas, self.decay, self.rates, self.network = group["betas"], group["weight_decay"], rates, network
        self.buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
        self.weights: dict[str, Tensor] = {}
        self.first: dict[str, Tensor] = {}
        self.second: dict[str, Tensor] = {}
        self.count = 0
        for name, parameter in network.named_parameters():
            state = optimizer.state.get(parameter, {})
            self.weights[name] = parameter.detach().clone().requires_grad_()
            self.first[name] = state.get("exp_avg", torch.zeros_like(parameter)).detach().clone()
            self.second[name] = state.get("exp_avg_sq", torch.zeros_like(parameter)).detach().clone()
            self.count = int(state.get("step", 0))

    def __call__(self, image: Tensor) -> Tensor:
        """What the network makes of ``image`` with the weights it has by then."""
        return functional_call(self.network, (self.weights, self.buffers), (image,))

    def step(self, loss: Tensor) -> None:
        """Take a step down ``loss``, which came from :meth:`__call__`."""
        self.count += 1
        rate, (slow, slower) = next(self.rates), self.betas
        gradients = torch.autograd.grad(
            loss, list(self.weights.values()), create_graph=True, allow_unused=True, materialize_grads=True
        )
        for name, gradient in zip(self.weights, gradients, strict=True):
            self.first[name] = slow * self.first[name] + (1 - slow) * gradient
            self.second[name] = slower * self.second[name] + (1 - slower) * gradient.detach().square()
            scale = (self.second[name] / (1 - slower**self.count)).sqrt() + self.EPSILON
            move = self.first[name] / (1 - slow**self.count) / scale
            self.weights[name] = (1 - rate * self.decay) * self.weights[name] - rate * move

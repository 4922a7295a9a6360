# SPDX-License-Identifier: Apache-2.0
"""Surrogate networks in training, and training steps that noise can be optimized through."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from monai_unlearnable.utils.config import Described
from monai_unlearnable.utils.seeding import derive_seed, reset_parameters
from monai_unlearnable.utils.values import check_whole

__all__ = ["UnrolledTraining", "SurrogatePool"]


class UnrolledTraining:
    r"""The coming steps of a network in training, tried without taking them.

    Weights after a step of AdamW are a function of the images it was taken on:

    .. math:: \theta_{t+1} = (1 - \eta_t \lambda)\, \theta_t - \eta_t\, \hat m_t / (\sqrt{\hat v_t} + \varepsilon),
        \qquad m_t = \beta_1 m_{t-1} + (1 - \beta_1) \nabla_\theta L(\theta_t; x)

    Gradients pass through the weights and the first moment; the second moment, a scale, is a constant to them.

    Args:
        network: network whose weights and buffers are the start, and stay as they are.
        optimizer: its AdamW, whose moments are the start.
        rates: learning rate of each coming step.
    """

    # More than AdamW has: a weight without gradient would have a derivative of 1 / epsilon.
    EPSILON = 1e-6

    def __init__(self, network: nn.Module, optimizer: torch.optim.AdamW, rates: Iterator[float]) -> None:
        group = optimizer.param_groups[0]
        self.betas, self.decay, self.rates, self.network = group["betas"], group["weight_decay"], rates, network
        self.buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
        self.weights, self.first, self.second = dict[str, Tensor](), dict[str, Tensor](), dict[str, Tensor]()
        self.count = 0
        for name, parameter in network.named_parameters():
            state = optimizer.state.get(parameter, {})
            self.weights[name] = parameter.detach().clone().requires_grad_()
            self.first[name] = state.get("exp_avg", torch.zeros_like(parameter)).clone()
            self.second[name] = state.get("exp_avg_sq", torch.zeros_like(parameter)).clone()
            self.count = int(state.get("step", 0))

    def __call__(self, image: Tensor) -> Tensor:
        """The output of the network for ``image``, with the weights it has by then."""
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


class SurrogatePool(Described):
    """Surrogates of different ages that take turns; one that is old enough starts again from fresh weights.

    An exploiter trains from scratch, so noise must be easier to learn than the anatomy at every age of a model, and
    most of all early on: noise tuned to one model that has grown up with it fails against the next one. The pool (our
    choice) keeps the ages spread evenly over a lifetime.

    Args:
        networks: one or more architectures; members take them in turn.
        size: number of members.
        lifetime: number of steps after which a member starts again; None for never.
        learning_rate: peak rate of AdamW, reached after ``warmup`` steps along a cosine, as in the one-cycle schedule.
        warmup: number of warm-up steps.
        seed: random seed of the weights.
        device: device of the members.

    Attributes:
        networks: the members.
        ages: number of training steps that each has had in this life.
        architectures: networks that they are copies of.
    """

    undescribed = ("device",)
    held_as = {"networks": "architectures"}

    def __init__(
        self,
        networks: nn.Module | Sequence[nn.Module],
        size: int = 1,
        lifetime: int | None = None,
        learning_rate: float = 3e-3,
        warmup: int = 0,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        check_whole("size of the pool of surrogates", size, 0)
        kinds = [networks] if isinstance(networks, nn.Module) else list(networks)
        self.architectures, self.size, self.lifetime = kinds, size, lifetime
        self.learning_rate, self.warmup, self.seed = learning_rate, warmup, seed
        self.networks = [copy.deepcopy(kinds[index % len(kinds)]).to(device) for index in range(size)]
        self.ages = [0] * size
        self.births = [0] * size
        self.optimizers = [torch.optim.AdamW(network.parameters(), learning_rate) for network in self.networks]
        for index in range(size):
            self._renew(index)

    def __getitem__(self, turn: int) -> nn.Module:
        """The member whose turn it is, renewed if its life is over."""
        check_whole("size of the pool of surrogates", self.size, 1)
        index = turn % self.size
        if self.ages[index] >= self._lifetime(index):
            self._renew(index)
        return self.networks[index]

    def step(self, turn: int) -> None:
        """Train the member whose turn it was with its gradients."""
        index = turn % self.size
        for group in self.optimizers[index].param_groups:
            group["lr"] = self._rate(self.ages[index])
        self.optimizers[index].step()
        self.ages[index] += 1

    def zero_grad(self, turn: int) -> None:
        """Forget the gradients of the member whose turn it is."""
        self.optimizers[turn % self.size].zero_grad(set_to_none=True)

    def unroll(self, turn: int) -> UnrolledTraining:
        """The coming steps of the member whose turn it is, without taking them."""
        index = turn % self.size
        rates = map(self._rate, itertools.count(self.ages[index]))
        return UnrolledTraining(self.networks[index], self.optimizers[index], rates)

    def _lifetime(self, index: int) -> float:
        if self.lifetime is None:
            return math.inf
        # First lives are cut short by different amounts, which spreads the ages.
        return self.lifetime if self.births[index] > 1 else self.lifetime * (index + 1) // self.size

    def _rate(self, age: int) -> float:
        if age >= self.warmup:
            return self.learning_rate
        start = self.learning_rate / 25
        return start + (self.learning_rate - start) * (1 - math.cos(math.pi * age / self.warmup)) / 2

    def _renew(self, index: int) -> None:
        reset_parameters(self.networks[index], derive_seed(self.seed, "surrogate", index, self.births[index]))
        self.optimizers[index].state.clear()
        self.ages[index] = 0
        self.births[index] += 1

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {
            "networks": [network.state_dict() for network in self.networks],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "ages": list(self.ages),
            "births": list(self.births),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        for network, saved in zip(self.networks, state["networks"], strict=True):
            network.load_state_dict(saved)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.ages, self.births = list(state["ages"]), list(state["births"])

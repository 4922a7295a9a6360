# SPDX-License-Identifier: Apache-2.0
"""The models that stand in for the exploiter's while noise is being made."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from monai_unlearnable.engines.unrolling import Lookahead
from monai_unlearnable.seeding import derive_seed, reset_parameters

__all__ = ["SurrogatePool"]


class SurrogatePool:
    """Surrogates of different ages that take turns; one that is old enough starts again from fresh weights.

    An exploiter trains from scratch, so noise has to be easier to learn than the anatomy at every age of a model, above
    all in its youth: noise tuned to one model that has grown up with it is of no use against the next one. The pool
    (our choice) keeps the ages spread evenly over a lifetime.

    Args:
        networks: one or more architectures; members take them in turn.
        size: number of members.
        lifetime: steps after which a member starts again; None for never.
        learning_rate: of AdamW, reached after ``warmup`` steps along a cosine, as in the one-cycle schedule.
        warmup: steps.
        seed: of the weights.
        device: where the members live.
    """

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
        kinds = [networks] if isinstance(networks, nn.Module) else list(networks)
        self.size, self.lifetime, self.learning_rate, self.warmup, self.seed = (
            size,
            lifetime,
            learning_rate,
            warmup,
            seed,
        )
        self.networks = [copy.deepcopy(kinds[index % len(kinds)]).to(device) for index in range(size)]
        self.ages = [0] * size
        self.births = [0] * size
        self.optimizers = [torch.optim.AdamW(network.parameters(), learning_rate) for network in self.networks]
        for index in range(size):
            self._renew(index)

    def __getitem__(self, turn: int) -> nn.Module:
        """The member whose turn it is, renewed if its life is over."""
        index = turn % self.size
        if self.ages[index] >= self._lifetime(index):
            self._renew(index)
        return self.networks[index]

    def step(self, turn: int) -> None:
        """Train the member whose turn it was with the gradients it has."""
        index = turn % self.size
        for group in self.optimizers[index].param_groups:
            group["lr"] = self._rate(self.ages[index])
        self.optimizers[index].step()
        self.ages[index] += 1

    def zero_grad(self, turn: int) -> None:
        """Forget the gradients of the member whose turn it is."""
        self.optimizers[turn % self.size].zero_grad(set_to_none=True)

    def look_ahead(self, turn: int) -> Lookahead:
        """The coming steps of the member whose turn it is, without taking them."""
        index = turn % self.size
        rates = map(self._rate, itertools.count(self.ages[index]))
        return Lookahead(self.networks[index], self.optimizers[index], rates)

    def age(self, turn: int) -> int:
        """Training steps that the member has had in this life."""
        return self.ages[turn % self.size]

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

# SPDX-License-Identifier: Apache-2.0
"""What exploiters do to weights against noise: shallow layers learn slowly, and trained weights are searched around."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from monai_unlearnable.countermeasures.learning import choose_cases
from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.seeding import derive_seed, seeded

__all__ = ["SlowStem", "WeightBall", "WeightRecovery"]


@dataclass(frozen=True)
class SlowStem:
    """Shallow layers learn more slowly than deep ones.

    From Progressive Staged Training (Dang et al., Unlearnable Examples Give a False Sense of Data Privacy:
    Understanding and Relearning, 2023, arXiv:2306.02064): noise is taken up by shallow layers, which then pass on
    nothing else, so the published training adapts itself, in stages, to keep them from it. Ours does not adapt and has
    one stage: the learning rate rises linearly over the first layers, from ``slow`` times that of the recipe. Layers
    count in the order in which the network defines them.

    Args:
        slow: factor of the learning rate in the first layer, 0 to 1; 0 leaves it as it was drawn.
        depth: fraction of the layers over which the factor rises to 1, in (0, 1].

    Raises:
        InputError: when a number is out of its range.
    """

    slow: float = 0.01
    depth: float = 0.5

    def __post_init__(self) -> None:
        if not (0 <= self.slow <= 1 and 0 < self.depth <= 1):
            raise InputError(f"slow is {self.slow} and depth {self.depth}; they are from 0 to 1, and depth is not 0")

    def groups(self, network: nn.Module, learning_rate: float) -> list[dict[str, Any]]:
        """Parameter groups of an optimizer, one a layer, each with its learning rate; what is frozen is in none.

        Args:
            network: network to train.
            learning_rate: learning rate of the recipe.
        """
        layers = list(_layers(network))
        groups = []
        for index, parameters in enumerate(layers):
            place = min(1.0, index / max(1, len(layers) - 1) / self.depth)
            rate = learning_rate * (self.slow + (1 - self.slow) * place)
            groups.append({"params": parameters, "lr": max(rate, 1e-12)})  # schedules divide by it
        return groups


def _layers(network: nn.Module) -> Iterator[list[nn.Parameter]]:
    """Trained parameters of each layer, each of them once."""
    known: set[int] = set()
    for layer in network.modules():
        new = [p for p in layer.parameters(recurse=False) if p.requires_grad and id(p) not in known]
        known.update(map(id, new))
        if new:
            yield new


class WeightBall:
    """Weights that are near given ones: in each layer at most so far from them, relative to their size.

    Args:
        network: network whose weights, as they are now, are the center.
        radius: largest distance of a tensor from its center, as a fraction of the norm of the center.
    """

    def __init__(self, network: nn.Module, radius: float) -> None:
        self.network, self.radius = network, radius
        self.center = [parameter.detach().clone() for parameter in network.parameters()]

    @torch.no_grad()
    def scatter(self, seed: int) -> None:
        """Put the weights on the surface of the ball, in a random direction."""
        generator = seeded(seed)
        for parameter, center in zip(self.network.parameters(), self.center, strict=True):
            direction = torch.randn(center.shape, generator=generator).to(center)
            length = self.radius * center.norm() / direction.norm().clamp(min=1e-12)
            parameter.copy_(center + length * direction)

    @torch.no_grad()
    def project(self) -> None:
        """Bring weights that have left the ball back onto its surface."""
        for parameter, center in zip(self.network.parameters(), self.center, strict=True):
            away = parameter - center
            excess = away.norm() / (self.radius * center.norm()).clamp(min=1e-12)
            if excess > 1:
                parameter.copy_(center + away / excess)


@dataclass(frozen=True)
class WeightRecovery:
    """Looks for better weights near the trained ones, with a few clean cases.

    From Wang et al., Provably Unlearnable Data Examples, NDSS 2025, arXiv:2405.03316, who find that weights close to
    those learned from protected data do well on clean data, and get there by fine-tuning on some clean data with a
    projection into a ball around the learned weights. Our reading: of the learned weights and some random ones on the
    surface of the ball, those that score best on the clean cases are fine-tuned on them, each step followed by the
    projection. The ball is relative, layer by layer, so that one radius serves all networks.

    Args:
        fraction: fraction of the training cases that the exploiter has clean, in (0, 1]; at least one case.
        radius: distance that the weights of a layer may go, as a fraction of their norm.
        directions: number of random directions that are tried.
        iterations: training steps of the fine-tuning.
        learning_rate: peak of its schedule, as a fraction of that of the recipe.

    Raises:
        InputError: when a number is out of its range.
    """

    fraction: float = 0.05
    radius: float = 0.2
    directions: int = 8
    iterations: int = 100
    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise InputError("the fraction of clean cases is not above 0 and at most 1", value=self.fraction, limit=1)
        if min(self.radius, self.directions, self.iterations - 1, self.learning_rate) < 0:
            raise InputError("radius, directions and learning rate of a recovery are at least 0, iterations at least 1")

    def choose(self, originals: Sequence[Any], seed: int) -> list[Any]:
        """The clean cases that the exploiter has.

        Args:
            originals: clean versions of the training cases.
            seed: random seed of the choice; a small fraction is part of a larger one.

        Raises:
            InputError: when there is none.
        """
        if not originals:
            raise InputError("weights are recovered with clean cases, and none are known")
        count = max(1, int(self.fraction * len(originals) + 0.5))
        return choose_cases(originals, count, derive_seed(seed, "clean cases"))

    def tuning(self, learning_rate: float) -> dict[str, Any]:
        """Settings of the recipe that the fine-tuning changes; ``learning_rate`` is the one before."""
        without = {"recovery": None, "patience": None, "adversary": None}
        return {"iterations": self.iterations, "learning_rate": self.learning_rate * learning_rate, **without}

    def search(self, ball: WeightBall, score: Callable[[], float], seed: int) -> None:
        """Leave the network with the best of its weights and random ones around.

        Args:
            ball: the network and where its weights may go.
            score: score of the network on the clean cases, in its current state.
            seed: random seed of the directions.
        """
        weights = [parameter.detach().clone() for parameter in ball.network.parameters()]
        best = score()
        for index in range(self.directions):
            ball.scatter(derive_seed(seed, "direction", index))
            if (found := score()) > best:
                best, weights = found, [parameter.detach().clone() for parameter in ball.network.parameters()]
        with torch.no_grad():
            for parameter, value in zip(ball.network.parameters(), weights, strict=True):
                parameter.copy_(value)

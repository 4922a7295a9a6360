# SPDX-License-Identifier: Apache-2.0
"""One training loop, whose randomness is its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from monai_unlearnable.utils.optimization import minimize, one_cycle


def line(
    seed: int = 0, iterations: int = 60, clip: float | None = None, far: float = 1.0
) -> tuple[Tensor, list[float]]:
    """A weight that starts at 0 and is pulled towards ``far`` by noisy values."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)

    def loss() -> Tensor:
        values = torch.randn(8, 1)
        return ((network(values) - far * values) ** 2).mean()

    before = torch.get_rng_state()
    losses = minimize(network, loss, iterations, 0.1, seed, clip)
    assert network.training and torch.equal(torch.get_rng_state(), before)
    return network.weight.detach(), losses


def test_losses_fall_and_the_seed_alone_decides() -> None:
    weight, losses = line()
    assert len(losses) == 60 and losses[-1] < losses[0] / 10 and abs(weight.item() - 1) < 0.2
    torch.rand(3)
    assert line()[1] == losses and line(seed=1)[1] != losses


def test_gradients_are_clipped_where_asked() -> None:
    small = line(far=1e-3)
    assert line(far=1e-3, clip=1.0)[1] == small[1]  # nothing to clip
    assert line(far=1e3, clip=1.0)[1] != line(far=1e3)[1]


def test_no_step_is_no_change() -> None:
    weight, losses = line(iterations=0)
    assert not weight.any() and losses == []


def test_the_schedule_rises_to_its_peak_and_falls_to_nothing() -> None:
    optimizer, schedule = one_cycle([nn.Parameter(torch.zeros(1))], 0.5, 20)
    rates = []
    for _ in range(20):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert max(rates) == pytest.approx(0.5, rel=0.05) and rates[0] < 0.05 and rates[-1] < 0.02

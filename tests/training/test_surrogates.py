# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_unlearnable.training import SurrogatePool


def train(pool: SurrogatePool, turns: range) -> list[int]:
    """Give members their turns on made-up gradients; returns the age of the member at each turn."""
    ages = []
    for turn in turns:
        network = pool[turn]
        ages.append(pool.ages[turn % pool.size])
        pool.zero_grad(turn)
        network(torch.ones(1, 3)).square().sum().backward()
        pool.step(turn)
    return ages


def weights(pool: SurrogatePool) -> list[torch.Tensor]:
    return [parameter.detach().clone() for network in pool.networks for parameter in network.parameters()]


def test_members_take_turns_and_start_again_when_old() -> None:
    pool = SurrogatePool(nn.Linear(3, 2), size=2, lifetime=4)
    ages = train(pool, range(24))
    assert ages[0::2] == [0, 1, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1], "the first life of the first member is half a lifetime"
    assert ages[1::2] == [0, 1, 2, 3] * 3


def test_a_single_member_without_lifetime_never_starts_again() -> None:
    assert train(SurrogatePool(nn.Linear(3, 2)), range(9)) == list(range(9))


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = SurrogatePool(nn.Linear(3, 2), size=2, seed=5)
    torch.manual_seed(2)
    second = SurrogatePool(nn.Linear(3, 2), size=2, seed=5)
    other = SurrogatePool(nn.Linear(3, 2), size=2, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))
    assert not torch.equal(weights(first)[0], weights(other)[0])
    assert not torch.equal(weights(first)[0], weights(first)[2]), "members differ from each other"


def test_architectures_are_taken_in_turn() -> None:
    pool = SurrogatePool([nn.Linear(3, 2), nn.Linear(3, 4)], size=3)
    assert [network.out_features for network in pool.networks] == [2, 4, 2]


def test_learning_rate_warms_up() -> None:
    pool = SurrogatePool(nn.Linear(3, 2), learning_rate=1e-2, warmup=4)
    rates = []
    for turn in range(6):
        train(pool, range(turn, turn + 1))
        rates.append(pool.optimizers[0].param_groups[0]["lr"])
    assert rates[0] == pytest.approx(1e-2 / 25)
    assert rates == sorted(rates)
    assert rates[4:] == [1e-2, 1e-2]


def test_resumed_pool_goes_on_as_if_never_stopped() -> None:
    whole = SurrogatePool(nn.Linear(3, 2), size=2, lifetime=5, seed=3)
    train(whole, range(17))
    stopped = SurrogatePool(nn.Linear(3, 2), size=2, lifetime=5, seed=3)
    train(stopped, range(8))
    resumed = SurrogatePool(nn.Linear(3, 2), size=2, lifetime=5, seed=3)
    resumed.load_state_dict(stopped.state_dict())
    train(resumed, range(8, 17))
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))

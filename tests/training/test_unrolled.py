# SPDX-License-Identifier: Apache-2.0
"""Unrolled training: the steps tried are those that AdamW takes, and gradients pass through them."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.perturbers import ClasswiseNoise
from monai_unlearnable.perturbers.surrogate import task_loss
from monai_unlearnable.training import (
    Alternating,
    LogitDivergence,
    ProtectionTrainer,
    SignDescent,
    SurrogatePool,
    Unrolled,
    UnrolledTraining,
)
from monai_unlearnable.utils.enums import CaseKeys
from monai_unlearnable.utils.seeding import isolated_seed


def network(normed: bool = True) -> nn.Module:
    with isolated_seed(0):
        norm = nn.BatchNorm2d(4) if normed else nn.Identity()
        return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), norm, nn.ReLU(), nn.Conv2d(4, 2, 1))


def batches(count: int, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 2, 1, size, size, generator=generator)
    return [(image, (image > 0.5).long()) for image in images]


@pytest.mark.parametrize("steps_before", [0, 3])
def test_steps_tried_are_those_that_adamw_takes(steps_before: int) -> None:
    taken = network(normed=False)
    optimizer = torch.optim.AdamW(taken.parameters(), 0.01, eps=UnrolledTraining.EPSILON)
    data = batches(steps_before + 4)

    def take(image: Tensor, label: Tensor) -> None:
        optimizer.zero_grad()
        task_loss(taken(image), label).backward()
        optimizer.step()

    for batch in data[:steps_before]:
        take(*batch)
    ahead = UnrolledTraining(taken, optimizer, itertools.repeat(0.01))
    before = copy.deepcopy(taken.state_dict())
    for image, label in data[steps_before:]:
        ahead.step(task_loss(ahead(image), label))
    assert all(torch.equal(value, before[name]) for name, value in taken.state_dict().items()), "none was taken"
    for batch in data[steps_before:]:
        take(*batch)
    for name, parameter in taken.named_parameters():
        assert torch.allclose(ahead.weights[name], parameter, atol=1e-6)


def test_buffers_stay_as_they_are() -> None:
    surrogate = network().train()
    before = copy.deepcopy(surrogate.state_dict())
    ahead = UnrolledTraining(surrogate, torch.optim.AdamW(surrogate.parameters()), itertools.repeat(0.01))
    for image, label in batches(2):
        ahead.step(task_loss(ahead(image), label))
    assert all(torch.equal(value, before[name]) for name, value in surrogate.state_dict().items())


def test_gradients_pass_through_the_steps() -> None:
    """The derivative of a later loss by what an earlier step saw, against differences of that loss."""
    surrogate = network(normed=False).double()
    optimizer = torch.optim.AdamW(surrogate.parameters())
    state = [(image.double(), label) for image, label in batches(2)]
    for _ in range(3):  # with moments behind them steps are smooth in what they see
        task_loss(surrogate(state[0][0]), state[0][1]).backward()
        optimizer.step()

    def later(offset: Tensor) -> Tensor:
        ahead = UnrolledTraining(surrogate, optimizer, itertools.repeat(0.05))
        (first, label), (second, other) = state
        ahead.step(task_loss(ahead(first + offset), label))
        return task_loss(ahead(second), other)

    offset = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(later(offset), offset)
    assert found != 0

    def constant_scale(offset: float) -> float:
        """The same with the second moment that the step has without an offset."""
        ahead = UnrolledTraining(surrogate, optimizer, itertools.repeat(0.05))
        plain = UnrolledTraining(surrogate, optimizer, itertools.repeat(0.05))
        (first, label), (second, other) = state
        gradients = [
            torch.autograd.grad(task_loss(tried(image), label), list(tried.weights.values()))
            for tried, image in ((ahead, first + offset), (plain, first))
        ]
        (slow, slower), count = ahead.betas, ahead.count + 1
        for name, moved, still in zip(list(ahead.weights), *gradients, strict=True):
            mean = (slow * ahead.first[name] + (1 - slow) * moved) / (1 - slow**count)
            scale = ((slower * ahead.second[name] + (1 - slower) * still.square()) / (1 - slower**count)).sqrt()
            decayed = (1 - 0.05 * ahead.decay) * ahead.weights[name]
            ahead.weights[name] = decayed - 0.05 * mean / (scale + UnrolledTraining.EPSILON)
        return float(task_loss(ahead(second), other).detach())

    step = 1e-4
    expected = (constant_scale(step) - constant_scale(-step)) / (2 * step)
    assert float(found) == pytest.approx(expected, rel=1e-3)


def trainer(horizon: int = 4, advance: int = 2, **settings: Any) -> tuple[ProtectionTrainer, ClasswiseNoise]:
    noise = ClasswiseNoise(1, 2, (2, 2), 0.1)
    surrogates = SurrogatePool(network(), 2, learning_rate=0.01)
    images, labels = (torch.cat(parts) for parts in zip(*batches(horizon), strict=True))
    ids = [str(number) for number in range(len(images))]
    data = [{CaseKeys.IMAGE: images, CaseKeys.LABEL: labels, CaseKeys.CASE_ID: ids}]
    optimizer = SignDescent(noise.parameters(), 0.02, 0.1, momentum=0.5)
    unrolled = Unrolled(horizon, advance)
    return ProtectionTrainer("cpu", 3, data * 2, surrogates, noise, optimizer, strategy=unrolled, **settings), noise


def test_the_pattern_moves_and_surrogates_take_the_steps_they_are_to() -> None:
    engine, noise = trainer()
    engine.run()
    assert noise.tile.abs().max() > 0 and noise.tile.abs().max() <= 0.1
    assert engine.surrogates.ages == [3 * 2, 3 * 2]
    assert set(engine.state.output) == {"loss", "error", "linf"}


def test_only_the_later_half_of_the_steps_counts() -> None:
    """What surrogates make of the noise at first is of no account but for what they learn by it."""
    horizon, advance = 4, 2

    def run(early: float, learning_rate: float) -> tuple[Tensor, float, list[float]]:
        losses: list[float] = []

        def loss(logits: Tensor, label: Tensor) -> Tensor:
            found = task_loss(logits, label)
            is_early = len(losses) % (horizon + advance) < horizon // 2
            losses.append(float(found.detach()))
            return early * found if is_early else found

        engine, noise = trainer(horizon, advance, loss_function=loss)
        engine.surrogates.learning_rate = learning_rate
        engine.run()
        return noise.tile.detach().clone(), engine.state.output["loss"], losses[-horizon - advance :][:horizon]

    pattern, reported, losses = run(1.0, 0.01)
    assert reported == pytest.approx(sum(losses[2:]) / 2)
    learned, *_ = run(-1.0, 0.01)
    assert not torch.equal(learned, pattern)
    (pattern, *_), (other, *_) = run(1.0, 0.0), run(-1.0, 0.0)
    assert torch.equal(other, pattern) and pattern.any(), "without learning the early steps leave no trace"


@pytest.mark.parametrize(("horizon", "advance"), [(1, 1), (4, 0), (4, 5)])
def test_ranges_are_checked(horizon: int, advance: int) -> None:
    with pytest.raises(InputError):
        trainer(horizon, advance)


def test_what_it_needs_is_asked_for() -> None:
    pool, noise = SurrogatePool(network(), 2), ClasswiseNoise(1, 2, (2, 2), 0.1)
    with pytest.raises(InputError, match="needs a perturber and its optimizer"):
        ProtectionTrainer("cpu", 1, [], pool, noise, None, strategy=Unrolled())
    optimizer = SignDescent(noise.parameters(), 0.02, 0.1)
    with pytest.raises(InputError, match="no penalties"):
        ProtectionTrainer("cpu", 1, [], pool, noise, optimizer, strategy=Unrolled(), penalties=[LogitDivergence()])
    with pytest.raises(InputError, match="one round"):
        Alternating(0)

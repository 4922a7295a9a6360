# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.training import SignDescent


def test_steps_follow_the_sign_of_the_gradient() -> None:
    pattern = nn.Parameter(torch.zeros(4))
    optimizer = SignDescent([pattern], lr=0.25, epsilon=1)
    pattern.grad = torch.tensor([3.0, -0.001, 0.0, 7.0])
    optimizer.step()
    assert pattern.tolist() == [-0.25, 0.25, 0.0, -0.25]
    pattern.grad = torch.tensor([3.0, 1.0, 0.0, -7.0])
    optimizer.step()
    assert pattern.tolist() == [-0.5, 0.0, 0.0, 0.0]


def test_patterns_are_projected_and_come_back() -> None:
    pattern = nn.Parameter(torch.zeros(2, 3))
    optimizer = SignDescent([pattern], lr=0.4, epsilon=0.5)
    for expected in (0.4, 0.5, 0.5):
        pattern.grad = -torch.ones(2, 3)
        optimizer.step()
        assert torch.equal(pattern, torch.full((2, 3), expected))
    pattern.grad = torch.ones(2, 3)
    optimizer.step()
    assert torch.allclose(pattern, torch.full((2, 3), 0.1)), "nothing stays behind the border"


def test_parameters_without_a_gradient_are_left() -> None:
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = SignDescent([first, second], lr=0.1, epsilon=2)
    (3 * second).sum().backward()
    optimizer.step()
    assert first.tolist() == [1, 1] and torch.allclose(second, torch.tensor([0.9, 0.9]))
    optimizer.zero_grad()
    optimizer.step()
    assert torch.allclose(second, torch.tensor([0.9, 0.9]))


def test_descent_finds_the_corner_of_the_ball() -> None:
    pattern, target = nn.Parameter(torch.zeros(5)), torch.tensor([3.0, -2.0, 0.05, -0.02, 0.3])
    optimizer = SignDescent([pattern], lr=0.01, epsilon=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        (pattern - target).square().sum().backward()
        optimizer.step()
    assert torch.allclose(pattern, target.clamp(-0.1, 0.1), atol=0.011)


def test_momentum_sums_directions_of_equal_length() -> None:
    pattern = nn.Parameter(torch.zeros(2))
    optimizer = SignDescent([pattern], lr=0.1, epsilon=1, momentum=0.5)
    pattern.grad = torch.tensor([300.0, -100.0])
    optimizer.step()
    assert torch.allclose(pattern, torch.tensor([-0.1, 0.1]))
    pattern.grad = torch.tensor([-0.1, 0.3])  # a shorter gradient counts as much, and the former one half
    optimizer.step()
    assert torch.allclose(pattern, torch.tensor([-0.2, 0.0]))


@pytest.mark.parametrize("size", [(4, 4), (2, 2, 2), (3, 4, 5)], ids=str)
def test_patterns_without_an_offset(size: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    pattern = nn.Parameter(torch.zeros(2, 3, *size))
    target = 0.5 + torch.randn(2, 3, *size, generator=generator)  # which an offset comes nearest to
    optimizer = SignDescent([pattern], lr=0.01, epsilon=0.1, momentum=0.5, zero_mean=True)
    for _ in range(40):
        pattern.grad = pattern.detach() - target
        optimizer.step()
        assert pattern.abs().max() <= 0.1 + 1e-6
        assert pattern.flatten(2).mean(-1).abs().max() < 1e-3, "each channel of each class on its own"
    high = target > target.mean(tuple(range(2, target.ndim)), keepdim=True)
    assert pattern[high].mean() > 0.02 > -0.02 > pattern[~high].mean(), "what is left of the target is followed"


def test_one_voxel_without_an_offset_is_refused() -> None:
    SignDescent([nn.Parameter(torch.zeros(2, 1, 1, 1))], lr=0.1, epsilon=1)
    with pytest.raises(InputError, match="one voxel"):
        SignDescent([nn.Parameter(torch.zeros(2, 1, 1, 1))], lr=0.1, epsilon=1, zero_mean=True)

# SPDX-License-Identifier: Apache-2.0
"""Padding, affine sampling and evaluation mode, against MONAI and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from monai.transforms import DivisiblePad
from torch import nn
from torch.nn import functional

from monai_unlearnable.utils.arrays import even_sides, network_sides
from monai_unlearnable.utils.tensors import affine_matrix, evaluating, pad_sides, plane_rotation


@pytest.mark.parametrize("shape", [(5, 8), (9, 16, 3)])
@pytest.mark.parametrize("multiple", [1, 4, 6])
def test_even_padding_is_that_of_monai(shape: tuple[int, ...], multiple: int) -> None:
    image = torch.rand(2, *shape)
    sides = even_sides(shape, multiple)
    padded = pad_sides(image, sides)
    assert torch.equal(padded, torch.as_tensor(DivisiblePad(multiple)(image)))
    assert torch.equal(pad_sides(padded, [(-low, -high) for low, high in sides]), image)


def test_a_least_size_is_rounded_up_too() -> None:
    assert even_sides((3, 20), 8, least=10) == [(6, 7), (2, 2)]


def test_for_a_network_what_fits_into_one_divisor_gets_two_along_the_last_axis() -> None:
    assert network_sides((5, 8, 3), 8) == [(1, 2), (0, 0), (6, 7)]
    assert network_sides((5, 9, 3), 8) == even_sides((5, 9, 3), 8)
    assert even_sides((5, 8, 3), 8) == [(1, 2), (0, 0), (2, 3)]


@pytest.mark.parametrize("plane", [(0, 1), (0, 2), (1, 2)])
def test_a_quarter_turn_is_exact(plane: tuple[int, int]) -> None:
    image, shape = torch.rand(1, 1, 6, 6, 6), (6, 6, 6)
    turn = plane_rotation(torch.tensor([math.pi / 2]), *plane, 3)
    matrix = affine_matrix(turn, torch.ones(1, 1), shape, shape)
    grid = functional.affine_grid(matrix, list(image.shape), align_corners=False)
    turned = functional.grid_sample(image, grid, align_corners=False)
    axes = [2 + axis for axis in plane]
    assert torch.allclose(turned, image.rot90(-1, axes), atol=1e-5)


def test_a_patch_is_cut_around_its_center() -> None:
    image = torch.rand(1, 1, 9, 12)
    matrix = affine_matrix(torch.eye(2)[None], torch.ones(1, 2), (4, 6), (9, 12), torch.tensor([5.0, 7.0]))
    patch = functional.grid_sample(
        image, functional.affine_grid(matrix, [1, 1, 4, 6], align_corners=False), align_corners=False
    )
    assert torch.allclose(patch, image[..., 3:7, 4:10], atol=1e-5)


def test_each_layer_gets_its_own_mode_back() -> None:
    network = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2).eval())
    with pytest.raises(KeyError), evaluating(network):
        assert not any(module.training for module in network.modules())
        raise KeyError
    assert [module.training for module in network.modules()] == [True, True, False]

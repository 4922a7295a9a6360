# SPDX-License-Identifier: Apache-2.0
"""Patterns of classes: what makes each of them what it is."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_unlearnable.perturbers import (
    AutoregressiveNoise,
    ClassConvolution,
    ClassPatterns,
    FixedVoxels,
    LinearPatterns,
    SymmetricLattice,
)


def noise_of(perturber: ClassPatterns, kinds: list[int], shape: tuple[int, ...], channels: int = 1) -> Tensor:
    """The noise of blank images with these classes and names of their own."""
    blank, cases = torch.zeros(len(kinds), channels, *shape), [f"case{index}" for index in range(len(kinds))]
    return perturber.delta(blank, cases, torch.tensor(kinds))


def linear_accuracy(noise: Tensor, kinds: list[int]) -> float:
    """How well a linear model that was fitted to the first half knows the second."""
    half = len(kinds) // 2
    features = noise.flatten(1).double() / noise.abs().max()
    targets = F.one_hot(torch.tensor(kinds[:half])).double()
    gram = features[:half] @ features[:half].T + torch.eye(half)
    scores = features[half:] @ features[:half].T @ torch.linalg.solve(gram, targets)
    return float((scores.argmax(1) == torch.tensor(kinds[half:])).double().mean())


@pytest.mark.parametrize(
    "make",
    [
        lambda **arguments: LinearPatterns(spread=0.4, **arguments),
        lambda **arguments: LinearPatterns(cells=3, spread=0.4, **arguments),
        lambda **arguments: FixedVoxels(fraction=0, **arguments),
        lambda **arguments: SymmetricLattice(code="axes", **arguments),
    ],
)
def test_a_linear_model_knows_the_classes(make) -> None:
    kinds = [0, 1, 2] * 20
    assert linear_accuracy(noise_of(make(), kinds, (24, 24)), kinds) == 1
    for granularity in ("universal", "case"):
        assert linear_accuracy(noise_of(make(granularity=granularity), kinds, (24, 24)), kinds) < 0.7


def test_classes_are_far_apart() -> None:
    vertices = noise_of(LinearPatterns(cells=8), list(range(20)), (16, 16)).flatten(1).sign()
    overlap = (vertices @ vertices.T / vertices.shape[1] - torch.eye(20)).abs()
    assert overlap.max() < 0.5 and overlap.mean() < 0.15


def test_cells_fit_images_of_any_size() -> None:
    perturber = LinearPatterns(cells=4)
    small, large = (noise_of(perturber, [1], shape)[0, 0] for shape in ((12, 16), (36, 64)))
    assert torch.equal(F.interpolate(small[None, None], (36, 64))[0, 0], large)
    assert torch.equal(F.adaptive_avg_pool2d(large[None], (12, 16))[0], small)
    assert noise_of(perturber, [1], (3, 2)).abs().min() > 0


def test_patches_are_of_their_size() -> None:
    noise = noise_of(LinearPatterns(patch=5), [0], (20, 20, 10))[0, 0]
    assert torch.equal(
        noise, noise[::5, ::5, ::5].repeat_interleave(5, 0).repeat_interleave(5, 1).repeat_interleave(5, 2)
    )
    assert 0 < (noise > 0).float().mean() < 1


def residual(perturber: AutoregressiveNoise, kind: int, noise: Tensor) -> float:
    """What is left of noise (1, C, spatial...) behind the filter of a class, as a fraction of the noise."""
    filters = perturber.coefficients(kind, noise.shape[1], noise.ndim - 2)[:, None]
    convolve = F.conv2d if noise.ndim == 4 else F.conv3d
    left = convolve(noise.double(), filters.double(), groups=noise.shape[1])
    return float(left.square().mean().sqrt() / noise.square().mean().sqrt())


@pytest.mark.parametrize(("shape", "channels"), [((30, 34), 3), ((14, 17, 12), 1)])
def test_filters_are_silent_on_the_noise_of_their_class(shape: tuple[int, ...], channels: int) -> None:
    perturber = AutoregressiveNoise(seed=3)
    for kind in range(4):
        noise = noise_of(perturber, [kind], shape, channels)
        for other in range(4):
            left = residual(perturber, other, noise)
            assert left < 1e-4 if other == kind else left > 0.1
        mirrored = noise.flip(2)
        assert residual(perturber, kind, mirrored) < 1e-4


def test_the_process_neither_grows_nor_fades() -> None:
    noise = noise_of(AutoregressiveNoise(1.0), [0], (600, 500))[0, 0]
    power = [float(block.square().mean()) for strip in noise.chunk(4) for block in strip.chunk(4, 1)]
    assert max(power) < 1.3 * min(power)
    assert noise.abs().max() == 1 and 0.45 < noise.square().mean().sqrt() < 0.55


def test_cases_start_anywhere() -> None:
    first, second = noise_of(AutoregressiveNoise(1.0), [1, 1], (40, 40)).flatten(1)
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.2


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shape", [(3, 20, 18), (1, 8, 9, 10)])
def test_convolution_is_scipys(shape: tuple[int, ...], size: int) -> None:
    perturber, image = ClassConvolution(0.02, blur=0.5, size=size), np.random.default_rng(0).random(shape, np.float32)
    kernel = perturber.kernel(1, len(shape) - 1)
    assert kernel.sum() == pytest.approx(1) and kernel.argmax() == kernel.numel() // 2
    filtered = np.stack([scipy.ndimage.correlate(channel, kernel.numpy(), mode="nearest") for channel in image])
    noise = perturber.delta(torch.as_tensor(image)[None], ["a"], torch.tensor([1]))[0]
    assert np.allclose(noise.numpy(), np.clip(filtered - image, -0.02, 0.02), atol=1e-6)
    assert not perturber.delta(torch.full((1, 1, 9, 9), 0.7), ["a"], torch.tensor([1])).abs().max() > 1e-6


def test_voxels_are_few_and_at_relative_places() -> None:
    single = noise_of(FixedVoxels(0.1, fraction=0), [0, 1], (40, 50), 3)
    assert ((single != 0).sum((1, 2, 3)) == 3).all()
    places = [torch.nonzero(noise_of(FixedVoxels(fraction=0), [1], shape)[0, 0])[0] / torch.tensor(shape)
              for shape in ((50, 40), (200, 320))]  # fmt: skip
    assert torch.allclose(*places, atol=1 / 40)
    many = noise_of(FixedVoxels(fraction=0.05), [1], (60, 60))
    assert 0.045 < (many != 0).float().mean() <= 0.05
    more = noise_of(FixedVoxels(fraction=0.1), [1], (60, 60))
    assert (more[many != 0] == many[many != 0]).float().mean() > 0.9  # all but those that are drawn again later


@pytest.mark.parametrize("period", [3, 4, 6, 8])
@pytest.mark.parametrize("shape", [(24, 22), (8, 12, 10)])
@pytest.mark.parametrize("axes", [None, [1]])
@pytest.mark.parametrize("code", ["none", "keyed"])
def test_mirroring_leaves_the_lattice(shape: tuple[int, ...], axes: list[int] | None, period: int, code: str) -> None:
    noise = noise_of(SymmetricLattice(1.0, axes=axes, period=period, code=code), [1], shape)
    for axis in range(2, noise.ndim):
        assert torch.equal(noise.flip(axis), noise)
    assert torch.equal(noise.roll(period, 3)[..., period:], noise[..., period:]) or len(shape) == 3
    assert (noise.abs() == 1).all() and (code == "keyed" or noise.min() < noise.max())


def test_the_sequence_of_the_lattice() -> None:
    noise = noise_of(SymmetricLattice(1.0), [1], (16, 8))[0, 0]
    sequence = torch.tensor([1.0, -1, -1, 1])
    assert torch.equal(noise, torch.outer(sequence.repeat(4), sequence.repeat(2)))
    assert torch.equal(
        noise_of(SymmetricLattice(1.0, axes=[0]), [1], (16, 8))[0, 0], sequence.repeat(4)[:, None].expand(16, 8)
    )


def test_codes_of_the_lattice() -> None:
    none, sign, axes = (
        noise_of(SymmetricLattice(1.0, code=code), [0, 1, 2, 3], (16, 16)) for code in ("none", "sign", "axes")
    )
    assert all(torch.equal(noise, none[0]) for noise in none)
    assert torch.equal(sign[1], none[1]) and torch.equal(sign[2], -none[2])
    assert torch.equal(axes[1], none[1]) and (axes[1:].flatten(1) @ axes[1:].flatten(1).T == 256 * torch.eye(3)).all()
    for noise in (sign, axes):
        assert torch.equal(noise.flip(2), noise)


def test_each_sign_of_a_keyed_tile_is_drawn_by_itself() -> None:
    """64 signs a class in 3D with the period of 8, each as often + as -."""
    tiles = [noise_of(SymmetricLattice(1.0, code="keyed", seed=seed), [1, 2], (8, 8, 8)) for seed in range(200)]
    signs = torch.stack(tiles)[:, :, 0, :4, :4, :4].reshape(200, -1)
    assert signs.shape[1] == 2 * 64
    alike = (signs.T @ signs / 200).fill_diagonal_(0)
    assert signs.mean(0).abs().max() < 0.35 and alike.abs().max() < 0.4

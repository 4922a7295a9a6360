# SPDX-License-Identifier: Apache-2.0
"""Patterns of classes: what every one of them does."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import ResizeWithPadOrCrop
from torch import Tensor

from monai_unlearnable.errors import InputError, LabelError
from monai_unlearnable.masks import Everywhere, Roi
from monai_unlearnable.perturbers import (
    AutoregressiveNoise,
    ClassConvolution,
    ClassPatterns,
    FixedVoxels,
    LinearPatterns,
    SymmetricLattice,
    load_perturber,
    save_perturber,
)
from monai_unlearnable.perturbers.inference import generate_noise
from monai_unlearnable.utils.descriptions import describe
from tests.helpers import two_classes

EPSILON = 0.1
SHAPES = [(20, 18), (21, 17), (9, 12, 10)]
PATTERNS: dict[str, Callable[..., ClassPatterns]] = {
    "linear": lambda **arguments: LinearPatterns(EPSILON, patch=3, **arguments),
    "linear-cells": lambda **arguments: LinearPatterns(EPSILON, cells=4, spread=0.4, **arguments),
    "autoregressive": lambda **arguments: AutoregressiveNoise(EPSILON, **arguments),
    "convolution": lambda **arguments: ClassConvolution(EPSILON, **arguments),
    "voxels": lambda **arguments: FixedVoxels(EPSILON, fraction=0.3, **arguments),
    "lattice-axes": lambda **arguments: SymmetricLattice(EPSILON, code="axes", **arguments),
    "lattice-sign": lambda **arguments: SymmetricLattice(EPSILON, code="sign", **arguments),
    "lattice-keyed": lambda **arguments: SymmetricLattice(EPSILON, code="keyed", **arguments),
}
SEEDLESS = {"lattice-axes", "lattice-sign"}
every = pytest.mark.parametrize("name", PATTERNS)


def images(shape: tuple[int, ...], count: int = 2, channels: int = 1) -> Tensor:
    return torch.rand(count, channels, *shape, generator=torch.Generator().manual_seed(0))


def maps(shape: tuple[int, ...], count: int = 2) -> Tensor:
    return torch.as_tensor(two_classes(shape))[None, None].long().expand(count, 1, *shape)


@every
def test_noise_is_bounded_and_in_the_support(name: str) -> None:
    for shape, channels in itertools.product(SHAPES, (1, 3)):
        perturber, image, tried = PATTERNS[name](), images(shape, channels=channels), (shape, channels)
        for label in (maps(shape), torch.tensor([0, 3])):
            noise = perturber.delta(image, ["a", "b"], label)
            assert noise.shape == image.shape and noise.dtype == image.dtype, tried
            assert 0.5 * EPSILON < noise.abs().max() <= EPSILON + 1e-7, tried
            assert torch.equal(noise, noise * (perturber.support(image, label) > 0)), tried
        assert torch.equal(perturber.support(image, maps(shape)), (maps(shape) > 0).float()), tried
        assert perturber.support(image, torch.tensor([0, 3])).all(), tried


@every
def test_regions_carry_the_pattern_of_their_class(name: str) -> None:
    image, label = images((20, 18)), maps((20, 18))
    noise = PATTERNS[name]().delta(image, ["a", "b"], label)
    of_images = PATTERNS[name](support=Everywhere())
    for kind in (1, 2):
        whole = of_images.delta(image, ["a", "b"], torch.tensor([kind, kind]))
        assert torch.equal(noise[label == kind], whole[label == kind])
    everywhere = of_images.delta(image, ["a", "b"], label)
    background = of_images.delta(image, ["a", "b"], torch.tensor([0, 0]))
    assert torch.equal(everywhere[label == 0], background[label == 0])
    assert torch.equal(everywhere[label > 0], noise[label > 0])


@every
def test_noise_of_a_case_knows_no_other_case(name: str) -> None:
    perturber, image, label = PATTERNS[name](), images((20, 18), 4), torch.tensor([0, 1, 1, 2])
    together = perturber.delta(image, list("abcd"), label)
    order = [2, 0, 3, 1]
    assert torch.equal(perturber.delta(image[order], ["c", "a", "d", "b"], label[order]), together[order])
    for index, case in enumerate("abcd"):
        alone = PATTERNS[name]().delta(image[[index]], [case], label[[index]])
        assert torch.equal(alone[0], together[index])


@every
def test_granularity(name: str) -> None:
    image, label = images((20, 18), 1).expand(3, 1, 20, 18), torch.tensor([0, 1, 0])
    first, second, third = PATTERNS[name]().delta(image, ["a", "a", "b"], label)
    assert not torch.equal(first, second)
    if name not in ("autoregressive", "linear-cells"):
        assert torch.equal(first, third)
    first, second, third = PATTERNS[name](granularity="universal").delta(image, ["a", "a", "b"], label)
    assert torch.equal(first, second)
    by_case = PATTERNS[name](granularity="case")
    cases = [str(case) for case in range(8)]
    first, second = by_case.delta(image[:2], ["0", "0"], label[:2])
    assert torch.equal(first, second)
    assert (
        len({tuple(noise.flatten().tolist()) for noise in by_case.delta(images((20, 18), 8), cases, torch.zeros(8))})
        > 1
    )


@every
def test_what_needs_a_label(name: str) -> None:
    image = images((20, 18), 1)
    assert PATTERNS[name]().needs_label and PATTERNS[name](support=Everywhere()).needs_label
    assert PATTERNS[name](support=Roi(), granularity="universal").needs_label
    for perturber in (PATTERNS[name](), PATTERNS[name](support=Everywhere())):
        with pytest.raises(LabelError, match="needs a label"):
            perturber.delta(image, ["a"])
    free = PATTERNS[name](support=Everywhere(), granularity="universal")
    assert not free.needs_label and free.delta(image, ["a"]).any()
    with pytest.raises(LabelError, match="a class for each voxel"):
        PATTERNS[name](support=Roi()).delta(image, ["a"], torch.tensor([1]))


@every
def test_an_empty_map_gives_no_noise(name: str) -> None:
    assert not PATTERNS[name]().delta(images((20, 18)), ["a", "b"], torch.zeros(2, 1, 20, 18).long()).any()


@every
def test_checkpoint_round_trip(name: str, tmp_path: Path) -> None:
    perturber = PATTERNS[name](support=Roi(1), granularity="class", seed=5)
    save_perturber(perturber, tmp_path / "p.safetensors")
    loaded = load_perturber(tmp_path / "p.safetensors")
    assert type(loaded) is type(perturber) and describe(loaded) == describe(perturber)
    image, label = images((20, 18)), maps((20, 18))
    assert torch.equal(loaded.delta(image, ["a", "b"], label), perturber.delta(image, ["a", "b"], label))


@pytest.mark.parametrize("name", [name for name in PATTERNS if name not in SEEDLESS])
def test_another_seed_gives_another_pattern(name: str) -> None:
    image, label = images((20, 18)), maps((20, 18))
    first, second = (PATTERNS[name](seed=seed).delta(image, ["a", "b"], label) for seed in (0, 1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", ["linear", "lattice-axes", "lattice-keyed"])
@pytest.mark.parametrize(("small", "large"), [((13, 18), (24, 26)), ((20, 16), (30, 40)), ((7, 10, 8), (12, 14, 10))])
def test_sizes_agree_around_the_center(name: str, small: tuple[int, ...], large: tuple[int, ...]) -> None:
    perturber, label = PATTERNS[name](), torch.tensor([1])
    noise = perturber.delta(torch.zeros(1, 1, *small), ["a"], label)[0]
    padded = torch.as_tensor(ResizeWithPadOrCrop(large)(noise))
    whole = perturber.delta(torch.zeros(1, 1, *large), ["a"], label)[0]
    assert torch.equal(padded[padded != 0], whole[padded != 0]) and (padded != 0).sum() == noise.numel()
    if all(extent % 2 == 0 for extent in small):
        assert torch.equal(torch.as_tensor(ResizeWithPadOrCrop(small)(whole)), noise)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: LinearPatterns(granularity="all"), "unknown granularity 'all'; known are class, case, universal"),
        (lambda: LinearPatterns(patch=0), "at least one voxel"),
        (lambda: LinearPatterns(cells=0), "at least one cell"),
        (lambda: ClassConvolution(size=4), "must be odd"),
        (lambda: FixedVoxels(fraction=2), r"must lie in \[0, 1\]"),
        (lambda: SymmetricLattice(period=2), "less than 3 voxels"),
        (lambda: SymmetricLattice(code="x"), "unknown code 'x'; known are none, axes, sign, keyed"),
        (lambda: SymmetricLattice(axes=[]), "at least one axis"),
        (lambda: SymmetricLattice(axes=[-1]), "a number in axes is -1; give 0 or more"),
        (lambda: SymmetricLattice(axes=[0, 0]), r"each axis once, not \[0, 0\]"),
        (lambda: SymmetricLattice(axes=[0.5]), "not a list of whole numbers"),
        (lambda: LinearPatterns(spread=-1), "spread must be at least 0"),
        (lambda: ClassConvolution(blur=-0.3), "blur must be at least 0"),
    ],
)
def test_wrong_settings(make: Callable[[], ClassPatterns], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        make()


def test_a_lattice_along_an_axis_that_images_lack() -> None:
    lattice, label = SymmetricLattice(axes=[0, 2]), torch.tensor([1])
    assert lattice.delta(images((8, 8, 8), 1), ["a"], label).any()
    with pytest.raises(InputError, match="runs along axis 2; axes are 0 to 1"):
        lattice.delta(images((8, 8), 1), ["a"], label)


@every
def test_large_images_are_no_mosaic(name: str) -> None:
    image = images((24, 20), 1)
    noise = PATTERNS[name]().delta(image, ["a"], torch.tensor([1]))[0].numpy()
    assert np.array_equal(generate_noise(PATTERNS[name](), image[0].numpy(), "a", 1, window_voxels=16), noise)

# SPDX-License-Identifier: Apache-2.0
"""Learned patterns that cases share: whose they are, and how they meet images of any size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from monai.transforms import ResizeWithPadOrCrop
from torch import Tensor

from monai_unlearnable.errors import InputError, LabelError
from monai_unlearnable.masks import Everywhere, OfClasses, Roi
from monai_unlearnable.perturbers import ClasswiseNoise, load_perturber, save_perturber
from monai_unlearnable.utils.descriptions import describe
from monai_unlearnable.utils.seeding import reset_parameters
from tests.helpers import BUDGET, small_shared, two_classes

SIZES = {2: (6, 4), 3: (4, 6, 5)}
dimensions = pytest.mark.parametrize("dims", SIZES)


def delta(perturber: ClasswiseNoise, shape: tuple[int, ...], label: Tensor) -> Tensor:
    image = torch.zeros(len(label), perturber.in_channels, *shape)
    return perturber.delta(image, [str(index) for index in range(len(label))], label)


@dimensions
def test_images_carry_the_pattern_of_their_class(dims: int) -> None:
    perturber = small_shared(SIZES[dims])
    label = torch.tensor([2, 0, 1, 2])
    assert torch.equal(delta(perturber, SIZES[dims], label), perturber.tile[label])
    universal = small_shared(SIZES[dims], granularity="universal")
    assert torch.equal(delta(universal, SIZES[dims], label), universal.tile.expand(4, 1, *SIZES[dims]))


@dimensions
def test_patterns_are_resized_to_images(dims: int) -> None:
    perturber = small_shared(SIZES[dims])
    label, large = torch.tensor([1, 0]), tuple(3 * extent for extent in SIZES[dims])
    noise = delta(perturber, large, label)
    assert torch.equal(noise, F.interpolate(perturber.tile[label], large))
    assert torch.allclose(F.interpolate(noise, SIZES[dims], mode="area"), perturber.tile[label]), "resized back"


@dimensions
def test_voxels_carry_the_pattern_of_their_class(dims: int) -> None:
    perturber, shape = small_shared(SIZES[dims]), tuple(2 * extent for extent in SIZES[dims])
    label = torch.as_tensor(two_classes(shape))[None, None].long()
    noise = delta(perturber, shape, label)
    for kind in (0, 1, 2):
        alone = delta(perturber, shape, torch.full_like(label, kind))
        assert torch.equal(noise[label == kind], alone[label == kind])
        for axis, period in enumerate(SIZES[dims], 2):
            assert torch.equal(alone.roll(period, axis), alone), "repeated after the size of the pattern"
            assert not torch.equal(alone.roll(1, axis), alone)
    universal = small_shared(SIZES[dims], granularity="universal")
    noise = delta(universal, shape, label)
    assert torch.equal(noise, delta(universal, shape, torch.zeros_like(label)))
    inside = delta(small_shared(SIZES[dims], granularity="universal", support=Roi()), shape, label)
    assert torch.equal(inside, noise * (label > 0))


@pytest.mark.parametrize("granularity", ["class", "universal"])
@pytest.mark.parametrize(("small", "large"), [((13, 18), (24, 26)), ((20, 16), (30, 40)), ((7, 10, 8), (12, 14, 10))])
def test_maps_of_all_sizes_agree_around_the_center(
    granularity: str, small: tuple[int, ...], large: tuple[int, ...]
) -> None:
    perturber = small_shared(SIZES[len(small)], granularity=granularity)
    noise, whole = (delta(perturber, shape, torch.ones(1, 1, *shape).long()).detach()[0] for shape in (small, large))
    padded = torch.as_tensor(ResizeWithPadOrCrop(large)(noise))
    assert torch.equal(padded[padded != 0], whole[padded != 0]) and (padded != 0).sum() == noise.numel()


def test_channels_have_patterns_of_their_own() -> None:
    perturber = ClasswiseNoise(3, 2, (4, 4), BUDGET.epsilon)
    reset_parameters(perturber, 0)
    noise = delta(perturber, (8, 8), torch.tensor([0, 1]))
    assert noise.shape == (2, 3, 8, 8) and not torch.equal(noise[:, 0], noise[:, 1])


def test_spared_classes_carry_nothing() -> None:
    perturber = small_shared((4, 4), support=Everywhere() & ~OfClasses([1]))
    noise = delta(perturber, (8, 8), torch.tensor([0, 1, 2]))
    assert [bool(one.any()) for one in noise] == [True, False, True]


def test_it_starts_from_faint_patterns_of_a_seed() -> None:
    perturber = ClasswiseNoise(1, 3, (8, 8), 0.1)
    assert not perturber.tile.any()
    first, second, other = (reset_parameters(perturber, seed).tile.detach().clone() for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert 0 < first.abs().max() <= 0.01


@pytest.mark.parametrize("shape", [(2,), (2, 1, 9, 9)], ids=["classes", "maps"])
def test_gradients_reach_the_patterns_that_were_seen(shape: tuple[int, ...]) -> None:
    perturber, label = small_shared((4, 4), classes=4), 2 * (torch.arange(shape[0] ** 2).resize_(shape) % 2)
    delta(perturber, (9, 9), label).sum().backward()
    assert [bool(pattern.any()) for pattern in perturber.tile.grad] == [kind in label for kind in range(4)]


@pytest.mark.parametrize("granularity", ["class", "universal"])
@dimensions
def test_checkpoint_round_trip(tmp_path: Path, dims: int, granularity: str) -> None:
    perturber = small_shared(SIZES[dims], granularity=granularity, support=Everywhere() & ~OfClasses([0]))
    save_perturber(perturber, tmp_path / "p.safetensors")
    loaded = load_perturber(tmp_path / "p.safetensors")
    assert isinstance(loaded, ClasswiseNoise) and describe(loaded) == describe(perturber)
    shape = tuple(2 * extent + 1 for extent in SIZES[dims])
    for label in (torch.tensor([0, 1, 2]), torch.as_tensor(two_classes(shape))[None, None].long()):
        assert torch.equal(delta(loaded, shape, label), delta(perturber, shape, label))


def test_what_cannot_be_used() -> None:
    with pytest.raises(InputError, match="unknown granularity 'case'; known are class, universal"):
        ClasswiseNoise(1, 2, (4, 4), granularity="case")
    perturber = small_shared((4, 4), support=Roi())
    assert perturber.needs_label and not perturber.windowed
    with pytest.raises(LabelError, match="a class for each voxel"):
        delta(perturber, (8, 8), torch.tensor([0]))


@pytest.mark.parametrize("size", [(), (0, 2, 2), (2, -1, 2)])
def test_a_pattern_without_voxels_is_refused(size: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="has none"):
        ClasswiseNoise(1, 2, size)


def test_a_pattern_of_other_dimensions_is_refused() -> None:
    with pytest.raises(InputError, match="does not fit images of 3 dimensions"):
        small_shared((2, 2)).delta(torch.zeros(1, 1, 4, 4, 4), ["a"], torch.zeros(1, 1, 4, 4, 4, dtype=torch.long))


def test_a_pattern_of_zeros_is_not_scaled(tmp_path: Path) -> None:
    save_perturber(ClasswiseNoise(1, 2, (2, 2), 0.0), tmp_path / "p.safetensors")
    with pytest.raises(InputError, match="^patterns that were learned with epsilon 0"):
        load_perturber(tmp_path / "p.safetensors", epsilon=0.1)

# SPDX-License-Identifier: Apache-2.0
"""Carriers of the highest frequency: what shifts leave of them, and which one a class gets."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_unlearnable.errors import InputError, LabelError
from monai_unlearnable.masks import Everywhere
from monai_unlearnable.perturbers import NyquistCarriers, PlannedGrid, load_perturber, save_perturber
from monai_unlearnable.perturbers.carriers import carrier_axes, carrier_energies
from tests.helpers import two_classes

EPSILON = 0.1


def whole(axes: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """The noise of an image of one class, all of which carries a carrier; (spatial...)."""
    perturber = NyquistCarriers(2, len(shape), EPSILON, Everywhere(), carriers=[(), axes])
    return perturber.delta(torch.zeros(1, 1, *shape), ["a"], torch.tensor([1]))[0, 0]


def test_signs_of_classes_that_share_a_carrier_take_turns() -> None:
    """Whatever the seed: one sign for all is learned less."""
    for seed in range(5):
        weights = NyquistCarriers(4, 3, carriers=[0, 1], seed=seed).weights.sum(dim=1)
        assert torch.equal(weights[1:].sign() * weights[1].sign(), torch.tensor([1.0, -1.0, 1.0]))
    firsts = {float(NyquistCarriers(2, 3, carriers=[0], seed=seed).weights[1].sum()) for seed in range(20)}
    assert firsts == {-1.0, 1.0}, "the first is drawn"


def test_classes_that_share_a_carrier_have_one_sign_if_asked() -> None:
    weights = NyquistCarriers(4, 3, carriers=[0, 1, 2], same_sign=True).weights.sum(dim=1)
    assert len(weights[1:].unique()) == 1


@pytest.mark.parametrize("dims", [2, 3])
def test_a_patch_from_anywhere_differs_by_no_more_than_its_sign(dims: int) -> None:
    for axes in carrier_axes(dims):
        noise = whole(axes, (11, 10, 9)[:dims])
        assert (noise.abs() == EPSILON).all()
        patches = {0: noise[(slice(0, 6),) * dims]}
        for number, start in enumerate(itertools.product(range(3), repeat=dims), 1):
            patches[number] = noise[tuple(slice(begin, begin + 6) for begin in start)]
        patches |= {-axis - 1: patches[0].flip(axis) for axis in range(dims)}
        for patch in patches.values():
            assert torch.equal(patch, patches[0]) or torch.equal(patch, -patches[0]), axes


def test_there_are_seven_and_no_two_are_alike() -> None:
    carriers = [whole(axes, (8, 8, 8)) / EPSILON for axes in carrier_axes(3)]
    products = torch.tensor([[float((first * second).mean()) for first in carriers] for second in carriers])
    assert torch.equal(products, torch.eye(7))


@pytest.mark.parametrize(("shape", "channels"), [((16, 16, 16), 2), ((17, 30, 9), 1), ((6, 2), 1)])
def test_the_energy_of_a_carrier_is_the_square_of_its_amplitude(shape: tuple[int, ...], channels: int) -> None:
    """Whatever the size: what a block that is cut off would have, its mean, is nothing of the carrier's."""
    everywhere = torch.ones(1, 1, *shape).long()
    for number, axes in enumerate(carrier_axes(len(shape))):
        image = 0.5 + whole(axes, shape).expand(1, channels, *shape)
        energies, counts = carrier_energies(image, everywhere, 3)
        expected = torch.zeros(3, len(energies[0])).double()
        expected[1, number] = EPSILON**2
        assert torch.allclose(energies, expected, atol=1e-6) and (counts > 0).tolist() == [False, True, False]


def test_energies_are_those_of_each_class(channels: int = 1) -> None:
    classes = torch.full((1, channels, 8, 8), -1)
    classes[..., :4, :4], classes[..., 4:, :] = 0, 2
    image = torch.where(classes == 0, 0.5 + 0.1 * rows((0, 1), (8, 8)), 0.2 * rows((1,), (8, 8)))
    energies, counts = carrier_energies(image, classes, 3)
    assert counts.tolist() == [16, 0, 32]
    assert torch.allclose(energies.float(), torch.tensor([[0.01, 0, 0], [0, 0, 0], [0, 0, 0.04]]), atol=1e-6)


def rows(axes: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    return whole(axes, shape)[None, None] / EPSILON


def test_each_class_gets_what_its_region_holds_least_of() -> None:
    """The large class is empty of the checkerboard of all axes, the small one too, and next of rows along axis 1."""
    shape, label = (16, 16), torch.zeros(1, 1, 16, 16).long()
    label[..., :12], label[..., 12:] = 1, 2
    image = 0.1 * rows((0, 1), shape) + torch.where(label == 1, 0.3, 0.5) * rows((0,), shape)
    image = image + torch.where(label == 1, 0.4, 0.2) * rows((1,), shape)
    wide = {"carriers": "all", "distinct": True}
    chosen = NyquistCarriers(3, 2, EPSILON, **wide).fit([(image, label)]).weights
    assert chosen.abs().tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]], (
        "the background, which has no noise, chooses last"
    )
    shared = NyquistCarriers(3, 2, EPSILON, carriers="all").fit([(image, label)]).weights
    assert shared.abs().tolist() == [[1, 0, 0]] * 3
    unseen = NyquistCarriers(4, 2, EPSILON, **wide).fit([(image, label)]).weights.abs()
    assert unseen[:3].tolist() == chosen.abs().tolist() or unseen[3].any(), "a class that no scan of a sample has"


def test_regions_share_the_rows_that_they_hold_least_of_and_classes_of_images_do_not() -> None:
    """Whatever the checkerboard is: small networks learn it late or never."""
    image = 0.1 * rows((0, 1), (16, 16)) + 0.3 * rows((0,), (16, 16)) + 0.2 * rows((1,), (16, 16))
    regions = torch.ones(1, 1, 16, 16).long()
    regions[..., :5] = 2
    assert NyquistCarriers(3, 2, EPSILON).fit([(image, regions)]).weights.abs().tolist() == [[0, 0, 1]] * 3
    apart = NyquistCarriers(3, 2, EPSILON, distinct=True).fit([(image, regions)]).weights.abs()
    assert apart[1:].tolist() == [[0, 0, 1], [0, 1, 0]], "the large region chooses first"
    pictures, classes = image.repeat(3, 1, 1, 1), torch.arange(3)
    of_images = NyquistCarriers(3, 2, EPSILON).fit([(pictures, classes)]).weights.abs()
    assert sorted(of_images.argmax(1).tolist()) == [0, 1, 2]
    along = NyquistCarriers(3, 2, EPSILON, carriers="rows").fit([(pictures, classes)]).weights.abs()
    assert along[:, 0].max() < 1, "no class has the checkerboard alone"


def test_classes_differ_also_when_there_are_more_than_carriers() -> None:
    images, classes = torch.rand(7, 1, 12, 12, generator=torch.Generator().manual_seed(0)), torch.arange(7)
    perturber = NyquistCarriers(7, 2, EPSILON).fit([(images, classes)])
    assert len({tuple(row.tolist()) for row in perturber.weights.abs()}) == 7
    noise = perturber.delta(images, list("abcdefg"), classes)
    assert noise.abs().amax(dim=(1, 2, 3)).min() > 0 and noise.abs().max() <= EPSILON + 1e-7


def test_the_seed_decides_on_signs_alone() -> None:
    drawn = [NyquistCarriers(3, 3, carriers=[(), (0,), (0, 2)], seed=seed).weights for seed in range(20)]
    assert len({tuple(weights.abs().flatten().tolist()) for weights in drawn}) == 1
    assert len({tuple(weights.flatten().tolist()) for weights in drawn}) == 4


def test_one_list_of_axes_is_that_of_all_classes() -> None:
    weights = [NyquistCarriers(3, 3, carriers=carriers).weights for carriers in ([0, 1], [[0, 1]] * 3)]
    assert weights[0].equal(weights[1]) and weights[0].any(dim=1).all()


def test_a_checkpoint_keeps_the_choice(tmp_path: Path) -> None:
    image, label = torch.rand(1, 1, 20, 18), torch.as_tensor(two_classes((20, 18)))[None, None].long()
    perturber = NyquistCarriers(3, 2, EPSILON, seed=3).fit([(image, label)])
    save_perturber(perturber, tmp_path / "p.safetensors")
    loaded = load_perturber(tmp_path / "p.safetensors")
    assert torch.equal(loaded.delta(image, ["a"], label), perturber.delta(image, ["a"], label))


@pytest.mark.parametrize("carriers", [5, [0, [1]], [1.0, 2.0], [True]])
def test_what_is_no_list_of_axes_is_refused(carriers: Any) -> None:
    with pytest.raises(InputError, match="carriers are axes, such as"):
        NyquistCarriers(2, 3, carriers=carriers)


def test_wrong_settings_and_data_are_refused() -> None:
    with pytest.raises(InputError, match=r"no carrier alternates along the axes \[0, 2\]; known are \[\[0, 1\]"):
        NyquistCarriers(2, 2, carriers=[[], [0, 2]])
    with pytest.raises(InputError, match="another number of classes"):
        NyquistCarriers(3, 2, carriers=[[], [0]])
    image, label = torch.rand(1, 1, 8, 8), torch.ones(1, 1, 8, 8).long()
    with pytest.raises(InputError, match="no carriers were chosen yet"):
        NyquistCarriers(2, 2).delta(image, ["a"], label)
    planned = NyquistCarriers(2, 2, carriers=[[], [0]], grid=PlannedGrid((1, 1)))
    with pytest.raises(InputError, match="need to know where voxels lie"):
        planned.delta(image, ["a"], label)
    with pytest.raises(InputError, match="3 dimensions do not fit images of 2"):
        NyquistCarriers(2, 3, carriers=[[], [0]]).delta(image, ["a"], label)
    with pytest.raises(LabelError, match="not known"):
        NyquistCarriers(2, 2).fit([(image, label + 1)])
    with pytest.raises(LabelError, match="no voxel may carry noise"):
        NyquistCarriers(2, 2).fit([(image, label * 0)])

# SPDX-License-Identifier: Apache-2.0
"""Sparse noise: on the voxels that matter to the surrogate, on no others, and never more than allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import Everywhere, OfClasses, RandomScore, Roi, Sparsity, TopK
from monai_unlearnable.perturbers import (
    Augmentation,
    GradientNoise,
    Objective,
    SalientVoxels,
    load_perturber,
    save_perturber,
)
from monai_unlearnable.perturbers.inference import generate_noise
from monai_unlearnable.perturbers.surrogate import task_loss
from monai_unlearnable.utils.descriptions import describe
from monai_unlearnable.utils.seeding import reset_parameters
from tests.helpers import small_surrogate, small_umed
from tests.perturbers.test_gradient import CASES, EPSILON, batch, gradient, kinds, logits_of, trained


def sparse(networks: list[Any], sparsity: Sparsity | None = None, **arguments: Any) -> GradientNoise:
    settings = {"steps": 3, "step_size": 0.03, "sparsity": sparsity or Sparsity(0.1), **arguments}
    return GradientNoise(networks, EPSILON, **settings)


@kinds
@pytest.mark.parametrize(("refresh", "fraction"), [("once", 0.01), ("round", 0.2), ("step", 0.01)])
def test_never_more_voxels_than_allowed(name: str, dims: int, refresh: str, fraction: float) -> None:
    networks, (image, label) = [trained(name, dims, seed) for seed in (0, 1, 2)], batch(name, dims)
    label = (label + 1) % 3  # wrong ones: gradients vanish where a network is certain
    noise = sparse(networks, Sparsity(fraction), mask_refresh=refresh).delta(image, CASES, label)
    counts = (noise != 0).any(1).flatten(1).sum(1)
    allowed = int(fraction * 16**dims)
    assert (counts <= allowed).all() and (counts > 0.5 * allowed).all() and noise.abs().max() <= EPSILON


@kinds
def test_the_first_step_goes_where_the_gradient_is_largest(name: str, dims: int) -> None:
    network, (image, label) = trained(name, dims), batch(name, dims)
    noise = sparse([network], steps=1).delta(image, CASES, label)
    for one, size in zip(noise, gradient(network, image, label).abs(), strict=True):
        assert size[one != 0].min() >= 0.99 * size[one == 0].max()


@pytest.mark.parametrize("dims", [2, 3])
def test_few_voxels_lower_the_loss_more_than_as_many_by_chance(dims: int) -> None:
    network, (image, label) = trained("ResNet18", dims), batch("ResNet18", dims)

    def loss(sparsity: Sparsity) -> float:
        noise = sparse([network], sparsity, steps=5).delta(image, CASES, label)
        return float(task_loss(logits_of(network, image + noise, label), label))

    clean = float(task_loss(logits_of(network, image, label), label))
    assert loss(Sparsity(0.1)) < loss(Sparsity(0.1, RandomScore())) < clean


def test_refreshes_differ() -> None:
    networks, (image, label) = [trained("ResNet18", 2, seed) for seed in (0, 1)], batch("ResNet18", 2)
    noises = [sparse(networks, mask_refresh=when).delta(image, CASES, label) for when in ("once", "round", "step")]
    assert not any(torch.equal(noises[i], noises[j]) for i, j in ((0, 1), (1, 2), (0, 2)))
    first = sparse(networks[:1], steps=1).delta(image, CASES, label)
    assert not noises[0][first == 0].any(), "once: as the first step chose"
    fresh = sparse([networks[1]], steps=1).delta(image + sparse(networks[:1]).delta(image, CASES, label), CASES, label)
    assert not noises[1][fresh == 0].any(), "each round: as the first step of the last round chose"
    with pytest.raises(InputError, match="unknown mask_refresh 'never'.*round"):
        sparse(networks, mask_refresh="never")


@kinds
@pytest.mark.parametrize("per", ["voxel", "element"])
def test_support_and_selection_meet(name: str, dims: int, per: str) -> None:
    network, (image, label) = trained(name, dims), batch(name, dims)
    support = Roi() if label.ndim > 1 else Everywhere() & ~OfClasses([1])
    noise = sparse([network], Sparsity(0.05, per=per), support=support).delta(image, CASES, label)
    where = support(image, label).expand_as(noise) > 0
    assert not noise[~where].any() and noise[where].any()


def test_elements_leave_other_channels_alone() -> None:
    network, image = small_surrogate(channels=3), torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([0, 1])
    by_voxel, by_element = (
        sparse([network], Sparsity(0.1, per=per), steps=1).delta(image, CASES[:2], label) != 0
        for per in ("voxel", "element")
    )
    assert by_voxel.all(1).sum() > 0.9 * by_voxel.any(1).sum(), "all channels of a voxel"
    assert by_element.flatten(1).sum(1).max() <= 25 < by_voxel.flatten(1).sum(1).min()


def test_fitted_cases_cost_no_more_steps() -> None:
    network, (image, label) = trained("ResNet18", 2), batch("ResNet18", 2)
    losses = Objective().of_cases(logits_of(network, image, label), label)
    threshold = float(losses.sort().values[1:3].mean())  # two cases are below it
    dense, frugal = (sparse([network], steps=5, fitted=limit) for limit in (None, threshold))
    all_steps = dense.delta(image, CASES, label)
    noise = frugal.delta(image, CASES, label)
    assert dense.case_steps == 20 and frugal.case_steps <= 14
    assert noise.flatten(1).any(1).all(), "the first step is everyone's"
    easy = losses < threshold
    assert (noise[easy].abs() <= 0.04 + 1e-6).all() and all_steps[easy].abs().max() > 0.09
    assert not sparse([network], steps=5, fitted=0.0).delta(image, CASES, label).equal(noise)


@kinds
def test_salient_voxels_are_a_mask(name: str, dims: int) -> None:
    network, (image, label) = trained(name, dims), batch(name, dims)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()
    with torch.no_grad():
        mask = SalientVoxels(network, Sparsity(0.1))(image, label)
    assert mask.shape == (4, 1, *[16] * dims) and mask.flatten(1).sum(1).tolist() == [int(0.1 * 16**dims)] * 4
    for one, size in zip(mask, gradient(network, image, label).abs(), strict=True):
        assert size[one > 0].min() >= 0.99 * size[one == 0].max()
    network.train()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    with pytest.raises(InputError, match="voxels, not elements"):
        SalientVoxels(network, Sparsity(per="element"))


@pytest.mark.parametrize("dims", [2, 3])
def test_any_method_takes_the_mask_and_keeps_its_network(tmp_path: Path, dims: int) -> None:
    network, (image, label) = trained("UNet", dims), batch("UNet", dims)
    allowed = int(0.05 * 16**dims)
    support = Roi() & SalientVoxels(network, Sparsity(0.05), augmentation=Augmentation(noise=0.1))
    umed = small_umed(dims, support=support, texture=Everywhere())
    noise = umed.delta(image, CASES, label)
    assert 0 < (noise != 0).flatten(1).sum(1).max() <= allowed
    save_perturber(umed, tmp_path / "p")
    loaded = load_perturber(tmp_path / "p")
    assert describe(loaded) == describe(umed) and torch.equal(loaded.delta(image, CASES, label), noise)


@pytest.mark.parametrize("shape", [(41, 49), (17, 11, 13)], ids=str)
@pytest.mark.parametrize("window_voxels", [2**21, 24**2])
def test_voxels_are_counted_on_images_as_they_are(shape: tuple[int, ...], window_voxels: int) -> None:
    dims, allowed = len(shape), int(0.1 * np.prod(shape))
    image, label = np.random.default_rng(0).random((1, *shape), np.float32), np.ones((1, *shape), np.int64)
    network = small_surrogate("UNet", dims)
    kept = []
    for perturber in (
        sparse([network], Sparsity(0.1), divisor=8, steps=1),
        small_umed(dims, support=TopK(Sparsity(0.1, RandomScore()), within=Roi()), texture=Everywhere()),
        small_umed(dims, support=SalientVoxels(network, Sparsity(0.1), within=Roi(), divisor=8), texture=Everywhere()),
    ):
        changed = generate_noise(perturber.eval(), image, "a", label, window_voxels=window_voxels)[0] != 0
        assert 0.95 * allowed < changed.sum() <= allowed
        halves = changed[: shape[0] // 2], changed[shape[0] // 2 :]
        assert min(half.mean() for half in halves) > 0.02, "all parts of the image have their fraction"
        kept.append(changed)
    assert not np.array_equal(kept[0], kept[1])


def test_training_a_method_anew_leaves_the_network_of_its_mask_alone() -> None:
    network = trained("UNet", 2)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    umed = small_umed(2, support=SalientVoxels(network, Sparsity(0.1)), texture=Everywhere())
    generators = umed.contour_net.head.weight.clone()
    reset_parameters(umed, 1)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not torch.equal(umed.contour_net.head.weight, generators)


@pytest.mark.parametrize("name", ["ResNet18", "UNet"])
def test_gradients_are_found_where_torch_looks_for_none(name: str) -> None:
    image, label = batch(name, 2)
    perturber = sparse([trained(name, 2)])
    expected = perturber.delta(image, CASES, label)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            found = perturber.delta(image + 0, CASES, label + 0)
        assert torch.equal(found, expected)

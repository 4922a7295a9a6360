# SPDX-License-Identifier: Apache-2.0
"""Noise by signed gradients of surrogates: it goes where it should, within its budget, one case at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from monai_unlearnable.errors import InputError, LabelError
from monai_unlearnable.masks import Everywhere, OfClasses, Roi
from monai_unlearnable.perturbers import (
    Augmentation,
    GradientNoise,
    Objective,
    Surrogate,
    load_perturber,
    save_perturber,
)
from monai_unlearnable.perturbers.surrogate import error_rate, task_loss
from monai_unlearnable.utils.config import build
from monai_unlearnable.utils.descriptions import describe
from monai_unlearnable.utils.seeding import isolated_seed
from tests.helpers import small_surrogate

EPSILON = 0.1
CASES = ["a", "b", "c", "d"]
KINDS = [("ResNet18", 2), ("ResNet18", 3), ("UNet", 2), ("UNet", 3)]
kinds = pytest.mark.parametrize(("name", "dims"), KINDS)


def batch(name: str, dims: int, size: int = 16, count: int = 4) -> tuple[Tensor, Tensor]:
    """Images with a bright stripe that tells their class, or voxels that are brighter the higher theirs."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, 1, *[size] * dims)
    label = torch.arange(count) % 3
    if name == "UNet":
        label = torch.zeros(shape, dtype=torch.long)
        label[:, :, 4:12, 4:12] = 1
        label[:, :, 8:12, 4:12] = 2
    image = 0.3 + 0.1 * torch.rand(shape, generator=generator)
    if label.ndim > 1:
        return image + 0.08 * label, label
    for one, kind in zip(image, label.tolist(), strict=True):
        one[:, kind * size // 3 : (kind + 1) * size // 3] += 0.15
    return image, label


@cache
def trained(name: str, dims: int, seed: int = 0) -> Surrogate:
    """A surrogate that knows the classes of :func:`batch`, in training mode; shared."""
    network = small_surrogate(name, dims, seed=seed)
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    image, label = batch(name, dims)
    with isolated_seed(0):
        for _ in range(30):
            optimizer.zero_grad()
            task_loss(network(Augmentation()(image, label)[0]), label).backward()
            optimizer.step()
    optimizer.zero_grad()
    return network


def noise_of(
    network: Surrogate | list[Surrogate], image: Tensor, label: Tensor, goal: str = "minimize", **arguments: Any
) -> Tensor:
    networks = network if isinstance(network, list) else [network]
    perturber = GradientNoise(networks, EPSILON, Objective(goal), **{"steps": 8, "step_size": 0.02, **arguments})
    return perturber.delta(image, CASES[: len(image)], label)


@torch.no_grad()
def logits_of(network: Surrogate, image: Tensor, label: Tensor) -> Tensor:
    modes = network.training
    network.eval()
    logits = network(Augmentation()(image, label)[0])
    network.train(modes)
    return logits


def agree(noise: Tensor, expected: Tensor) -> bool:
    """Whether noise is the same but for signs of gradients that are nearly zero, which differ by rounding."""
    return bool(((noise - expected).abs() > 1e-6).float().mean() < 0.01)


@kinds
def test_the_loss_at_the_true_label_falls_or_rises(name: str, dims: int) -> None:
    network, (image, label) = small_surrogate(name, dims), batch(name, dims)
    before = task_loss(logits_of(network, image, label), label)
    for goal, sign in (("minimize", -1), ("maximize", 1)):
        noise = noise_of(network, image, label, goal)
        assert sign * (task_loss(logits_of(network, image + noise, label), label) - before) > 0
        assert noise.shape == image.shape and 0.9 * EPSILON < noise.abs().max() <= EPSILON


@kinds
def test_the_predicted_class_becomes_the_target(name: str, dims: int) -> None:
    network, (image, label) = trained(name, dims), batch(name, dims)
    target = (label + 1) % 3
    noise = noise_of(network, image, label, "target", steps=20)
    before, after = (error_rate(logits_of(network, seen, label), target) for seen in (image, image + noise))
    assert before > 0.9 and after < (0.1 if name == "ResNet18" else 0.8)  # a whole map is harder to turn


@kinds
def test_noise_stays_in_the_support(name: str, dims: int) -> None:
    network, (image, label) = small_surrogate(name, dims), batch(name, dims)
    spared = noise_of(network, image, label, support=Everywhere() & ~OfClasses([1]))
    kept = (label == 1).reshape(len(label), *[1] * (image.ndim - 1)) if label.ndim == 1 else label == 1
    assert not spared[kept.expand_as(spared)].any() and spared[~kept.expand_as(spared)].any()
    if label.ndim > 1:
        assert torch.equal(noise_of(network, image, label, steps=1, support=Roi()) != 0, label > 0)


@kinds
@pytest.mark.parametrize("training", [True, False])
def test_a_case_knows_nothing_of_those_beside_it(name: str, dims: int, training: bool) -> None:
    network, (image, label) = trained(name, dims), batch(name, dims)
    network.train(training)
    together = noise_of(network, image, label, steps=3)
    order = [2, 0, 3, 1]
    perturber = GradientNoise([network], EPSILON, steps=3, step_size=0.02)
    moved = perturber.delta(image[order], [CASES[index] for index in order], label[order])
    alone = torch.cat([perturber.delta(image[[i]], [CASES[i]], label[[i]]) for i in range(4)])
    assert agree(moved, together[order]) and agree(alone, together)


@kinds
def test_networks_are_left_as_they_are(name: str, dims: int) -> None:
    network, (image, label) = small_surrogate(name, dims), batch(name, dims)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()
    next(network.network.children()).eval()
    modes = [module.training for module in network.modules()]
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 7)
    with torch.no_grad():
        noise = noise_of(network, image, label)
    assert not noise.requires_grad and not image.requires_grad
    assert [module.training for module in network.modules()] == modes
    assert all((parameter.grad == 7).all() and parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_modes_come_back_after_an_error() -> None:
    network = small_surrogate().train()
    with pytest.raises(RuntimeError):
        noise_of(network, torch.rand(1, 2, 16, 16), torch.tensor([0]))
    assert all(module.training for module in network.modules())


def gradient(network: Surrogate, image: Tensor, label: Tensor) -> Tensor:
    """The gradient of the loss at an image, by hand."""
    leaf = image.clone().requires_grad_()
    network.eval()
    return torch.autograd.grad(task_loss(network(Augmentation()(leaf, label)[0]), label), leaf)[0]


def test_steps_go_down_one_surrogate_after_the_other() -> None:
    image, label = batch("ResNet18", 2)
    networks, expected = [trained("ResNet18", 2, seed) for seed in (0, 1)], torch.zeros_like(image)
    for network in networks:
        for _ in range(2):
            expected = expected - 0.02 * gradient(network, image + expected, label).sign()
    noise = noise_of(networks, image, label, steps=2)
    assert agree(noise, expected) and not agree(noise, noise_of(networks[::-1], image, label, steps=2))


def test_steps_go_down_the_mean_of_the_surrogates() -> None:
    image, label = batch("ResNet18", 2)
    networks = [trained("ResNet18", 2, seed) for seed in (0, 1)]
    one = noise_of(networks, image, label, steps=1, average=True)
    mean = (gradient(networks[0], image, label) + gradient(networks[1], image, label)) / 2
    assert agree(one, -0.02 * mean.sign()) and not agree(one, noise_of(networks[0], image, label, steps=1))
    assert agree(one, noise_of(networks[::-1], image, label, steps=1, average=True))
    both = noise_of(networks, image, label, average=True)
    for network in networks:
        lower, before = (task_loss(logits_of(network, seen, label), label) for seen in (image + both, image))
        assert lower < before


@pytest.mark.parametrize("numbers", [{"steps": 0}, {"samples": 0}, {"step_size": -0.01}])
def test_steps_go_down(numbers: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(numbers))):
        GradientNoise([], **numbers)


def test_without_surrogates_there_is_no_noise() -> None:
    image, label = batch("ResNet18", 2)
    with pytest.raises(InputError, match="needs training"):
        noise_of([], image, label)


@kinds
def test_checkpoint_round_trip(tmp_path: Path, name: str, dims: int) -> None:
    image, label = batch(name, dims)
    perturber = GradientNoise(
        [trained(name, dims), small_surrogate(name, dims, seed=3)],
        EPSILON,
        Objective("target", [2, 0, 1]),
        steps=2,
        average=True,
        support=Everywhere() & ~OfClasses([0]),
        augmentation=Augmentation([16] * dims, noise=0.1, rotation=10),
        samples=2,
        seed=5,
        divisor=8,
        batch_size=3,
    )
    save_perturber(perturber, tmp_path / "p.safetensors")
    loaded = load_perturber(tmp_path / "p.safetensors")
    assert isinstance(loaded, GradientNoise) and describe(loaded) == describe(perturber)
    assert (loaded.divisor, loaded.batch_size, loaded.step_size) == (8, 3, EPSILON / 8)
    expected = perturber.delta(image, CASES, label)
    assert torch.equal(loaded.delta(image, CASES, label), expected)
    before, trained_state = describe(perturber), perturber.networks[0].state_dict()
    assert describe(build(before)) == before
    assert all(torch.equal(value, trained_state[key]) for key, value in loaded.networks[0].state_dict().items())
    save_perturber(loaded, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "p.safetensors").read_bytes()


def test_images_of_other_sizes_are_seen_at_the_size_of_the_network() -> None:
    network, (image, label) = trained("ResNet18", 2), batch("ResNet18", 2, size=30)
    noise = noise_of(network, image[..., :22], label, steps=1, augmentation=Augmentation([16, 16]))
    assert noise.shape == (4, 1, 30, 22) and (noise != 0).float().mean() > 0.9


@kinds
def test_random_augmentations_are_repeatable(name: str, dims: int) -> None:
    network, (image, label) = small_surrogate(name, dims), batch(name, dims)
    make: Callable[..., Tensor] = lambda **arguments: noise_of(  # noqa: E731
        network,
        image,
        label,
        steps=3,
        **{"augmentation": Augmentation(noise=0.5, flip=True), "samples": 2, "seed": 1, **arguments},
    )
    torch.manual_seed(0)
    first, state = make(), torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(make(), first) and not torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state), "the global generator was not touched"
    assert not torch.equal(make(seed=2), first) and not torch.equal(make(samples=1), first)
    assert torch.equal(make(augmentation=Augmentation(), samples=5), make(augmentation=Augmentation(), samples=1)), (
        "nothing to average over"
    )


def test_labels_that_do_not_fit() -> None:
    network, (image, label) = small_surrogate(), batch("ResNet18", 2)
    assert GradientNoise([network]).needs_label
    with pytest.raises(LabelError, match="a class for each voxel"):
        noise_of(network, image, label, support=Roi())


@pytest.mark.parametrize(
    ("field", "value"),
    [("width", "$__import__('pathlib').Path('{}').touch() or 4"), ("size", ["$exit()", 16]), ("spatial_dims", "@x")],
)
def test_no_expression_of_a_checkpoint_is_evaluated(tmp_path: Path, field: str, value: Any) -> None:
    trace = tmp_path / "trace"
    description = describe(GradientNoise([small_surrogate()]))
    description["networks"][0][field] = value.replace("{}", str(trace)) if isinstance(value, str) else value
    content = json.dumps({"perturber": description, "input": None})
    (tmp_path / "p").write_bytes(safetensors.torch.save({"x": torch.zeros(1)}, {"description": content}))
    with pytest.raises(InputError, match="is not a perturber checkpoint"):
        load_perturber(tmp_path / "p")
    assert not trace.exists()


def test_surrogates_are_described_and_named() -> None:
    with pytest.raises(InputError, match=r"unknown name 'ResNet19'.*ResNet18"):
        Surrogate("ResNet19", 2, 1, 3, [16, 16])
    first = Surrogate("DynUNet", 2, 1, 3, (16, 16), width=4)
    logits = first.train()(torch.rand(2, 1, 16, 16))
    assert logits.shape == (2, 3, 16, 16), "of deep supervision the finest"
    again = build(json.loads(json.dumps(describe(first))))
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)

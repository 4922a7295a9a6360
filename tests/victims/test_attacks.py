# SPDX-License-Identifier: Apache-2.0
"""Training against noise: the hardest augmentation, a slow stem, and better weights near the learned ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import monai.transforms as mt
import numpy as np
import pytest
import torch
from torch import nn

from monai_unlearnable.data import load_cases
from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.utils.optimization import one_cycle
from monai_unlearnable.victims import (
    Classification,
    LossMaximizing,
    Recipe,
    SlowStem,
    Task,
    Victim,
    WeightBall,
    WeightRecovery,
    hard_augmentation,
)
from tests.helpers import write_nifti
from tests.victims.test_training import RECIPE, TASK, small_unet, write_easy, write_stripes

CPU = torch.device("cpu")


class Mean(nn.Module):
    """The mean of each image; notes in which mode it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list[bool] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.modes.append(self.training)
        return image.flatten(1).mean(1)


def far(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return ((logits - label.flatten(1).float().mean(1)) ** 2).mean()


def test_the_draw_with_the_largest_loss_is_taken_sample_by_sample() -> None:
    network, label = Mean(), torch.zeros(2, 1, 4, 4)
    drawn = [
        (torch.stack([torch.full((1, 4, 4), value) for value in pair]), label + index)
        for index, pair in enumerate([(1.0, 9.0), (5.0, 4.0), (2.0, 3.0)])
    ]
    image, chosen = LossMaximizing().hardest(network, lambda logits, target: logits.abs().mean(), drawn)
    assert image[:, 0, 0, 0].tolist() == [5, 9] and chosen[:, 0, 0, 0].tolist() == [1, 0]
    assert network.training and network.modes == [False] * 3 and not image.requires_grad


def test_image_and_label_are_augmented_together_and_repeat_with_the_seed() -> None:
    draw = torch.Generator().manual_seed(0)
    label = (torch.rand(3, 1, 8, 6, generator=draw) > 0.5).float()
    batch = {"image": label * 2 - 1, "label": label}

    def drawn(seed: int, **settings: Any) -> list[tuple[torch.Tensor, ...]]:
        attack = LossMaximizing([mt.RandFlipd(("image", "label"), prob=0.5)], **settings)
        prepare = attack.bind(Mean(), far, seed)
        return [prepare(batch, CPU, False) for _ in range(3)]

    first, again, other = drawn(0), drawn(0), drawn(1)
    for (image, target), (same, _) in zip(first, again, strict=True):
        assert torch.equal(image, target * 2 - 1) and torch.equal(image, same)
    assert any(not torch.equal(one[0], two[0]) for one, two in zip(first, other, strict=True))
    assert torch.equal(batch["label"], label)


def test_the_loss_is_larger_than_without_and_later_one_augmentation_is_drawn() -> None:
    image = torch.zeros(16, 1, 4, 4)
    batch = {"image": image, "label": torch.zeros(16, dtype=torch.long)}
    noise, network = [mt.RandGaussianNoised("image", prob=1, std=1, sample_std=False)], Mean()

    def mean_loss(**settings: Any) -> float:
        prepare = LossMaximizing(noise, **settings).bind(network, lambda logits, _: logits.abs().mean(), 0)
        return float(torch.stack([network(prepare(batch, CPU, False)[0]).abs().mean() for _ in range(4)]).mean())

    assert mean_loss(draws=5) > 1.5 * mean_loss(draws=1)
    assert mean_loss(draws=5, steps=0) == mean_loss(draws=1) < mean_loss(draws=5, steps=2) < mean_loss(draws=5)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_augmentation_keeps_shapes_and_anatomy(dims: int) -> None:
    draw = torch.Generator().manual_seed(0)
    label = torch.zeros(1, *(16, 12, 10)[:dims])
    label[(0, *[slice(2, 8)] * dims)] = 1
    image = 3 * label + 0.3 * torch.randn(label.shape, generator=draw)
    augment = mt.Compose(hard_augmentation(dims)).set_random_state(0)
    for _ in range(20):
        done = augment({"image": image.clone(), "label": label.clone()})
        assert done["image"].shape == image.shape and torch.isfinite(done["image"]).all()
        assert done["label"].sum() == label.sum()
        inside = done["label"] > 0
        assert done["image"][inside].mean() > done["image"][~inside].mean() + 0.5


def test_a_slow_stem() -> None:
    network = small_unet()
    groups = SlowStem(slow=0.01, depth=0.5).groups(network, 1e-2)
    rates = [group["lr"] for group in groups]
    assert rates == sorted(rates) and rates[0] == pytest.approx(1e-4) and rates[-1] == pytest.approx(1e-2)
    assert rates.count(1e-2) == pytest.approx(len(rates) / 2, abs=1)
    assert {p for group in groups for p in group["params"]} == set(network.parameters())
    next(network.parameters()).requires_grad_(False)
    assert not any(p is next(network.parameters()) for g in SlowStem().groups(network, 1) for p in g["params"])


def test_the_stem_hardly_moves_and_the_rest_learns(tmp_path: Path) -> None:
    cases = write_easy(tmp_path, 8)
    recipe = dataclasses.replace(RECIPE, pace=SlowStem(slow=0, depth=0.3))
    victim = Victim(small_unet(), TASK, recipe, num_validations=1)
    before = [parameter.detach().clone() for parameter in victim.network.parameters()]
    trained = victim.train_and_score(cases[:6], cases[6:])
    moved = [float((p.detach() - q).norm()) for p, q in zip(victim.network.parameters(), before, strict=True)]
    assert moved[0] < 1e-6 < 1e-2 < moved[-1] and trained.scores.value > 50  # where all voxels are foreground 25


def test_groups_have_peaks_of_their_own() -> None:
    one, two = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer, schedule = one_cycle([{"params": [one], "lr": 0.1}, {"params": [two], "lr": 1.0}], 1.0, 10)
    seen = []
    for _ in range(10):
        optimizer.step()
        schedule.step()
        seen.append([group["lr"] for group in optimizer.param_groups])
    assert np.allclose(np.array(seen)[:, 1], 10 * np.array(seen)[:, 0]) and np.max(seen, 0)[1] > 0.9


def test_weights_stay_in_the_ball() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    ball = WeightBall(network, 0.2)
    ball.scatter(0)
    for parameter, center in zip(network.parameters(), ball.center, strict=True):
        assert float((parameter.detach() - center).norm() / center.norm()) == pytest.approx(0.2, rel=1e-4)
    with torch.no_grad():
        network[0].weight.add_(10)
        network[1].weight.copy_(ball.center[2] * 1.1)
    inside = network[1].weight.clone()
    ball.project()
    assert float((network[0].weight.detach() - ball.center[0]).norm() / ball.center[0].norm()) == pytest.approx(
        0.2, rel=1e-4
    )
    assert torch.equal(network[1].weight, inside)


def test_the_best_weights_are_kept() -> None:
    network = nn.Linear(4, 1)
    ball, scored = WeightBall(network, 0.5), list[float]()

    def score() -> float:
        scored.append(float(network.weight.sum()))
        return scored[-1]

    WeightRecovery(directions=6).search(ball, score, 0)
    assert len(scored) == 7 and float(network.weight.sum()) == pytest.approx(max(scored))
    WeightRecovery(directions=3).search(WeightBall(network, 0.5), lambda: 0.0, 0)
    assert float(network.weight.sum()) == pytest.approx(max(scored)), "nothing better, nothing changed"


def test_few_clean_cases_recover_what_wrong_ones_taught(tmp_path: Path) -> None:
    clean = write_easy(tmp_path / "clean", 8)
    for index in range(8):  # the dark is labeled instead
        label = np.full((16, 16, 8), 4, "uint8")
        image = np.random.default_rng(index).integers(0, 60, label.shape).astype("int16")
        image[4:10, 4:10, 2:6], label[4:10, 4:10, 2:6] = 400, 0
        write_nifti(tmp_path / "wrong" / "images" / f"{index}.nii.gz", image)
        write_nifti(tmp_path / "wrong" / "labels" / f"{index}.nii.gz", label)
    wrong = [case.to_dict() for case in load_cases(tmp_path / "wrong")]
    recovery = WeightRecovery(fraction=0.3, radius=1.0, directions=1, iterations=30, learning_rate=1.0)

    def score(recipe: Recipe) -> float:
        victim = Victim(small_unet(), TASK, recipe, num_validations=1)
        return victim.train_and_score(wrong[:6], clean[6:], originals=clean[:6]).scores.value

    assert score(RECIPE) + 20 < score(dataclasses.replace(RECIPE, recovery=recovery))


def test_a_recovery_needs_clean_cases(tmp_path: Path) -> None:
    cases = write_easy(tmp_path, 4)
    recipe = dataclasses.replace(RECIPE, iterations=1, recovery=WeightRecovery())
    with pytest.raises(InputError, match="none are known"):
        Victim(small_unet(), TASK, recipe, num_validations=1).train_and_score(cases[:2], cases[2:])
    few, more = (WeightRecovery(fraction=part).choose(list(range(20)), 3) for part in (0.05, 0.3))
    assert len(few) == 1 and len(more) == 6 and set(few) < set(more)


@pytest.mark.parametrize("name", ["loss_maximizing", "slow_stem", "weight_recovery"])
@pytest.mark.parametrize("kind", ["volumes", "pictures"])
def test_the_catalog_trains_them(tmp_path: Path, name: str, kind: str) -> None:
    volumes = kind == "volumes"
    cases = write_easy(tmp_path, 4) if volumes else write_stripes(tmp_path, 4)
    task: Task = TASK if volumes else Classification(2)
    size = [16, 16, 8] if volumes else [16, 16]
    values = {"dims": len(size), "size": size, "keys": list(task.keys), "iterations": 2, "batch_size": 2}
    recipe: Recipe = Catalog.load("recipes").build(name, **values, learning_rate=1e-3, weights=None)
    if recipe.recovery is not None:
        recipe = dataclasses.replace(recipe, recovery=dataclasses.replace(recipe.recovery, iterations=2, directions=1))
    network = small_unet() if volumes else nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    victim = Victim(network, task, recipe, num_validations=1)
    trained = victim.train_and_score(cases[:2], cases[2:], originals=cases[:2])
    assert recipe.name == name and 0 <= trained.scores.value <= 100


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: LossMaximizing(draws=0), "at least one augmentation"),
        (lambda: SlowStem(slow=2), "slow is 2"),
        (lambda: SlowStem(depth=0), "depth is not 0"),
        (lambda: WeightRecovery(fraction=0), "fraction of clean cases"),
        (lambda: WeightRecovery(iterations=0), "iterations at least 1"),
    ],
)
def test_useless_settings_are_refused(wrong: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrong()

# SPDX-License-Identifier: Apache-2.0
"""What victims learn, when they have trained for long enough, and which weights they keep."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.networks.nets import UNet
from PIL import Image
from torch import nn

from monai_unlearnable.data import load_cases
from monai_unlearnable.errors import DatalistError, DivergedError, InputError
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.utils.seeding import isolated_seed
from monai_unlearnable.victims import AdversarialBatch, Classification, Recipe, Segmentation, Trained, Victim
from monai_unlearnable.victims.examination import History, validation_iterations
from tests.helpers import write_nifti

TASK = Segmentation((0, 4))
RECIPE = Recipe((16, 16, 8), iterations=30, batch_size=2, learning_rate=1e-2)


def write_easy(root: Path, count: int) -> list[dict[str, Any]]:
    """Bright boxes at random places: anything learns them."""
    for index in range(count):
        rng = np.random.default_rng(index)
        image, label = rng.integers(0, 60, (16, 16, 8)).astype("int16"), np.zeros((16, 16, 8), "uint8")
        x, y = rng.integers(1, 8, 2)
        label[x : x + 7, y : y + 7, 1:7] = 4
        image[label > 0] += 300
        write_nifti(root / "images" / f"{index}.nii.gz", image)
        write_nifti(root / "labels" / f"{index}.nii.gz", label)
    return [case.to_dict() for case in load_cases(root)]


def write_stripes(root: Path, count: int) -> list[dict[str, Any]]:
    """Two folders of images: stripes along one axis or the other."""
    rng = np.random.default_rng(0)
    for index in range(count):
        image = 60 + 90 * (np.arange(20) // 2 % 2)[:, None] + rng.integers(0, 60, (20, 20))
        image = image if index % 2 else image.T
        path = root / ("down" if index % 2 else "across") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.astype(np.uint8)).save(path)
    return [case.to_dict() for case in load_cases(root)]


def small_unet() -> nn.Module:
    with isolated_seed(0):
        return UNet(3, 1, 2, (4, 8), (2,), norm="instance")


def run(cases: list[dict[str, Any]], recipe: Recipe = RECIPE, seed: int = 0, **sets: Any) -> Trained:
    return Victim(small_unet(), TASK, recipe, seed=seed, num_validations=3).train_and_score(
        cases[:6], cases[6:8], **sets
    )


@pytest.fixture(scope="module")
def easy(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return write_easy(tmp_path_factory.mktemp("easy"), 10)


def test_victim_learns_what_is_easy_and_repeats(easy: list[dict[str, Any]]) -> None:
    trained = run(easy, validation=easy[8:], others={"same": easy[6:8]})
    scores = trained.scores
    assert scores.value > 70
    assert scores.curve_iterations == (10, 20, 30) and scores.iterations == 30
    assert len(scores.curve) == len(scores.validation_curve) == 3
    assert scores.curve[-1] == pytest.approx(scores.value)
    assert scores.selected in scores.curve
    assert trained.others["same"].by_case == scores.by_case
    assert scores.extras["hd95"] < 5
    assert [tuple(output.shape) for output in trained.outputs] == [(16, 16, 8)] * 2
    for case, sample in zip(easy[6:8], trained.inputs, strict=True):
        assert torch.equal(sample["image"], RECIPE.preprocessing(TASK)(case)["image"])
    assert run(easy).scores.by_case == scores.by_case
    assert run(easy, seed=1).scores.by_case != scores.by_case


def test_dice_agrees_with_a_hand_computed_one(easy: list[dict[str, Any]]) -> None:
    network = small_unet()
    scores = Victim(network, TASK, RECIPE, amp=False).score(easy[:2])
    preprocessing = RECIPE.preprocessing(TASK)
    for case, measured in zip(easy[:2], scores.by_case, strict=True):
        item = preprocessing(case)
        with torch.no_grad():
            predicted, truth = network.eval()(item["image"][None]).argmax(1)[0] == 1, item["label"][0] == 1
        expected = 200 * (predicted & truth).sum() / (predicted.sum() + truth.sum())
        assert measured == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("name", ["plain", "monai"])
def test_classifier_learns_folders_of_images(tmp_path: Path, name: str) -> None:
    cases = write_stripes(tmp_path, 24)
    task = Classification(2)
    values = {"dims": 2, "size": [16, 16], "ras_size": [9, 9], "ras_spacing": [1, 1], "keys": ["image"]}
    values |= {"nnunet_size": [9, 9], "spacing": [1, 1]}
    values |= {"iterations": 40, "batch_size": 8, "learning_rate": 5e-2, "weights": None}
    recipe = Catalog.load("recipes").build(name, **values)
    with isolated_seed(0):
        network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    victim = Victim(network, task, recipe, num_validations=2)
    trained = victim.train_and_score(cases[:8] + cases[12:20], cases[8:12] + cases[20:])
    assert trained.scores.metric == "balanced accuracy"
    assert trained.scores.value > 90
    assert trained.scores.extras["auc"] > 90
    assert task.chance == 50


def test_countermeasures_act_on_training_and_test_images(easy: list[dict[str, Any]]) -> None:
    seen = set()

    def blank(sample: dict[str, Any]) -> dict[str, Any]:
        seen.add(sample["case_id"])
        return {**sample, "image": torch.zeros_like(sample["image"])}

    recipe = dataclasses.replace(RECIPE, iterations=12)
    trained = Victim(small_unet(), TASK, recipe, steps=(blank,)).train_and_score(easy[:6], easy[6:8])
    assert seen == {case["case_id"] for case in easy[:8]}
    assert not any(sample["image"].any() for sample in trained.inputs)


def test_unit_images_are_in_the_unit_interval_and_know_their_spacing(easy: list[dict[str, Any]]) -> None:
    sample = RECIPE.normalized_images(TASK)(easy[0])
    assert (float(sample["image"].min()), float(sample["image"].max())) == (0, 1)
    assert sample["spacing"].tolist() == pytest.approx([0.9274, 1.1045, 2.0106], abs=1e-3)
    assert set(sample["label"].unique().tolist()) == {0, 1}


def test_early_stopping_keeps_the_best_weights(easy: list[dict[str, Any]], tmp_path: Path) -> None:
    """The held-out cases have swapped labels: the more is learned, the worse the score on them."""
    misleading = []
    for case in easy[8:]:
        label = tmp_path / f"{case['case_id']}.nii.gz"
        write_nifti(label, np.where(nib.load(case["label"]).get_fdata() > 0, 0, 4).astype("uint8"))
        misleading.append({**case, "label": str(label)})
    recipe = dataclasses.replace(RECIPE, patience=2, iterations=40)
    victim = Victim(small_unet(), TASK, recipe, num_validations=8)
    scores = victim.train_and_score(easy[:6], easy[6:8], misleading).scores
    best = int(np.argmax(scores.validation_curve))
    assert len(scores.curve) == best + 3 < 8 and scores.iterations == 5 * (best + 3)
    assert scores.value == pytest.approx(scores.curve[best]) != pytest.approx(scores.curve[-1])


def test_early_stopping_needs_cases_to_stop_by(easy: list[dict[str, Any]]) -> None:
    with pytest.raises(InputError, match="the recipe 'plain' stops by held-out training cases, and there are none"):
        run(easy, dataclasses.replace(RECIPE, patience=1))


def test_adversarial_training_runs_and_differs(easy: list[dict[str, Any]]) -> None:
    hardened = dataclasses.replace(RECIPE, iterations=4, adversary=AdversarialBatch(0.05, steps=2))
    plain = dataclasses.replace(RECIPE, iterations=4)
    assert run(easy, hardened).scores.final_loss > run(easy, plain).scores.final_loss


def test_larger_images_are_cut_into_patches_and_slid_over(easy: list[dict[str, Any]]) -> None:
    values = {"dims": 3, "size": [8, 8, 8], "keys": ["image", "label"]}
    values |= {"ras_size": [8, 8, 8], "ras_spacing": [1, 1, 2], "spacing": [1, 1, 2]}
    values |= {"nnunet_size": [8, 8, 8]}
    values |= {"iterations": 20, "batch_size": 2, "learning_rate": 0.01, "weights": None}
    for name in ("patches", "nnunet", "monai"):
        trained = run(easy, Catalog.load("recipes").build(name, **values))
        assert trained.outputs[0].shape == (16, 16, 8)
        assert trained.scores.value > 50  # where all voxels are foreground 25


def test_mirroring_victims_learn(easy: list[dict[str, Any]]) -> None:
    values = {"dims": 3, "size": [16, 16, 8], "keys": ["image", "label"]}
    values |= {"iterations": 20, "batch_size": 2, "learning_rate": 0.01, "weights": None}
    assert run(easy, Catalog.load("recipes").build("mirror", **values)).scores.value > 50


def test_divergence_is_told(easy: list[dict[str, Any]]) -> None:
    with pytest.raises(DivergedError, match="the loss became"):
        run(easy, dataclasses.replace(RECIPE, learning_rate=1e30))


def test_nothing_to_score_on(easy: list[dict[str, Any]]) -> None:
    with pytest.raises(DatalistError, match="no cases"):
        Victim(small_unet(), TASK, RECIPE).train_and_score(easy[:6], [])


def test_fine_tuning_needs_weights(easy: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file is named"):
        run(easy, dataclasses.replace(RECIPE, weights=""))
    torch.save(small_unet().state_dict(), tmp_path / "weights.pt")
    frozen = dataclasses.replace(RECIPE, weights=str(tmp_path / "weights.pt"), frozen=r"model\.0", iterations=3)
    victim = Victim(small_unet(), TASK, frozen)
    before = {name: value.clone() for name, value in victim.network.state_dict().items()}
    victim.train_and_score(easy[:6], easy[6:8])
    changed = {name for name, value in victim.network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert not any(name.startswith("model.0") for name in changed)


def test_the_seed_decides_on_augmentation_whatever_the_global_generators_say(easy: list[dict[str, Any]]) -> None:
    values = {"dims": 3, "size": [16, 16, 8], "keys": ["image", "label"], "spacing": [1, 1, 2]}
    values |= {"nnunet_size": [16, 16, 8]}
    values |= {"iterations": 6, "batch_size": 2, "learning_rate": 0.01, "weights": None}
    recipe, losses = Catalog.load("recipes").build("nnunet", **values), []
    for seed in (0, 1):
        with isolated_seed(seed):
            losses.append(run(easy, recipe).scores.final_loss)
    assert losses[0] == losses[1]


def test_bfloat16_repeats_and_is_nearly_as_good(easy: list[dict[str, Any]]) -> None:
    exact, fast, again = (
        Victim(small_unet(), TASK, RECIPE, num_validations=1, amp=amp).train_and_score(easy[:6], easy[6:8]).scores
        for amp in (False, True, True)
    )
    assert fast.by_case == again.by_case and fast.final_loss == again.final_loss
    assert fast.final_loss != exact.final_loss and fast.value == pytest.approx(exact.value, abs=10)


def stops(history: History, validation: list[float]) -> list[bool]:
    """Whether to stop at each validation, with a weight that counts them."""
    network = nn.Linear(1, 1, bias=False)
    found = []
    for moment, score in enumerate(validation):
        nn.init.constant_(network.weight, moment)
        found.append(history.note(10 * moment, network, 10.0 * moment, score))
    return found


@pytest.mark.parametrize(
    ("patience", "stopped"),
    [(1, [False, False, True, False, True]), (2, [False, False, False, False, False]), (None, [False] * 5)],
)
def test_patience_counts_validations_since_the_best(patience: int | None, stopped: list[bool]) -> None:
    assert stops(History(patience), [1.0, 3.0, 2.0, 4.0, 4.0]) == stopped


def test_the_best_weights_are_kept_as_they_were() -> None:
    history = History(patience=9)
    stops(history, [1.0, 3.0, 2.0, 3.0])
    assert history.best is not None and torch.equal(history.best["weight"], torch.ones(1, 1))
    assert (history.test, history.validation) == ([0.0, 10.0, 20.0, 30.0], [1.0, 3.0, 2.0, 3.0])
    assert history.iterations == [0, 10, 20, 30]


def test_patience_does_not_count_early_validations() -> None:
    falling = [5.0, 4.0, 3.0, 2.0, 1.0]
    assert stops(History(patience=2), falling) == [False, False, True, True, True]
    assert stops(History(patience=2, early=2), falling) == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("iterations", "count", "expected"),
    [
        (500, 10, list(range(50, 501, 50))),
        (2500, 10, [50, 100, *range(250, 2501, 250)]),
        (10000, 10, [50, 100, 250, 500, *range(1000, 10001, 1000)]),
        (10000, 1, [10000]),
        (7, 3, [2, 4, 7]),
        (2, 9, [1, 2]),
    ],
)
def test_trainings_are_scored_evenly_and_long_ones_early_too(iterations: int, count: int, expected: list[int]) -> None:
    assert validation_iterations(iterations, count) == expected


def test_without_held_out_cases_it_goes_on_and_keeps_nothing() -> None:
    history = History(patience=1)
    assert not any(history.note(count, nn.Linear(1, 1), 5.0) for count in range(4))
    assert history.best is None and history.validation == []


@pytest.mark.parametrize(("loss", "diverged"), [(0.0, False), (math.inf, True), (math.nan, True)])
def test_divergence(loss: float, diverged: bool) -> None:
    assert History(loss=loss).diverged is diverged

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from monai.networks.nets import UNet

from monai_unlearnable.metrics.protection import Scores, bootstrap_interval
from monai_unlearnable.scans import load_cases
from monai_unlearnable.victims import Recipe, segmentation_network, train_and_score
from tests.helpers import write_nifti


def write_easy(root: Path, count: int) -> list[dict[str, str]]:
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


def test_victim_learns_what_is_easy_and_repeats(tmp_path: Path) -> None:
    cases = write_easy(tmp_path, 8)
    recipe = Recipe((16, 16, 8), iterations=30, batch_size=2, learning_rate=1e-2)

    def run(seed: int) -> Scores:
        network = UNet(3, 1, 2, (4, 8), (2,), norm="instance")
        return train_and_score(network, cases[:6], cases[6:], recipe, (0, 4), seed=seed, evaluations=3)

    scores = run(0)
    assert scores.dice.shape == (2, 1)
    assert len(scores.curve) == 3
    assert scores.mean > 70
    assert scores.peak >= 100 * scores.curve[-1] == pytest.approx(scores.mean)
    np.testing.assert_array_equal(scores.dice, run(0).dice)
    assert not np.array_equal(scores.dice, run(1).dice)


def test_dice_agrees_with_a_hand_computed_one(tmp_path: Path) -> None:
    cases = write_easy(tmp_path, 3)
    recipe = Recipe((16, 16, 8), iterations=1, batch_size=1)
    network = UNet(3, 1, 2, (4, 8), (2,), norm="instance")
    scores = train_and_score(network, cases[:1], cases[1:], recipe, (0, 4), evaluations=1)
    network.eval()
    for case, measured in zip(cases[1:], scores.dice[:, 0], strict=True):
        item = recipe.preprocessing((0, 4))(case)
        predicted, truth = network(item["image"][None]).argmax(1)[0] == 1, item["label"][0] == 1
        expected = 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())
        assert measured == pytest.approx(float(expected), abs=1e-5)


def test_interval_contains_the_mean_and_narrows() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.normal(0.5, 0.1, 8), rng.normal(0.5, 0.1, 800)
    low, high = bootstrap_interval(few)
    assert low < few.mean() < high
    assert np.diff(bootstrap_interval(many)) < (high - low) / 4
    assert bootstrap_interval(np.full(5, 0.3)) == (0.3, 0.3)


def test_absent_classes_do_not_count() -> None:
    scores = Scores(np.array([[0.8, np.nan], [0.6, 0.4]]), (0.6,), 0.1)
    assert scores.per_class == pytest.approx([70, 40])
    assert scores.mean == pytest.approx(60)


def test_unknown_network_lists_the_known() -> None:
    with pytest.raises(ValueError, match="BasicUNet"):
        segmentation_network("VNetty", 3, 1, 2)

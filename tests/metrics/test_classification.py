# SPDX-License-Identifier: Apache-2.0
"""Scores of classifiers against scikit-learn; those of several tasks are the means of each."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score, roc_auc_score

from monai_unlearnable.errors import InputError
from monai_unlearnable.metrics import chance_level, classification_scores, multitask_scores
from monai_unlearnable.metrics.scores import task_name

pytestmark = pytest.mark.filterwarnings("error")


def predictions(classes: int, cases: int, seed: int, digits: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities somewhat better than chance (with ties when rounded), and targets that hold every class."""
    rng = np.random.default_rng(seed)
    targets = np.concatenate([np.arange(classes), rng.integers(0, classes, cases - classes)])
    logits = rng.normal(size=(cases, classes)) + np.eye(classes)[targets]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probabilities.round(digits), targets


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize(("cases", "digits"), [(12, 9), (80, 9), (80, 1)])
def test_agrees_with_scikit_learn(classes: int, cases: int, digits: int) -> None:
    probabilities, targets = predictions(classes, cases, classes + cases, digits)
    scores, predicted = classification_scores(probabilities, targets), probabilities.argmax(axis=1)
    assert scores.metric == "balanced accuracy"
    assert scores.value == pytest.approx(100 * balanced_accuracy_score(targets, predicted))
    assert scores.per_class == pytest.approx(100 * recall_score(targets, predicted, average=None))
    assert scores.by_case == tuple(100.0 * (targets == predicted))
    areas = [roc_auc_score(targets == index, probabilities[:, index]) for index in range(classes)]
    area = areas[1] if classes == 2 else np.mean(areas)
    expected = {"accuracy": 100 * accuracy_score(targets, predicted), "auc": 100 * area}
    assert scores.extras == pytest.approx(expected)
    assert scores.interval[0] <= scores.value <= scores.interval[1]


def test_interval_agrees_with_scipy_on_scikit_learn() -> None:
    probabilities, targets = predictions(2, 40, 0)

    def statistic(truth: np.ndarray, predicted: np.ndarray, axis: int) -> np.ndarray:
        recalls = [np.where(truth == k, predicted == k, 0).sum(axis) / (truth == k).sum(axis) for k in (0, 1)]
        return np.mean(recalls, axis=0)

    data = (targets, probabilities.argmax(axis=1))
    expected = stats.bootstrap(data, statistic, paired=True, method="percentile", rng=5).confidence_interval
    assert classification_scores(probabilities, targets, seed=5).interval == pytest.approx(100 * np.array(expected))


def test_absent_classes_do_not_count() -> None:
    probabilities, targets = predictions(4, 60, 1)
    keep = targets != 2
    scores = classification_scores(probabilities[keep], targets[keep])
    predicted, truth = probabilities[keep].argmax(axis=1), targets[keep]
    recalls = [np.mean(predicted[truth == index] == index) for index in (0, 1, 3)]
    assert math.isnan(scores.per_class[2]) and scores.value == pytest.approx(100 * np.mean(recalls))
    areas = [roc_auc_score(truth == index, probabilities[keep][:, index]) for index in (0, 1, 3)]
    assert scores.extras["auc"] == pytest.approx(100 * np.mean(areas))


def test_a_single_class_has_no_area() -> None:
    scores = classification_scores(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))
    assert math.isnan(scores.extras["auc"]) and scores.value == scores.extras["accuracy"] == 50
    assert scores.per_class[0] == 50 and math.isnan(scores.per_class[1])


def test_tensors_are_taken() -> None:
    probabilities, targets = predictions(3, 20, 2)
    expected = classification_scores(probabilities, targets)
    assert classification_scores(torch.as_tensor(probabilities), torch.as_tensor(targets)) == expected


def test_chance_is_what_guessing_reaches() -> None:
    _, targets = predictions(3, 300, 3)
    constant = classification_scores(np.tile([0.1, 0.7, 0.2], (300, 1)), targets)
    assert constant.value == pytest.approx(chance_level(3)) == pytest.approx(100 / 3)
    with pytest.raises(InputError, match="without classes"):
        chance_level(0)


def test_errors() -> None:
    probabilities, targets = predictions(2, 4, 0)
    with pytest.raises(InputError, match="test set is empty"):
        classification_scores(np.zeros((0, 2)), np.zeros(0, int))
    with pytest.raises(InputError, match=r"\(4, 2\) and \(3,\)"):
        classification_scores(probabilities, targets[:3])
    with pytest.raises(InputError, match="expected probabilities"):
        classification_scores(probabilities[:, :1], targets)
    with pytest.raises(InputError, match="not within 0 to 1"):
        classification_scores(probabilities, targets + 1)
    probabilities[2, 0] = math.nan
    with pytest.raises(InputError, match="test case 3: .*not finite"):
        classification_scores(probabilities, targets)


RNG = np.random.default_rng(0)
TARGETS = {"finding": RNG.integers(0, 2, 40), "view": RNG.integers(0, 3, 40)}
RANKS = {
    task: RNG.random((40, 1 + truth.max())) + np.eye(1 + truth.max())[truth] / 3 for task, truth in TARGETS.items()
}


def test_means_over_tasks_and_each_task_by_its_name() -> None:
    each = {task: classification_scores(RANKS[task], TARGETS[task]) for task in TARGETS}
    both = multitask_scores(RANKS, TARGETS)
    assert both.value == pytest.approx(np.mean([scores.value for scores in each.values()]))
    for task, scores in each.items():
        assert both.extras[task_name(task)] == pytest.approx(scores.value)
    for name in ("accuracy", "auc"):
        assert both.extras[name] == pytest.approx(np.mean([scores.extras[name] for scores in each.values()]))
    assert both.by_case == pytest.approx(np.mean([scores.by_case for scores in each.values()], axis=0))
    assert set(both.by_case) == {0, 50, 100}
    widths = [high - low for low, high in (scores.interval for scores in each.values())]
    low, high = both.interval
    assert low < both.value < high and high - low < max(widths), "two tasks say more than the less certain one"


def test_errors_name_the_task() -> None:
    with pytest.raises(InputError, match="task view: targets 0 to 3 are not within 0 to 2"):
        multitask_scores(RANKS, {**TARGETS, "view": np.arange(40) % 4})

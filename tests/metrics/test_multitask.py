# SPDX-License-Identifier: Apache-2.0
"""Scores of several tasks are the means of those of each."""

from __future__ import annotations

import numpy as np
import pytest

from monai_unlearnable.errors import InputError
from monai_unlearnable.metrics import classification_scores, multitask_scores
from monai_unlearnable.metrics.frontier import task_name

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

# SPDX-License-Identifier: Apache-2.0
"""When a victim has trained for long enough, and which weights it keeps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from monai_unlearnable.victims.training import History, validation_iterations


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

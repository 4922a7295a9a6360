# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ignite.engine import Engine, Events

from monai_unlearnable.training import ResumableCheckpoint, StopAtError


def engine_of(errors: list[float], threshold: float, *handlers: Any) -> Engine:
    """An engine whose iterations err that often."""
    engine = Engine(lambda engine, batch: {"error": errors[engine.state.iteration - 1]})
    for handler in (StopAtError(threshold), *handlers):
        handler.attach(engine)
    return engine


def epochs_of(errors: list[float], threshold: float, epoch_length: int = 2) -> int:
    engine = engine_of(errors, threshold)
    engine.run(range(epoch_length), max_epochs=len(errors) // epoch_length, epoch_length=epoch_length)
    return engine.state.epoch


@pytest.mark.parametrize(
    ("errors", "threshold", "epochs"),
    [
        ([0.9, 0.7, 0.5, 0.3, 0.1, 0.0], 0.3, 3),
        ([0.9, 0.7, 0.5, 0.3, 0.1, 0.0], 0.45, 2),
        ([0.9, 0.7, 0.5, 0.3, 0.1, 0.0], 0.01, 3),
        ([0.0, 0.5, 0.4, 0.0, 0.1, 0.0], 0.25, 2),  # the mean of an epoch counts, and of this epoch alone
        ([0.5, 0.5, 0.5, 0.5], 0.5, 2),  # below, not at
        ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 0.0, 3),
        ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 0.01, 1),
    ],
)
def test_it_stops_below_the_threshold(errors: list[float], threshold: float, epochs: int) -> None:
    assert epochs_of(errors, threshold) == epochs


def test_handlers_of_the_end_run_once() -> None:
    ends: list[int] = []
    engine = engine_of([0.0] * 6, 0.5)
    engine.add_event_handler(Events.COMPLETED, lambda engine: ends.append(engine.state.epoch))
    engine.run(range(2), max_epochs=3)
    assert ends == [1]


def test_a_checkpoint_knows_that_it_was_the_end(tmp_path: Path) -> None:
    engine_of([0.0] * 6, 0.5, ResumableCheckpoint(tmp_path / "training.pt", {})).run(range(2), max_epochs=3)
    resumed = engine_of([0.0] * 6, 0.5, ResumableCheckpoint(tmp_path / "training.pt", {}))
    assert resumed.state.epoch == resumed.state.max_epochs == 1

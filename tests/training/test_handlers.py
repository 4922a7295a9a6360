# SPDX-License-Identifier: Apache-2.0
"""Handlers that end a training and keep copies of its network."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.training import ResumableCheckpoint, Snapshots, StopAtError


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


def counting(*handlers: Any) -> tuple[Engine, nn.Linear]:
    """An engine that counts iterations in the weight of a network."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)

    def iteration(engine: Engine, batch: Any) -> dict[str, float]:
        network.weight.data += 1
        return {"error": 1 / engine.state.iteration}

    engine = Engine(iteration)
    return engine, network


def ages(snapshots: nn.ModuleList) -> list[int]:
    return [int(snapshot.weight) for snapshot in snapshots]


@pytest.mark.parametrize(
    ("interval", "expected"), [(1, [2, 4, 6, 8, 10]), (2, [4, 8, 10]), (5, [10]), (9, [10]), (0, [10])]
)
def test_networks_are_kept_at_several_ages(interval: int, expected: list[int]) -> None:
    engine, network = counting()
    snapshots = nn.ModuleList()
    Snapshots(network, snapshots, interval).attach(engine)
    engine.run(range(2), max_epochs=5)
    assert ages(snapshots) == expected
    assert not any(snapshot.training or snapshot.weight.requires_grad for snapshot in snapshots)
    assert network.training and network.weight.requires_grad


@pytest.mark.parametrize("stop_first", [True, False])
@pytest.mark.parametrize(("interval", "expected"), [(0, [4]), (1, [2, 4]), (2, [4]), (3, [4])])
def test_the_last_one_is_kept_where_a_run_stops_early(
    tmp_path: Path, stop_first: bool, interval: int, expected: list[int]
) -> None:
    def run() -> nn.ModuleList:
        engine, network = counting()
        snapshots = nn.ModuleList()
        copies = Snapshots(network, snapshots, interval)
        for handler in (StopAtError(0.3), copies) if stop_first else (copies, StopAtError(0.3)):
            handler.attach(engine)
        ResumableCheckpoint(tmp_path / "training.pt", {"snapshots": copies}).attach(engine)
        if engine.state.epoch < (engine.state.max_epochs or 5):
            engine.run(range(2), max_epochs=5)
        return snapshots

    assert ages(run()) == expected
    assert ages(run()) == expected, "and the checkpoint has it"


def test_a_resumed_run_has_them_all(tmp_path: Path) -> None:
    def run(stop: int) -> nn.ModuleList:
        engine, network = counting()
        snapshots = nn.ModuleList()
        handler = Snapshots(network, snapshots)
        handler.attach(engine)
        ResumableCheckpoint(tmp_path / "training.pt", {"network": network, "snapshots": handler}).attach(engine)
        engine.add_event_handler(Events.EPOCH_STARTED(once=stop + 1), interrupt)
        with suppress(KeyboardInterrupt):
            engine.run(range(2), max_epochs=4)
        return snapshots

    assert ages(run(2)) == [2, 4]
    assert ages(run(4)) == [2, 4, 6, 8]


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("interval", "expected"), [(1, [2, 4, 5, 5]), (2, [4, 5]), (3, [5, 5]), (0, [5])])
def test_a_training_that_was_cut_short_leaves_as_many(interval: int, expected: list[int]) -> None:
    """A dry run measures what noise against all of them takes."""
    engine, network = counting()
    snapshots = nn.ModuleList()
    Snapshots(network, snapshots, interval).attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=5), lambda engine: engine.terminate())
    engine.run(range(2), max_epochs=4)
    assert ages(snapshots) == expected


def test_a_state_replaces_what_there_is() -> None:
    first, second = nn.ModuleList(), nn.ModuleList([nn.Linear(1, 1, bias=False) for _ in range(5)])
    network = nn.Linear(1, 1, bias=False)
    for age in (1.0, 3.0):
        nn.init.constant_(network.weight, age)
        Snapshots(network, first)._append()
    handler = Snapshots(network, second)
    handler.load_state_dict(Snapshots(network, first).state_dict())
    assert ages(second) == [1, 3] and torch.equal(network.weight, torch.full((1, 1), 3.0))


@pytest.mark.parametrize("interval", [-1, 1.5])
def test_snapshots_are_whole_epochs_apart(interval: Any) -> None:
    with pytest.raises(InputError, match="interval of snapshots"):
        Snapshots(torch.nn.Linear(1, 1), torch.nn.ModuleList(), interval)

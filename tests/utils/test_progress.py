# SPDX-License-Identifier: Apache-2.0
"""Stages count, tell how long the rest takes, and are silent unless somebody asks."""

from __future__ import annotations

import logging

import pytest
from ignite.engine import Engine

from monai_unlearnable.training import TrainingProgress
from monai_unlearnable.utils import progress
from monai_unlearnable.utils.progress import Stage, track


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_the_rest_takes_as_long_as_the_steps_so_far(clock: Clock) -> None:
    with Stage("publishing case", 10) as stage:
        assert str(stage) == "publishing case 1 of 10" and stage.remaining is None
        for _ in range(2):
            clock.now += 30
            stage.advance()
        assert stage.remaining == 8 * 30
        assert str(stage) == "publishing case 3 of 10, 4 min 0 s left"
        clock.now += 10
        assert stage.remaining == 8 * 30 - 10, "time goes on within a step"
        clock.now += 1000
        assert stage.remaining == 7 * 30, "the other steps are still to come"


def test_what_an_earlier_run_has_done_takes_no_time(clock: Clock) -> None:
    stage = Stage("training epoch", 20, done=10)
    clock.now += 8
    stage.reach(12, "loss 0.310")
    assert stage.remaining == 8 * 4
    assert str(stage) == "training epoch 13 of 20, loss 0.310, 32 s left"


def test_a_stage_that_is_done_has_nothing_left(clock: Clock) -> None:
    stage = Stage("scan", 2)
    stage.advance(5)
    assert stage.done == 2 and str(stage) == "scan 2 of 2"


def test_nothing_is_said_unless_logging_asks(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture) -> None:
    assert list(track("abc", "reading")) == ["a", "b", "c"]
    assert not caplog.records and capsys.readouterr() == ("", "")


def test_logging_gets_begin_end_and_a_word_now_and_then(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for _ in track(range(100), "case"):
            clock.now += 1
    told = [record.message for record in caplog.records]
    assert told[0] == "case 1 of 100" and told[-1] == "case: 100 of 100 in 1 min 40 s"
    assert told[1:-1] == ["case 32 of 100, 1 min 9 s left", "case 63 of 100, 38 s left", "case 94 of 100, 7 s left"]


def test_a_stage_that_fails_tells_how_far_it_came(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(ValueError, match="damaged"), Stage("case", 3) as stage:
        stage.advance()
        raise ValueError("damaged")
    assert stage.is_over and caplog.records[-1].message.startswith("case: 1 of 3 in ")


def test_of_several_processes_the_first_one_speaks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "rank", lambda: 1)
    with caplog.at_level(logging.INFO):
        assert len(list(track(range(3), "case"))) == 3
    assert not caplog.records


def test_nothing_to_do_is_no_stage(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert not list(track([], "case"))
    assert not caplog.records


def test_a_training_counts_its_epochs(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    handler = logging.Handler()
    stages: list[Stage] = []
    handler.emit = lambda record: stages.append(record.stage)  # type: ignore[assignment, attr-defined]

    def step(engine: Engine, batch: int) -> dict[str, float]:
        told.append(str(stages[0]))
        return {"loss": batch / 8}

    engine = Engine(step)
    TrainingProgress().attach(engine)
    progress.logger.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO, progress.logger.name):
            engine.run([1, 2], max_epochs=2)
    finally:
        progress.logger.removeHandler(handler)
    counted = [words.split(", ")[:2] for words in told]
    assert counted[0] == ["training epoch 1 of 2"]
    assert counted[1] == ["training epoch 1 of 2", "loss 0.125"]
    assert counted[3] == ["training epoch 2 of 2", "loss 0.125"]
    last = [record.message for record in caplog.records if record.name == progress.logger.name][-1]
    assert last.startswith("training epoch: 2 of 2 in ")

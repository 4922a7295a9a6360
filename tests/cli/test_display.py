# SPDX-License-Identifier: Apache-2.0
"""What people see of a command that works long: one line on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console

from monai_unlearnable.cli import display
from monai_unlearnable.cli.display import GAP, PERIOD, Display
from monai_unlearnable.utils import progress
from monai_unlearnable.utils.progress import Stage
from tests.utils.test_progress import Clock


@contextmanager
def shown(console: Console | None = None) -> Iterator[Display]:
    """A display that gets what stages tell."""
    handler, logger = Display(console), progress.logger
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()


def test_lines_come_neither_rarely_nor_often(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    monkeypatch.setattr(display.time, "monotonic", clock.monotonic)
    monkeypatch.setattr(Display, "_watch", lambda self: None)  # here the test looks
    times: list[float] = []
    with shown() as handler:
        for name in ("first", "second"):
            with Stage(name, 1):
                for _ in range(60):
                    handler._write_if_due()
                    if capsys.readouterr().err:
                        times.append(clock.now - 100)
                    clock.now += 1
    assert times == [GAP, GAP + PERIOD, GAP + 2 * PERIOD, 60, 60 + PERIOD, 60 + 2 * PERIOD]
    assert GAP >= 3 and PERIOD <= 30


def test_what_ends_soon_is_not_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    monkeypatch.setattr(display.time, "monotonic", clock.monotonic)
    with shown() as handler:
        for name in ("short", "shorter"):
            with Stage(name, 1):
                clock.now += 1
        with Stage("long", 7):
            clock.now += GAP
            handler.acquire()
            handler._write_if_due()
            handler.release()
    lines = capsys.readouterr().err.splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", line) for line in lines] == ["long 1 of 7"]


def test_a_terminal_has_one_line_and_nothing_is_left_of_it() -> None:
    screen = io.StringIO()
    with shown(Console(file=screen, force_terminal=True, width=100)) as handler:
        with Stage("training run", 6, done=2), Stage("UNet on [clean]", 500) as inner:
            inner.advance(10, "loss 0.5")
            assert handler._live is not None
            handler._live.refresh()
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
        assert "training run 3 of 6; UNet on [clean] 11 of 500, loss 0.5" in text
        assert screen.getvalue().endswith("\x1b[1A\x1b[2K"), "the line is removed once nothing is done any more"


def test_a_closed_display_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with shown() as handler:
        handler.close()
        with Stage("case", 3):
            pass
    assert not capsys.readouterr().err

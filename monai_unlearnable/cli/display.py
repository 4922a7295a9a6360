# SPDX-License-Identifier: Apache-2.0
"""How far a command is, on the error stream: one line that moves on a terminal, lines with the time elsewhere."""

from __future__ import annotations

import logging
import threading
import time

import click
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from monai_unlearnable.utils.progress import Stage

__all__ = ["Display", "stamped"]

GAP, PERIOD = 5.0, 20.0  # least seconds between two lines, and usual seconds between lines of the same stage
TICK = 1.0  # seconds between two looks
WIDTH = 24  # letters of the bar


def stamped(text: str) -> str:
    """A text with the time before it."""
    return f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}"


class Display(logging.Handler):
    """Shows the stages that begin and end in the records of :mod:`monai_unlearnable.utils.progress`.

    It looks at them by itself, so that a step that takes long is told too.

    Args:
        console: where to show them; by default the error stream.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(logging.INFO)
        self.console = Console(stderr=True) if console is None else console
        self._stages: list[Stage] = []  # from the outermost to the innermost
        self._live: Live | None = None
        self._ended = threading.Event()
        self._watcher: threading.Thread | None = None
        self._last: float | None = None
        self._shown: Stage | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Note a stage that begins or ends; logging holds the lock of this handler meanwhile."""
        stage = getattr(record, "stage", None)
        if not isinstance(stage, Stage) or self._ended.is_set():
            return
        self._stages = [known for known in self._stages if known is not stage] + [stage] * (not stage.is_over)
        if self.console.is_terminal:
            self._refresh()
        else:
            self._write_if_due()

    def line(self) -> str:
        """What is done now, from the largest part of the work to the smallest."""
        return "; ".join(map(str, self._stages))

    def close(self) -> None:
        """Show nothing any more."""
        self._ended.set()
        self._stages = []
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._watcher is not None:
            self._watcher.join(2 * TICK)  # it may wait for this handler, which logging holds at the exit
        super().close()

    def _refresh(self) -> None:
        if not self._stages and self._live is not None:
            self._live.stop()
            self._live = None
        elif self._stages and self._live is None:
            self._live = Live(console=self.console, get_renderable=self._bar, refresh_per_second=4, transient=True)
            self._live.start(refresh=True)

    def _bar(self) -> Table | Text:
        if not self._stages:
            return Text()
        outermost, row = self._stages[0], Table.grid(padding=(0, 1))
        row.add_column(width=WIDTH)
        row.add_column(no_wrap=True, overflow="ellipsis")
        row.add_row(ProgressBar(outermost.total, outermost.done, WIDTH), Text(self.line()))  # names may hold brackets
        return row

    def _write_if_due(self) -> None:
        now, first = time.monotonic(), next(iter(self._stages), None)
        if self._last is None:
            self._last = now  # what ends soon is not told
        waited = now - self._last
        if first is not None and (waited >= PERIOD or (waited >= GAP and first is not self._shown)):
            self._last, self._shown = now, first
            click.echo(stamped(self.line()), err=True)
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, name="progress", daemon=True)
            self._watcher.start()

    def _watch(self) -> None:
        while not self._ended.wait(TICK):
            with self.lock:  # type: ignore[union-attr]
                self._write_if_due()

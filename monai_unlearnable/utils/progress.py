# SPDX-License-Identifier: Apache-2.0
"""Progress of long work: stages that count, told by logging; and no remarks of libraries.

Each record about a stage has it as its attribute ``stage``, so that a handler can follow it. Nothing is shown unless a
handler of this module's logger takes records of level ``INFO``.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TypeVar

from monai_unlearnable.utils.distributed import rank
from monai_unlearnable.utils.text import duration

__all__ = ["Stage", "hush_monai", "track"]

PERIOD = 30.0  # seconds between two records of one stage
ENGINES = "ignite.engine"  # they log the errors that they raise, which the program tells itself
# Loggers with remarks on bundles' properties and logging files, and on a decoder that is not installed.
HUSHED = ("monai.bundle.workflows", "monai.data.nvimgcodec_pydicom_plugin")

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Stage:
    """A part of a run that counts its steps, from entering the context to leaving it.

    Where several processes work together, only the first one tells of it.

    Args:
        name: what a step is, such as ``"publishing case"``.
        total: number of steps.
        done: number of steps that an earlier run has done.

    Attributes:
        note: what the work says of the current step, such as its loss.
        is_over: whether the context was left.

    Example:
        >>> with Stage("training epoch", 20) as stage:
        ...     stage.advance(0.5, "loss 0.31")
        ...     print(stage)
        training epoch 1 of 20, loss 0.31, 4 min 12 s left
    """

    def __init__(self, name: str, total: int, done: float = 0) -> None:
        self.name, self.total, self.done, self.note, self.is_over = name, total, done, "", False
        self._first, self._began = done, time.monotonic()
        self._moved, self._told = self._began, self._began
        self._is_told = rank() == 0

    def __enter__(self) -> Stage:
        self._tell(str(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_over = True
        seconds = time.monotonic() - self._began
        self._tell(f"{self.name}: {math.floor(self.done)} of {self.total} in {duration(seconds)}")

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Count further steps, or parts of one."""
        self.reach(self.done + steps, note)

    def reach(self, done: float, note: str = "") -> None:
        """Set the number of steps that are done."""
        self.done, self.note, self._moved = min(done, self.total), note, time.monotonic()
        if self._moved - self._told > PERIOD:
            self._told = self._moved
            self._tell(str(self))

    @property
    def remaining(self) -> float | None:
        """Seconds that the rest is expected to take, by the mean of the steps so far; None before the first."""
        counted, rest = self.done - self._first, self.total - self.done
        if counted <= 0:
            return None
        mean, waited = (self._moved - self._began) / counted, time.monotonic() - self._moved
        return max(mean * rest - waited, mean * (rest - 1), 0.0)  # a step that takes long is not over yet

    def __str__(self) -> str:
        current, remaining = min(math.floor(self.done) + 1, self.total), self.remaining
        left = "" if remaining is None or self.done >= self.total else f"{duration(remaining)} left"
        return ", ".join(filter(None, (f"{self.name} {current} of {self.total}", self.note, left)))

    def _tell(self, text: str) -> None:
        if self._is_told:
            logger.info("%s", text, extra={"stage": self})


def track(items: Sequence[T], name: str) -> Iterator[T]:
    """Iterate over ``items`` as the steps of a stage; without any there is none."""
    if not items:
        return
    with Stage(name, len(items)) as stage:
        for item in items:
            yield item
            stage.advance()


def hush_monai() -> None:
    """Omit remarks of MONAI and Ignite from the output of our programs; they may be imported before or later."""
    for name in HUSHED:
        logging.getLogger(name).addFilter(_is_error)  # levels are set when the modules are imported
    logging.getLogger(ENGINES).setLevel(logging.CRITICAL)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR

# SPDX-License-Identifier: Apache-2.0
"""The display of a run: a progress bar on anything longer than a few seconds, and no remarks of libraries."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from monai_unlearnable.utils.distributed import rank

__all__ = ["hush_monai", "progress_bar", "track"]

ENGINES = "ignite.engine"  # they log the errors that they raise, which the program tells itself
# Loggers with remarks on bundles' properties and logging files, and on a decoder that is not installed.
HUSHED = ("monai.bundle.workflows", "monai.data.nvimgcodec_pydicom_plugin")

T = TypeVar("T")


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A rich progress bar on the error stream; silent where that is no terminal, and in all processes but the first."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),  # names may hold brackets
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, disable=rank() > 0 or not console.is_terminal) as progress:
        yield progress


def track(items: Sequence[T], description: str) -> Iterator[T]:
    """Iterate over ``items`` behind a progress bar."""
    with progress_bar() as progress:
        task = progress.add_task(description, total=len(items), note="")
        for item in items:
            yield item
            progress.advance(task)


def hush_monai() -> None:
    """Omit remarks of MONAI and Ignite from the output of our programs; they may be imported before or later."""
    for name in HUSHED:
        logging.getLogger(name).addFilter(_is_error)  # levels are set when the modules are imported
    logging.getLogger(ENGINES).setLevel(logging.CRITICAL)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR

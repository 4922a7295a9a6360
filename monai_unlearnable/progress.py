# SPDX-License-Identifier: Apache-2.0
"""A progress bar with an estimate of the time left, on anything that takes longer than a few seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["progress_bar", "track"]

T = TypeVar("T")


@contextmanager
def progress_bar(disable: bool = False) -> Iterator[Progress]:
    """A rich progress bar on the error stream; silent where that is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=disable or not console.is_terminal) as progress:
        yield progress


def track(items: Sequence[T], description: str) -> Iterator[T]:
    """Iterate over ``items`` behind a progress bar."""
    with progress_bar() as progress:
        task = progress.add_task(description, total=len(items), note="")
        for item in items:
            yield item
            progress.advance(task)

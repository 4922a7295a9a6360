# SPDX-License-Identifier: Apache-2.0
"""Cells of a laboratory trained by several processes of one machine."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from monai_unlearnable.evaluation.matrix import Cell
from monai_unlearnable.utils.progress import hush_monai, progress_bar

if TYPE_CHECKING:
    from monai_unlearnable.evaluation.laboratory import Laboratory

__all__ = ["run_cells"]


def run_cells(folder: Path, cells: Sequence[Cell], workers: int) -> None:
    """Train cells side by side, and measure their data; each process keeps what it finds below the folder.

    Args:
        folder: of a laboratory whose settings are saved.
        cells: what to train.
        workers: processes; the cores are shared out among them.
    """
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(workers, context, _begin, (threads,)) as pool,
        progress_bar() as progress,
    ):
        jobs = [pool.submit(_run, str(folder), cell) for cell in cells]
        jobs += [pool.submit(_measure, str(folder), name) for name in dict.fromkeys(cell.data for cell in cells)]
        task = progress.add_task("train cells", total=len(jobs), note="")
        for done in as_completed(jobs):
            done.result()
            progress.advance(task)


def _begin(threads: int) -> None:
    torch.set_num_threads(threads)
    hush_monai()


def _run(folder: str, cell: Cell) -> None:
    _laboratory(folder).run_cell(cell)


def _measure(folder: str, name: str) -> None:
    laboratory = _laboratory(folder)
    laboratory.measure([laboratory.sources[name]])


@lru_cache(maxsize=1)
def _laboratory(folder: str) -> Laboratory:
    from monai_unlearnable.evaluation.laboratory import Laboratory

    return Laboratory.open(folder)

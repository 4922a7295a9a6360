# SPDX-License-Identifier: Apache-2.0
"""Does a run that is killed at any moment, and started again, end with the files of an undisturbed one?

Protects small volumes with the ``umed`` bundle, training included, in processes that are killed (SIGKILL) at random
moments of the undisturbed run's time, then run to their end. Compares every byte of ``protected/`` and ``noise/``.

    python benchmarks/kill_points.py OUT [--kills 100] [--cases 30] [--key FILE]
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from monai_unlearnable.errors import UnlearnableError
from monai_unlearnable.phantoms import write_phantom_dataset
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.publishing.verify import verify

QUICK: dict[str, Any] = {"epochs": 3, "epoch_length": 2, "batch_size": 2, "network_def#channels": [4, 8, 8, 8]}


def start(data: Path, out: Path, key: str | None) -> int:
    """Protect in a child, which has everything imported already."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            run_bundle("umed", dataset_dir=str(data), output_dir=str(out), **QUICK, **({"key": key} if key else {}))
            code = 0
        except UnlearnableError as error:
            os.write(1, f"{error}\n".encode())
        finally:
            os._exit(code)
    return child


def finish(child: int) -> bool:
    return os.waitpid(child, 0)[1] == 0


def files(out: Path) -> dict[str, bytes]:
    """What is published, and what undoes it."""
    found = (path for folder in ("protected", "noise") for path in (out / folder).rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in found}


def state(out: Path) -> str:
    """How far a killed run had come."""
    if any((out / "noise").rglob("manifest.json*")):
        return "finished"
    if any((out / "noise").rglob("*.npz*")):
        return "publishing"
    return "training" if any((out / "models").glob("training.pt*")) else "starting"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--cases", type=int, default=30)
    parser.add_argument("--key")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)  # threads do not survive a fork
    data, whole, cut = (arguments.out / name for name in ("data", "whole", "cut"))
    shutil.rmtree(arguments.out, ignore_errors=True)
    write_phantom_dataset(data, count=arguments.cases, test_count=0, size=(24, 24, 16))
    begin = time.monotonic()
    assert finish(start(data, whole, arguments.key))
    seconds, expected = time.monotonic() - begin, files(whole)
    generator, states, same = np.random.default_rng(0), Counter[str](), 0
    while states.total() < arguments.kills:
        shutil.rmtree(cut, ignore_errors=True)
        child = start(data, cut, arguments.key)
        time.sleep(generator.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        if finish(child) or state(cut) == "finished":
            continue  # it was quicker than the first
        states[state(cut)] += 1
        same += finish(start(data, cut, arguments.key)) and files(cut) == expected
    if arguments.key is None:
        verify(cut, data)
    console = Console(width=120)
    console.print(f"{arguments.cases} cases, {seconds:.1f} s undisturbed, killed while {dict(states)}")
    console.print(f"{same} of {arguments.kills} ended with the same files")


if __name__ == "__main__":
    sys.exit(main())

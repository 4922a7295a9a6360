# SPDX-License-Identifier: Apache-2.0
"""Does memory stay flat over the number of cases, and does a killed run of many go on to the very same files?

Protects small synthetic volumes of two classes with the ``salm`` bundle, in a process of its own: undisturbed, and
killed twice (SIGKILL while the surrogate is trained, and once a third of the volumes are published).

    python benchmarks/many_cases.py OUT [--counts 300,1200] [--side 32] [--epochs 2 or other of the bundle]
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
from rich.console import Console
from rich.table import Table

from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.verify import verify

QUICK = {"epochs": 2, "epoch_length": 4, "steps": 2, "network_def#width": 4, "batch_size": 16, "cache_gib": 0.02}
POLL = 0.02


def write_volumes(folder: Path, count: int, side: int) -> None:
    """Volumes of noise, of two classes that differ by a bright ball, as int16 NIfTI."""
    axes = np.meshgrid(*[np.linspace(-1, 1, side)] * 3, indexing="ij", sparse=True)
    ball = sum(axis**2 for axis in axes) < 0.2
    for number in range(count):
        voxels = np.random.default_rng(number).normal(200, 40, (side,) * 3) + 150 * ball * (number % 2)
        path = folder / "ab"[number % 2] / f"{number:05d}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.Nifti1Image(voxels.astype(np.int16), np.eye(4)).to_filename(path)


def run(data: Path, out: Path, settings: list[str], when: Callable[[], bool] | None = None) -> tuple[float, float]:
    """Protect in a process of its own, killed once ``when`` holds; returns seconds and peak memory in MiB."""
    words = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "monai_unlearnable",
        "protect",
        "salm",
        str(data),
        str(out),
        *settings,
    ]
    begin = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # The child is not reaped here, so that its memory can be asked for.
    while when is not None and os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if when():
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(POLL)
    _, status, usage = os.wait4(process.pid, 0)
    if when is None and status:
        raise RuntimeError(f"protect failed with status {status}")
    return time.monotonic() - begin, usage.ru_maxrss / 1024


def files(folder: Path) -> dict[str, bytes]:
    """What is published and what undoes it, by relative name."""
    layout = Layout(folder)
    found = (path for root in (layout.protected, layout.noise) for path in sorted(root.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def published_more_than(out: Path, count: int) -> bool:
    return sum(1 for _ in (out / "noise").rglob("*.npz")) > count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--counts", default="300,1200")
    parser.add_argument("--side", type=int, default=32)
    arguments, further = parser.parse_known_args()
    settings = [word for name, value in QUICK.items() for word in (f"--{name}", str(value))] + further
    table = Table("Cases", "Time", "Peak memory", "Killed at", "Time of the rest", "Same bytes")
    for count in map(int, arguments.counts.split(",")):
        root = arguments.out / str(count)
        shutil.rmtree(root, ignore_errors=True)
        write_volumes(root / "data", count, arguments.side)
        seconds, peak = run(root / "data", root / "whole", settings)
        cut = root / "cut"
        training = cut / "models" / "training.pt"
        run(root / "data", cut, settings, training.is_file)
        run(root / "data", cut, settings, partial(published_more_than, cut, count // 3))
        done = sum(1 for _ in (cut / "noise").rglob("*.npz"))
        rest, _ = run(root / "data", cut, settings)
        verify(cut, root / "data")
        same = "yes" if files(cut) == files(root / "whole") else "NO"
        table.add_row(f"{count}", f"{seconds:.0f} s", f"{peak:.0f} MiB", f"training, {done}", f"{rest:.0f} s", same)
    Console(width=120).print(table)


if __name__ == "__main__":
    sys.exit(main())

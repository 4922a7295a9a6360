# SPDX-License-Identifier: Apache-2.0
"""How much faster are two processes than one: stored noise, a checkpoint, training and generation.

Synthetic volumes; each process has one thread. Training sees the same number of cases: with two processes half as many
iterations. ``start`` is the same command on two tiny scans: what it takes before there is anything to share. The CPU
time of a process, imports apart, says how well work is shared out also where other work takes the cores: the ratio is
that of one process over the busier one of two.

    OMP_NUM_THREADS=1 python benchmarks/two_ranks.py OUT [--count 16] [--shape 192,192,96] [--runs 3] [--jobs stored]
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from full_size import ball, perturber, save, scan
from rich.console import Console
from rich.table import Table

from monai_unlearnable.__main__ import main as cli
from monai_unlearnable.intensity import FixedWindow
from monai_unlearnable.perturbers import InputSettings, save_perturber

RANKS = (1, 2)
IMPORTS = ("torch", "ignite.distributed", "monai.bundle", "monai.networks.nets", "monai.engines", "skimage.metrics")
TINY = (16, 16, 16)
JOBS = {"stored": "apply, stored noise", "checkpoint": "apply, umed checkpoint", "protect": "protect umed"}
CASES, EPOCHS = 2 * 40, 2  # cases that training sees an epoch, in batches of 2


def write_cases(folder: Path, count: int, shape: tuple[int, ...]) -> Path:
    label = ball(min(shape) / 3, shape).astype(np.uint8)
    for number in range(count):
        save(scan(number, shape), folder / "images" / f"{number:03d}.nii.gz")
        save(label, folder / "labels" / f"{number:03d}.nii.gz")
    return folder


def child(words: list[str]) -> None:
    """Run a word of the command line and print the CPU seconds that this process spent on it, without imports."""
    for name in IMPORTS:
        importlib.import_module(name)
    begin = time.process_time()
    code = cli(words)
    print(f"CPU {time.process_time() - begin:.3f};", flush=True)  # noqa: T201
    sys.exit(code)


def run(words: list[str], ranks: int, out: Path) -> tuple[float, float]:
    """Wall seconds of a word of the command line in so many processes, and CPU seconds of the busiest one."""
    shutil.rmtree(out, ignore_errors=True)
    launch = [sys.executable]
    if ranks > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    begin = time.perf_counter()
    command = [*launch, __file__, "--child", *words[:3], str(out), *words[3:]]
    done = subprocess.run(command, check=True, capture_output=True, env=environment, text=True)
    spent = [float(found) for found in re.findall(r"CPU ([\d.]+);", done.stdout)]
    return time.perf_counter() - begin, max(spent)


def job(name: str, root: Path, data: Path, ranks: int) -> list[str]:
    if name == "stored":
        return ["apply", str(root / f"stored-{data.name}" / "noise"), str(data)]
    if name == "checkpoint":
        return ["apply", str(root / "umed.safetensors"), str(data)]
    length = max(1, CASES // (2 * ranks)) if data.name == "data" else 1
    epochs = EPOCHS if data.name == "data" else 1
    return ["protect", "umed", str(data), "--epochs", str(epochs), "--epoch_length", str(length)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--shape", default="192,192,96")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--jobs", default=",".join(JOBS))
    arguments = parser.parse_args()
    root, shape = arguments.out, tuple(map(int, arguments.shape.split(",")))
    shutil.rmtree(root, ignore_errors=True)
    sets = [write_cases(root / "data", arguments.count, shape), write_cases(root / "tiny", 2, TINY)]
    settings = InputSettings(FixedWindow(-160, 240), [0, 1])
    for name in ("umed", "lsp"):
        save_perturber(perturber(name), root / f"{name}.safetensors", settings)
    for data in sets:
        run(["apply", str(root / "lsp.safetensors"), str(data)], 1, root / f"stored-{data.name}")
    table = Table("Job", "1 process", "2 processes", "Ratio", "Start, 1 and 2", "CPU, 1 and 2", "Ratio of CPU")
    for name in arguments.jobs.split(","):
        found = {}
        for data in sets:
            for ranks in RANKS:
                runs = arguments.runs if data.name == "data" else 1
                pairs = [run(job(name, root, data, ranks), ranks, root / "out") for _ in range(runs)]
                found[data.name, ranks] = [statistics.median(column) for column in zip(*pairs, strict=True)]
        (one, cpu_one), (two, cpu_two) = found["data", 1], found["data", 2]
        starts = f"{found['tiny', 1][0]:.1f} s, {found['tiny', 2][0]:.1f} s"
        cells = [f"{one:.1f} s", f"{two:.1f} s", f"{one / two:.2f}", starts]
        table.add_row(JOBS[name], *cells, f"{cpu_one:.1f} s, {cpu_two:.1f} s", f"{cpu_one / cpu_two:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    main()

# SPDX-License-Identifier: Apache-2.0
"""Stored noise put on full-size scans: wall time and memory against reading and writing the same file with nibabel.

    python benchmarks/apply_fullsize.py DATA/fullsize OUT

Each measurement is a process of its own; times are medians of several runs, with imports (whole process) and without.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from monai_unlearnable.data import read_scan

RUNS = 5


def child(job: str, source: Path, out: Path) -> None:
    """Run one job and print its seconds without imports, and the peak memory of the process in bytes."""
    if job == "nibabel":
        import nibabel as nib

        begin = time.perf_counter()
        image = nib.load(source)
        out.mkdir(parents=True, exist_ok=True)
        nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine, image.header).to_filename(out / source.name)
    else:
        from monai_unlearnable.publishing.restore import apply_stored, restore

        begin = time.perf_counter()
        if job == "apply":
            apply_stored(source.parents[1] / "noise", source.parents[1] / "data", out, overwrite=True)
        else:
            restore(source.parent, out, overwrite=True)
    seconds = time.perf_counter() - begin
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))  # noqa: T201


def measure(job: str, source: Path, out: Path) -> tuple[float, float, float]:
    """Median seconds of the whole process and of the job, and the peak memory in bytes."""
    whole, inner, peak = [], [], 0.0
    for _ in range(RUNS):
        begin = time.perf_counter()
        words = [sys.executable, __file__, "--child", job, str(source), str(out)]
        seconds, memory = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        whole.append(time.perf_counter() - begin)
        inner.append(seconds)
        peak = max(peak, memory)
    return statistics.median(whole), statistics.median(inner), peak


def make_noise(source: Path, root: Path, support: str) -> None:
    """Store random noise of 8/255 for one scan: everywhere, or in a ball of 1% of the volume."""
    from monai_unlearnable.budget import Budget
    from monai_unlearnable.data import load_cases
    from monai_unlearnable.intensity import PercentileWindow
    from monai_unlearnable.masks import Everywhere, Roi
    from monai_unlearnable.perturbers import RandomNoise
    from monai_unlearnable.publishing.publication import Publication

    images, labels = root / "data" / "images", root / "data" / "labels"
    images.mkdir(parents=True, exist_ok=True)
    (images / source.name).write_bytes(source.read_bytes())
    mask = Everywhere() if support == "everywhere" else Roi()
    if support != "everywhere":
        import nibabel as nib

        labels.mkdir(parents=True, exist_ok=True)
        image = nib.load(source)
        axes = np.meshgrid(*[np.linspace(-1, 1, extent) for extent in image.shape], indexing="ij", sparse=True)
        ball = sum(axis**2 for axis in axes) < (0.01 * 8 / (4 / 3 * np.pi)) ** (2 / 3)
        nib.Nifti1Image(ball.astype(np.uint8), image.affine).to_filename(labels / source.name)
    cases = load_cases(root / "data", require_labels=False)
    Publication(
        cases, RandomNoise(8 / 255, mask), root, PercentileWindow(), Budget(8 / 255), [0, 1], overwrite=True
    ).run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    table = Table("scan", "noise", "nibabel s", "apply s", "ratio", "ratio with imports", "peak / float32", "restored")
    for source in sorted(arguments.data.glob("*.nii.gz")):
        for support in ("everywhere", "ball of 1%"):
            root = arguments.out / f"{source.name}-{support.split()[0]}"
            subprocess.run([sys.executable, __file__, "--noise", str(source), str(root), support], check=True)
            base = measure("nibabel", source, root / "copy")
            ours = measure("apply", root / "data" / source.name, root / "applied")
            measure("restore", root / "applied" / source.name, root / "restored")
            clean = read_scan(source)
            back = read_scan(root / "restored" / "images" / source.name)
            fraction = float((clean.voxels == back.voxels).mean())
            cells = [base[1], ours[1], ours[1] / base[1], ours[0] / base[0], ours[2] / (4 * clean.voxels.size)]
            table.add_row(source.name, support, *(f"{cell:.2f}" for cell in cells), f"{fraction:.0%}")
    Console(width=140).print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    elif sys.argv[1:2] == ["--noise"]:
        make_noise(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
    else:
        main()

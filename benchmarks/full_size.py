# SPDX-License-Identifier: Apache-2.0
"""CT studies of full size, one after the other: time and peak memory of each case against the size of its region.

CPU time is what to compare where other work shares the machine.

Synthetic volumes of 512 x 512 x 300 int16 voxels, gzipped: two images under many names (hard links), label maps with a
ball of one of twenty sizes. ``apply`` protects them with checkpoints of methods whose weights are as drawn: what a
case costs does not depend on them. Before them, this package reads and writes the files of some cases without
protecting them: the least that a case costs.

    python benchmarks/full_size.py OUT [--count 200] [--methods lsp,umed] [--shape 512,512,300]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from monai_unlearnable.data import read_scan, write_scan
from monai_unlearnable.intensity import FixedWindow
from monai_unlearnable.perturbers import (
    InputSettings,
    LinearPatterns,
    NyquistCarriers,
    Perturber,
    UMed,
    save_perturber,
)
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.report.canvas import LIGHT, new_figure, tidy, to_png
from monai_unlearnable.utils.seeding import reset_parameters

SIZES, IMAGES = 20, 2
COPIED = 10  # cases that are read and written without protecting them
RADII = (0.02, 0.18)  # of the ball, as a fraction of the smallest in-plane extent; their volumes are evenly spaced
POLL, RESET_PEAK = 0.05, "5"  # seconds; see proc(5), clear_refs
GIB_OF_KIB = 2**20


def save(voxels: NDArray, path: Path) -> None:
    """Write a NIfTI file, fast."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(igzip.compress(nib.Nifti1Image(voxels, np.diag([0.8, 0.8, 1, 1])).to_bytes(), 2))


def scan(seed: int, shape: tuple[int, ...]) -> NDArray:
    """Soft tissue in air, in Hounsfield units, with the noise of a scanner."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(*[np.linspace(-1, 1, extent) for extent in shape[:2]], indexing="ij", sparse=True)
    body = np.where((x / 0.8) ** 2 + (y / 0.55) ** 2 < 1, 40, -1000)
    voxels = np.empty(shape, np.int16, order="F")
    for plane in range(shape[2]):
        voxels[:, :, plane] = body + 15 * rng.standard_normal(shape[:2], np.float32)
    return voxels


def ball(epsilon: float, shape: tuple[int, ...]) -> NDArray:
    axes = [np.arange(extent, dtype=np.float32) - (extent - 1) / 2 for extent in shape]
    return np.asfortranarray(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True)) < epsilon**2)


def write_cases(folder: Path, count: int, shape: tuple[int, ...]) -> dict[str, int]:
    """The dataset; returns the number of voxels of each case's region."""
    low, high = (fraction * min(shape[:2]) for fraction in RADII)
    sizes = []
    for number, epsilon in enumerate(np.linspace(low**3, high**3, SIZES) ** (1 / 3)):
        region = ball(epsilon, shape)
        sizes.append(int(region.sum()))
        save(region.astype(np.uint8), folder / "parts" / f"label{number}.nii.gz")
    for number in range(IMAGES):
        save(scan(number, shape), folder / "parts" / f"image{number}.nii.gz")
    order, found = np.random.default_rng(0).permutation(count) % SIZES, {}
    for case, size in enumerate(order):
        for name, part in (("images", f"image{case % IMAGES}"), ("labels", f"label{size}")):
            path = folder / "data" / name / f"{case:04d}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(folder / "parts" / f"{part}.nii.gz", path)
        found[f"images/{case:04d}"] = sizes[size]
    return found


def perturber(method: str) -> Perturber:
    if method == "lsp":
        return LinearPatterns(14 / 255)
    if method == "carrier":
        return NyquistCarriers(2, 3, epsilon=14 / 255, carriers=[0])
    return reset_parameters(UMed(3, epsilon=14 / 255, carrier_axis=2), 0)  # type: ignore[return-value]


def read_and_write(data: Path, target: Path) -> float:
    """Median CPU seconds to read a case, image and labels, and to write the image with other voxels."""
    spent = []
    for image in sorted((data / "images").iterdir())[:COPIED]:
        begin = time.process_time()
        scan = read_scan(image)
        read_scan(data / "labels" / image.name)
        write_scan(scan, scan.voxels + 1, target)
        spent.append(time.process_time() - begin)
        target.unlink()
    return float(np.median(spent))


def peak(process: int) -> float:
    """The most memory that a process held since it was last asked, in GiB."""
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    found = next((int(line.split()[1]) for line in status if line.startswith("VmHWM")), 0)
    Path(f"/proc/{process}/clear_refs").write_text(RESET_PEAK)
    return found / GIB_OF_KIB


def cpu_seconds(process: int) -> float:
    """What a process has computed so far, in all its threads; see proc(5), stat."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def apply(checkpoint: Path, data: Path, out: Path) -> tuple[float, dict[str, tuple[float, float, float]]]:
    """Run ``apply``; returns seconds until the first case is done, and seconds, CPU and GiB of each further one."""
    words = [sys.executable, "-m", "monai_unlearnable", "apply", str(checkpoint), str(data), str(out)]
    begin, noise, done, peaks, spent = time.time(), Layout(out).noise, {}, {}, {}
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        for path in sorted(noise.rglob("*.npz")):
            scan_id = path.relative_to(noise).as_posix().removesuffix(".npz")
            if scan_id not in done:
                done[scan_id], peaks[scan_id] = path.stat().st_mtime, peak(process.pid)
                spent[scan_id] = cpu_seconds(process.pid)
        time.sleep(POLL)
    if process.returncode:
        raise RuntimeError(f"apply ended with {process.returncode}")
    ids = sorted(done, key=lambda scan_id: done[scan_id])
    pairs = itertools.pairwise(ids)
    return done[ids[0]] - begin, {
        second: (done[second] - done[first], spent[second] - spent[first], peaks[second]) for first, second in pairs
    }


def fit(sizes: NDArray, seconds: NDArray) -> tuple[float, float, float]:
    """Seconds of an empty region, seconds a million voxels, and the fraction of the variance that the line explains."""
    slope, start = np.polyfit(sizes / 1e6, seconds, 1)
    rest = seconds - start - slope * sizes / 1e6
    return float(start), float(slope), float(1 - rest.var() / seconds.var())


def means(sizes: NDArray, seconds: NDArray) -> tuple[NDArray, NDArray]:
    """The sizes that occur, and the mean seconds of each."""
    kinds, which = np.unique(sizes, return_inverse=True)
    return kinds, np.bincount(which, seconds) / np.bincount(which)


def draw(found: dict[str, tuple[NDArray, NDArray, NDArray]], path: Path) -> None:
    """CPU time over the size of the region, and peak memory over the cases, in the colors of the reports."""
    figure = new_figure(10, 4, LIGHT.background)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, 2)
    for (method, (sizes, seconds, peaks)), color in zip(found.items(), itertools.cycle(LIGHT.methods)):
        start, slope, _ = fit(sizes, seconds)
        label, ends = f"{method}: {start:.1f} s + {slope:.2f} s a million", np.array([0, sizes.max()]) / 1e6
        axes[0].plot(sizes / 1e6, seconds, ".", color=color, label=label)
        axes[0].plot(ends, start + slope * ends, color=color)
        axes[1].plot(range(2, len(peaks) + 2), peaks, ".", color=color, label=method)
    axes[0].set(xlabel="voxels of the region, millions", ylabel="CPU seconds", ylim=(0, None))
    axes[1].set(xlabel="case", ylabel="peak memory, GiB", ylim=(0, None))
    for axis in axes:
        tidy(axis, LIGHT)
        axis.legend(labelcolor=LIGHT.ink)
    path.write_bytes(to_png(figure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--methods", default="lsp,umed")
    parser.add_argument("--shape", default="512,512,300")
    arguments = parser.parse_args()
    shape, out = tuple(map(int, arguments.shape.split(","))), arguments.out
    shutil.rmtree(out, ignore_errors=True)
    sizes = write_cases(out, arguments.count, shape)
    table = Table(
        "Method", "Cases", "First case after", "Median", "CPU", "Line", "R2", "R2 of means", "Peak memory", "Tenths"
    )
    least = read_and_write(out / "data", out / "copy.nii.gz")
    table.add_row("reading and writing", f"{min(COPIED, arguments.count)}", "", "", f"{least:.1f} s")
    found: dict[str, tuple[NDArray, NDArray, NDArray]] = {}
    for method in arguments.methods.split(","):
        checkpoint = out / f"{method}.safetensors"
        save_perturber(perturber(method), checkpoint, InputSettings(FixedWindow(-160, 240), [0, 1]))
        first, cases = apply(checkpoint, out / "data", out / method)
        seconds, spent, peaks = (np.array(column) for column in zip(*cases.values(), strict=True))
        found[method] = (np.array([sizes[scan_id] for scan_id in cases]), spent, peaks)
        start, slope, explained = fit(*found[method][:2])
        tenth = max(1, len(peaks) // 10)
        row = [f"{arguments.count}", f"{first:.0f} s", f"{np.median(seconds):.1f} s", f"{np.median(spent):.1f} s"]
        row += [f"{start:.1f} s + {slope:.2f} s a million voxels", f"{explained:.2f}"]
        row += [f"{fit(*means(*found[method][:2]))[2]:.2f}", f"{peaks.max():.2f} GiB"]
        table.add_row(method, *row, f"{peaks[:tenth].max():.2f}, {peaks[-tenth:].max():.2f} GiB")
        (out / f"{method}.json").write_text(json.dumps({key: (sizes[key], *cases[key]) for key in cases}, indent=1))
        shutil.rmtree(out / method)  # as large as the dataset would be without links
    Console(width=160).print(table)
    draw(found, out / "full_size.png")


if __name__ == "__main__":
    main()

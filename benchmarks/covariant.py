# SPDX-License-Identifier: Apache-2.0
"""Changes that keep their form under mirroring, rotation and scaling: do models take them for the label?

Noise that is locked to the voxel grid is broken by the augmentation of nnU-Net. This tries what is not, each made from
image and label alone: an offset of one class, a smoothed region, random bright dots in the region, a rim along its
border, a border that seems to lie outside or inside of where it is. Trains victims by the plain recipe and by
nnU-Net's, and scores them on clean cases.

    python benchmarks/covariant.py DATA/hippocampus OUT --datalist split.json [--seeds 2 or other of the matrix]
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from monai_unlearnable.budget import Budget, apply_noise
from monai_unlearnable.cli import parse_overrides
from monai_unlearnable.data import LoadedCase, load_cases, read_case, read_scan, write_scan
from monai_unlearnable.intensity import PercentileWindow
from monai_unlearnable.metrics import measure_fidelity
from monai_unlearnable.proof import laboratory

EPSILON = 96 / 255
SETTINGS = {"recipes": ["plain", "nnunet"], "iterations": 500, "batch_size": 2, "num_validations": 5, "control": False}
Pattern = Callable[[NDArray, NDArray, np.random.Generator], NDArray]


def offset(image: NDArray, label: NDArray, generator: np.random.Generator) -> NDArray:
    """The highest class brighter by 22/255."""
    return (label == label.max()) * 22 / 255


def smoothed(image: NDArray, label: NDArray, generator: np.random.Generator) -> NDArray:
    """Each class replaced by its Gaussian mean of sigma 1: what models see of the region has no fine texture."""
    noise = np.zeros_like(image)
    for region in (label == kind for kind in range(1, int(label.max()) + 1)):
        weight = np.maximum(ndimage.gaussian_filter(region.astype(float), 1), 1e-6)
        noise += region * (ndimage.gaussian_filter(image * region, 1) / weight - image)
    return noise


def dots(image: NDArray, label: NDArray, generator: np.random.Generator) -> NDArray:
    """Bright spots of sigma 0.8 at random voxels of the region, three apart; mean 0 and root mean square 20/255."""
    region = label > 0
    score = generator.random(region.shape) * region
    spots = (score > 0) & (score == ndimage.maximum_filter(score, 3))
    noise = ndimage.gaussian_filter(spots.astype(float), 0.8)
    noise = (noise - noise[region].mean()) * region
    return noise * 20 / 255 / np.sqrt((noise[region] ** 2).mean())


def rim(image: NDArray, label: NDArray, generator: np.random.Generator) -> NDArray:
    """The outermost voxels of the region brighter by 20/255, those within darker by as much."""
    region = label > 0
    return np.where(ndimage.distance_transform_edt(region) <= 1.5, 1.0, -1.0) * region * 20 / 255


def halo(image: NDArray, label: NDArray, generator: np.random.Generator) -> NDArray:
    """What surrounds the region, two voxels deep, up to 16/255 nearer to its mean: its border seems to lie outside."""
    region = label > 0
    around = (ndimage.distance_transform_edt(~region) <= 2) & ~region
    return np.clip(image[region].mean() - image, -16 / 255, 16 / 255) * around


def core(image: NDArray, label: NDArray, generator: np.random.Generator) -> NDArray:
    """The outermost voxels of the region up to 64/255 nearer to what surrounds it: its border seems to lie inside."""
    region = label > 0
    around = (ndimage.distance_transform_edt(~region) <= 2) & ~region
    outermost = (ndimage.distance_transform_edt(region) <= 1) & region
    return np.clip(image[around].mean() - image, -64 / 255, 64 / 255) * outermost


PATTERNS: dict[str, Pattern] = {
    "offset": offset,
    "smoothed": smoothed,
    "dots": dots,
    "rim": rim,
    "halo": halo,
    "core": core,
}


def change(loaded: LoadedCase, pattern: Pattern, number: int, root: Path) -> float:
    """Write a case with a pattern and its label; returns the PSNR of the file in window units."""
    scan, window, case, label = loaded.scans[0], loaded.windows[0], loaded.case, loaded.label
    assert label is not None and case.label is not None
    noise = pattern(loaded.image[0].astype(float), label[0], np.random.default_rng(number))
    unit = np.clip(noise, -EPSILON, EPSILON)[None].astype(np.float32)
    voxels, _ = apply_noise(scan.voxels, unit, budget=Budget(EPSILON), window=window, quantization=scan.quantization)
    for name in (case.images[0], case.label):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    write_scan(scan, voxels, root / case.images[0])
    shutil.copyfile(case.root / case.label, root / case.label)
    return measure_fidelity(scan, read_scan(root / case.images[0]), window, label)["psnr"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--datalist")
    parser.add_argument("--patterns", default=",".join(PATTERNS))
    arguments, further = parser.parse_known_args()
    logging.basicConfig(format="%(message)s")
    cases, folders, psnr = load_cases(arguments.data, arguments.datalist), {}, {}
    values = sorted({value for case in cases for value in np.unique(read_scan(case.root / case.label).voxels).tolist()})  # type: ignore[operator]
    for name in arguments.patterns.split(","):
        folders[name] = str(arguments.out / name)
        loaded = (read_case(case, PercentileWindow(), values) for case in cases)
        figures = [change(one, PATTERNS[name], number, arguments.out / name) for number, one in enumerate(loaded)]
        psnr[name] = float(np.mean(figures))
    settings: dict[str, Any] = {**SETTINGS, "datalist": arguments.datalist, **parse_overrides(further)}
    results, _ = laboratory(arguments.data, arguments.out / "laboratory", folders, **settings)
    table = Table("Pattern", "PSNR", "Victim", "Recipe", "Dice on clean scans", "Seeds")
    for row in results.summaries():
        size = f"{psnr[row.data]:.1f} dB" if row.data in psnr else ""
        table.add_row(
            row.data, size, row.victim, row.recipe, f"{row.score:.1f}", ", ".join(map("{:.1f}".format, row.finals))
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    sys.exit(main())

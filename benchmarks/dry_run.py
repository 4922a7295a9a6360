# SPDX-License-Identifier: Apache-2.0
"""How long a dry run takes on many full-size studies, and how well it tells the time and disk of the run.

python benchmarks/dry_run.py SCAN.nii.gz WORK [--cases 200] [--method lattice]
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from rich.console import Console

import monai_unlearnable as mu


def write_studies(scan: Path, root: Path, count: int) -> Path:
    """A dataset in which every study links to one scan and to a label with two boxes as classes."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    image = nib.load(scan)
    label = np.zeros(image.shape, np.uint8)
    for value, (low, high) in enumerate(((0.4, 0.6), (0.2, 0.3)), 1):
        label[tuple(slice(int(low * extent), int(high * extent)) for extent in image.shape)] = value
    nib.Nifti1Image(label, image.affine).to_filename(root.parent / "label.nii.gz")
    for index in range(count):
        os.symlink(scan.resolve(), root / "images" / f"{index:04d}.nii.gz")
        os.symlink((root.parent / "label.nii.gz").resolve(), root / "labels" / f"{index:04d}.nii.gz")
    return root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--method", default="lattice")
    words = parser.parse_args()
    shutil.rmtree(words.work, ignore_errors=True)
    data, out = write_studies(words.scan, words.work / "data", words.cases), words.work / "out"
    begin = time.monotonic()
    plan = mu.plan(words.method, data, out)
    planned = time.monotonic() - begin
    assert plan.cost is not None
    console = Console(width=160, markup=False, highlight=False)
    console.print(plan.page())
    begin = time.monotonic()
    mu.protect(words.method, data, out)
    took = time.monotonic() - begin
    written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    console.print(f"dry run {planned:.0f} s, expected {plan.cost.seconds:.0f} s and {plan.cost.disk / 2**30:.2f} GiB")
    console.print(f"the run took {took:.0f} s ({plan.cost.seconds / took - 1:+.0%}) and {written / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()

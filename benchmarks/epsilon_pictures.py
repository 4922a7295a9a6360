# SPDX-License-Identifier: Apache-2.0
"""What an epsilon looks like: a slice of a phantom, protected with ``lattice`` at several of them, and enlarged.

The pattern takes the whole budget at every voxel of the region: noise of no method is larger.

    python benchmarks/epsilon_pictures.py docs/images/epsilon.png
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

import monai_unlearnable as mu
from monai_unlearnable.phantoms import write_phantom_dataset

EPSILONS = (4, 8, 14, 32)  # of 255
SIZE, CLOSE = (112, 112, 32), 28  # voxels of the scan, and along a side of the enlarged part


def voxels(path: Path) -> NDArray:
    """The voxels (x, y, z) of a NIfTI file."""
    return np.asarray(nib.load(path).dataobj)


def slices(folder: Path) -> tuple[list[NDArray], NDArray]:
    """The slice with the largest region, in the original and at each epsilon, and its label, (x, y) each."""
    clean = folder / "clean"
    write_phantom_dataset(clean, count=1, test_count=0, size=SIZE, structures=("liver",))
    label = voxels(next(clean.glob("labels*/*.nii.gz")))
    files = [next(clean.glob("images*/*.nii.gz"))]
    for epsilon in EPSILONS:
        out = folder / str(epsilon)
        mu.protect("lattice", clean, out, epsilon=epsilon / 255)
        files.append(next(out.glob("protected/images*/*.nii.gz")))
    best = int((label > 0).sum(axis=(0, 1)).argmax())
    return [voxels(file)[:, :, best] for file in files], label[:, :, best]


def draw(planes: list[NDArray], label: NDArray) -> Figure:
    """Two rows of pictures: the whole slice, and the part in the middle of the region."""
    low, high = np.percentile(planes[0], (0.5, 99.5))
    center = np.argwhere(label > 0).mean(axis=0).round().astype(int)
    part = tuple(slice(place - CLOSE // 2, place + CLOSE // 2) for place in center)
    figure = Figure(figsize=(2 * len(planes), 4.3), layout="constrained")
    axes = figure.subplots(2, len(planes))
    for column, (plane, name) in enumerate(zip(planes, ("original", *(f"{k}/255" for k in EPSILONS)), strict=True)):
        axes[0, column].set_title(name, fontsize=10)
        for row, shown in enumerate((plane, plane[part])):
            axes[row, column].imshow(shown.T[::-1], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axes[row, column].set_axis_off()
    return figure


def main() -> None:
    """Protect a phantom at each epsilon, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    with tempfile.TemporaryDirectory() as folder:
        draw(*slices(Path(folder))).savefig(file, dpi=110)


if __name__ == "__main__":
    main()

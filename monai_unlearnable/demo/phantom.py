# SPDX-License-Identifier: Apache-2.0
"""A procedural dataset of scans, so that everything can be tried and tested without patients."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from monai_unlearnable.demo.anatomy import draw_phantom
from monai_unlearnable.errors import InputError, OutputError
from monai_unlearnable.scans.atomic import write_atomic

__all__ = ["write_phantom_dataset"]

SECTIONS = (("training", "imagesTr", "labelsTr"), ("test", "imagesTs", "labelsTs"))
FIELD_OF_VIEW = (168.0, 182.0, 160.0)  # millimeters along x, y, z
SMALLEST_SIZE = 16


def write_phantom_dataset(
    folder: str | Path,
    count: int = 36,
    test_count: int = 12,
    seed: int = 0,
    size: tuple[int, int, int] = (40, 48, 32),
) -> None:
    """Write MR-like scans of an invented organ in two labeled parts, as a Decathlon dataset.

    The files are ``imagesTr/phantom_000.nii.gz``, ``labelsTr/...``, the same under ``imagesTs`` and ``labelsTs``, and
    ``dataset.json`` with the sections ``training`` and ``test``, both with labels. Images are int16 with an oblique
    affine, labels uint8 with classes 0, 1 and 2. The same arguments give the same bytes, and a scan does not depend on
    how many others there are.

    Args:
        folder: where to; made if it does not exist.
        count: number of training scans.
        test_count: number of held-out scans.
        seed: of everything random.
        size: matrix size (x, y, z); the field of view stays the same.

    Raises:
        InputError: when a count or the size is too small.
        OutputError: when the folder holds another dataset, or cannot be written.
    """
    root = Path(folder)
    _check(count, test_count, size)
    datalist = _datalist(count, test_count, seed, size)
    target = root / "dataset.json"
    if target.exists() and target.read_bytes() != datalist:
        raise OutputError("the folder holds another dataset; choose another folder", file=target)
    for section, (_, images, labels) in enumerate(SECTIONS):
        for index in range((count, test_count)[section]):
            rng = np.random.default_rng([seed, section, index])
            phantom, affine = draw_phantom(rng, size), _oblique_affine(rng, size)
            name = _name(section * count + index)
            write_atomic(root / images / name, _nifti(phantom.voxels, affine, "phantom, T1-weighted"))
            write_atomic(root / labels / name, _nifti(phantom.label, affine, "phantom, 1 head, 2 tail"))
    write_atomic(target, datalist)


def _check(count: int, test_count: int, size: tuple[int, int, int]) -> None:
    if count < 1 or test_count < 0:
        raise InputError(f"cannot draw {count} training and {test_count} test phantoms", value=min(count, test_count))
    if len(size) != 3 or min(size) < SMALLEST_SIZE:
        reason = f"a phantom of size {tuple(size)} cannot be drawn; give three numbers of at least {SMALLEST_SIZE}"
        raise InputError(reason, value=tuple(size), limit=SMALLEST_SIZE)


def _name(number: int) -> str:
    return f"phantom_{number:03d}.nii.gz"


def _datalist(count: int, test_count: int, seed: int, size: tuple[int, int, int]) -> bytes:
    numbers = {"training": range(count), "test": range(count, count + test_count)}
    content = {
        "name": "Phantom",
        "description": f"Procedural scans of an invented organ (seed {seed}, size {'x'.join(map(str, size))})",
        "licence": "CC0-1.0",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "head", "2": "tail"},
        "numTraining": count,
        "numTest": test_count,
    }
    sections = {
        section: [{"image": f"{images}/{_name(n)}", "label": f"{labels}/{_name(n)}"} for n in numbers[section]]
        for section, images, labels in SECTIONS
    }
    return (json.dumps({**content, **sections}, indent=1) + "\n").encode()


def _oblique_affine(rng: Generator, size: tuple[int, int, int]) -> NDArray:
    """Voxel indices to millimeters: a tilted slab with anisotropic voxels, its center near the scanner's."""
    angles = rng.choice([-1, 1], 3) * rng.uniform(4, 16, 3)
    spacing = np.asarray(FIELD_OF_VIEW) / size * rng.uniform(0.96, 1.04)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    affine[:3, 3] = rng.normal(0, 15, 3) - affine[:3, :3] @ ((np.asarray(size) - 1) / 2)
    return affine


def _nifti(voxels: NDArray, affine: NDArray, description: str) -> bytes:
    image = nib.Nifti1Image(voxels, affine, dtype=voxels.dtype)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description
    image.header["cal_max"] = math.ceil(float(np.percentile(voxels, 99.5)))
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)

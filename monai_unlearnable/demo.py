# SPDX-License-Identifier: Apache-2.0
"""A demonstration on phantom scans of our own making: protected, verified, and learned from."""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from monai_unlearnable.errors import InputError, OutputError
from monai_unlearnable.proof import evaluate
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.report import Results
from monai_unlearnable.utils.files import encode_json, write_atomic

__all__ = ["run_demo", "write_phantom_dataset"]

EDGE = 0.025  # half-width of a tissue border: the partial volume effect
NOISE = 0.04  # standard deviation in each receiver channel, with fat at about 0.9
NATIVE_SCALE = (350.0, 1400.0)  # stored value of intensity 1, drawn anew for each scan
COARSE = 4  # control points an axis of deformations and of the receiver's bias field


@dataclass(frozen=True)
class _Tissue:
    """Something to paint: where (positive inside, in units of half the field of view), how bright, how textured."""

    inside: NDArray
    intensity: float
    texture: float = 0.03
    grain: int = 10


def smooth_field(rng: Generator, shape: tuple[int, ...], points: int) -> NDArray:
    """Random field (x, y, z) of about unit variance: a cubic B-spline over ``points`` random knots an axis."""
    field = rng.standard_normal((points,) * len(shape))
    for extent in shape:
        field = np.tensordot(field, _spline_weights(extent, points), axes=(0, 1))
    return field


@cache
def _spline_weights(extent: int, points: int) -> NDArray:
    """Cubic B-spline weights (extent, points) of the knots at each voxel, scaled to unit mean square."""
    places = (np.arange(extent) + 0.5) / extent * (points - 1)
    distance = np.abs(places[:, None] - np.arange(points))
    near = 2 / 3 - np.square(distance) + distance**3 / 2
    weights = np.where(distance < 1, near, np.clip(2 - distance, 0, None) ** 3 / 6)
    return np.asarray(weights / np.sqrt(np.square(weights).sum(axis=1).mean()))


def draw_phantom(rng: Generator, size: tuple[int, int, int]) -> tuple[NDArray, NDArray]:
    """Draw a new patient and scan them.

    Args:
        rng: all randomness comes from here.
        size: matrix size (x, y, z).

    Returns:
        Voxels (x, y, z) as int16 in arbitrary units, and the label (x, y, z) as uint8 with classes 0, 1 and 2.
    """
    position = _patient(rng, size)
    head, tail = _bean(rng, position)
    label = np.where(head > tail, 1, 2).astype(np.uint8) * (np.maximum(head, tail) > 0)
    anatomy = np.zeros(size)
    for tissue in (*_surroundings(rng, position), *_organ(rng, head, tail)):
        fraction = 1 / (1 + np.exp(-np.clip(tissue.inside / EDGE, -30, 30)))
        look = tissue.intensity + tissue.texture * smooth_field(rng, size, tissue.grain)
        anatomy += fraction * (look - anatomy)
    return _acquire(rng, anatomy), label.astype(np.uint8)


def _patient(rng: Generator, size: tuple[int, int, int]) -> NDArray:
    """Where each voxel lies in the standard body: tilted, shifted, scaled and deformed."""
    axes = [(np.arange(extent) + 0.5) / extent * 2 - 1 for extent in size]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    turn = Rotation.from_euler("xyz", rng.normal(0, 5, 3), degrees=True).as_matrix()
    stretch = rng.normal(1, 0.04, 3)
    shift = rng.normal(0, 0.04, 3)
    body = np.tensordot(turn / stretch, grid, axes=1) - shift[:, None, None, None]
    return np.asarray(body + 0.035 * np.stack([smooth_field(rng, size, COARSE) for _ in range(3)]))


def _ellipsoid(position: NDArray, center: NDArray, radii: tuple[float, ...], tilt: NDArray | None = None) -> NDArray:
    """About the distance to the surface, positive inside."""
    local = position - np.reshape(center, (3, 1, 1, 1))
    if tilt is not None:
        local = np.tensordot(tilt, local, axes=1)
    radius = np.sqrt(np.square(local / np.reshape(radii, (3, 1, 1, 1))).sum(axis=0))
    return np.asarray((1 - radius) * min(radii))


def _around(rng: Generator, center: tuple[float, float, float], spread: float = 0.04) -> NDArray:
    return np.asarray(center) + rng.normal(0, spread, 3)


def _tilt(rng: Generator, degrees: float) -> NDArray:
    return np.asarray(Rotation.from_euler("xyz", rng.normal(0, degrees, 3), degrees=True).as_matrix())


def _bean(rng: Generator, position: NDArray) -> tuple[NDArray, NDArray]:
    """The labeled organ, a bean bent around its hilum: its thick part and its tapered part, which touch."""
    local = np.tensordot(_tilt(rng, 8), position - _around(rng, (0.3, 0.02, -0.02), 0.03)[:, None, None, None], axes=1)
    local[0] = local[0] + rng.normal(0.45, 0.08) * np.square(local[1])
    seam = rng.normal(0, 0.03)
    thick, thin = rng.normal(1, 0.06, 2)
    head = _ellipsoid(local, np.array([0.0, 0.24 + seam, 0.0]), (0.36 * thick, 0.37, 0.54 * thick))
    tail = _ellipsoid(local, np.array([0.0, -0.26 + seam, 0.05]), (0.3 * thin, 0.4, 0.46 * thin))
    return head, tail


def _organ(rng: Generator, head: NDArray, tail: NDArray) -> list[_Tissue]:
    return [
        _Tissue(tail, 0.65 + rng.normal(0, 0.02), 0.035, 12),
        _Tissue(np.minimum(head, head - tail), 0.71 + rng.normal(0, 0.02), 0.035, 12),
    ]


def _surroundings(rng: Generator, position: NDArray) -> list[_Tissue]:
    """Everything but the labeled organ, from the outside in; later tissues cover earlier ones."""
    middle, jitter = np.zeros(3), rng.normal(0, 0.025, 8)
    spine = _around(rng, (0.0, -0.6, 0.0), 0.02)
    vessel = _around(rng, (-0.05, -0.3, 0.0), 0.03)
    liver = _ellipsoid(position, _around(rng, (-0.34, 0.2, 0.42)), (0.4, 0.45, 0.46), _tilt(rng, 8))
    double = _ellipsoid(position, _around(rng, (-0.34, -0.06, -0.4), 0.06), (0.27, 0.38, 0.34), _tilt(rng, 15))
    gut = _ellipsoid(position, _around(rng, (0.1, 0.42, -0.6), 0.08), (0.32, 0.18, 0.2), _tilt(rng, 20))
    return [
        _Tissue(_ellipsoid(position, middle, (0.93, 0.9, 1.5)), 0.9 + jitter[0], 0.04),
        _Tissue(_ellipsoid(position, middle, (0.81, 0.77, 1.4)), 0.38 + jitter[1], 0.03, 14),
        _Tissue(_ellipsoid(position, np.array([0.0, 0.06, 0.0]), (0.71, 0.64, 1.25)), 0.52 + jitter[2], 0.05, 12),
        _Tissue(_ellipsoid(position, spine, (0.21, 0.17, 3.0)), 0.16, 0.02),
        _Tissue(_ellipsoid(position, spine, (0.16, 0.12, 3.0)), 0.74 + jitter[3], 0.04, 12),
        _Tissue(_ellipsoid(position, vessel, (0.09, 0.09, 3.0)), 1.05 + jitter[4], 0.02),
        _Tissue(liver, 0.59 + jitter[5], 0.03, 12),
        _Tissue(double, 0.66 + jitter[6], 0.035, 12),
        _Tissue(gut, 0.24 + 4 * jitter[7], 0.08, 12),
    ]


def _acquire(rng: Generator, anatomy: NDArray) -> NDArray:
    """What the scanner makes of the anatomy: uneven reception, Rician noise, arbitrary units, whole numbers."""
    bias = np.exp(0.1 * smooth_field(rng, anatomy.shape, 3))
    real, imaginary = NOISE * rng.standard_normal((2, *anatomy.shape))
    magnitude = np.hypot(anatomy * bias + real, imaginary)
    return np.asarray(np.rint(magnitude * rng.uniform(*NATIVE_SCALE)), np.int16)


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
        folder: folder to write to; made if it does not exist.
        count: number of training scans.
        test_count: number of held-out scans.
        seed: random seed of everything.
        size: matrix size (x, y, z); the field of view stays the same.

    Raises:
        InputError: when a count or the size is too small.
        OutputError: when the folder holds another dataset, or cannot be written.
    """
    root = Path(folder)
    if count < 1 or test_count < 0:
        raise InputError(f"cannot draw {count} training and {test_count} test phantoms", value=min(count, test_count))
    if len(size) != 3 or min(size) < SMALLEST_SIZE:
        reason = f"a phantom of size {tuple(size)} cannot be drawn; give three numbers of at least {SMALLEST_SIZE}"
        raise InputError(reason, value=tuple(size), limit=SMALLEST_SIZE)
    datalist = _datalist(count, test_count, seed, size)
    target = root / "dataset.json"
    if target.exists() and target.read_bytes() != datalist:
        raise OutputError("the folder holds another dataset; choose another folder", file=target)
    for section, (_, images, labels) in enumerate(SECTIONS):
        for index in range((count, test_count)[section]):
            rng = np.random.default_rng([seed, section, index])
            (voxels, label), affine = draw_phantom(rng, size), _oblique_affine(rng, size)
            name = _name(section * count + index)
            write_atomic(root / images / name, _nifti(voxels, affine, "phantom, T1-weighted"))
            write_atomic(root / labels / name, _nifti(label, affine, "phantom, 1 head, 2 tail"))
    write_atomic(target, datalist)


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
    return encode_json({**content, **sections})


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


def run_demo(output_dir: str | Path, seed: int = 0, iterations: int = 200, **overrides: Any) -> tuple[Results, Path]:
    """Run the main job on a phantom dataset of our own making, in minutes on two cores.

    Args:
        output_dir: folder for ``phantoms/`` and ``umed/`` (the protected dataset, its control and its report).
        seed: random seed of phantoms, noise and victims.
        iterations: training steps of each victim.
        **overrides: settings of the umed bundle.

    Returns:
        The results and the report's page.
    """
    data, protected = Path(output_dir) / "phantoms", Path(output_dir) / "umed"
    write_phantom_dataset(data, seed=seed)
    run_bundle("umed", dataset_dir=str(data), output_dir=str(protected), seed=seed, overwrite=True, **overrides)
    verify(protected, data)
    return evaluate(protected, data, iterations=iterations, seeds=(seed,), validation_fraction=0)

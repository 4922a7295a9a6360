# SPDX-License-Identifier: Apache-2.0
"""Phantom scans of our own making: shapes in space, sampled as scanners of several kinds would."""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from monai_unlearnable.errors import InputError, OutputError
from monai_unlearnable.utils.files import encode_json, write_atomic

__all__ = ["STRUCTURES", "write_phantom_dataset"]

STRUCTURES = ("vessel", "liver", "spleen", "tail", "head", "pancreas")  # what can be labeled, from below to the top
EDGE = 0.025  # half-width of a tissue border: the partial volume effect
NOISE = 0.04  # standard deviation in each receiver channel, with fat at about 0.9
NATIVE_SCALE = (350.0, 1400.0)  # stored value of intensity 1, drawn anew for each scan
FIELD_OF_VIEW = (168.0, 182.0, 160.0)  # mm along x, y, z
SMALLEST_SIZE = 16
ISOTROPIC, PIXEL, SLICE = (3.0, 3.6), (2.2, 3.2), (4.5, 6.5)  # voxel sizes of protocols in mm
THIN = 3.6  # mm; thicker samples are the mean of several
SECTIONS = (("training", "imagesTr", "labelsTr"), ("test", "imagesTs", "labelsTs"))
COARSE = 4  # control points an axis of deformations and of the receiver's bias field


@dataclass(frozen=True)
class _Tissue:
    """Something to paint: where (positive inside, in units of half the field of view), how bright, how textured."""

    inside: NDArray
    intensity: float
    texture: float = 0.03
    grain: int = 10
    name: str = ""


@dataclass(frozen=True)
class Sampling:
    """Where a scanner takes its samples.

    Args:
        size: number of samples along each axis of the scanner.
        extent: length in mm that they span, their own size included.
        parts: number of thinner slices whose mean a sample is, for each axis.
        turn: rotation (3, 3) from the scanner's axes to those of the body.
    """

    size: tuple[int, ...]
    extent: NDArray
    parts: tuple[int, ...] = (1, 1, 1)
    turn: NDArray | None = None

    @property
    def spacing(self) -> NDArray:
        """Distance of samples along each axis in mm."""
        return np.asarray(self.extent / self.size)

    def places(self, fine: bool = True) -> list[NDArray]:
        """Positions along each axis, in units of half the field of view; of all parts, or of whole samples."""
        counts = np.multiply(self.size, self.parts) if fine else self.size
        scales = self.extent / FIELD_OF_VIEW
        return [((np.arange(n) + 0.5) / n * 2 - 1) * k for n, k in zip(counts, scales, strict=True)]

    def mean(self, values: NDArray) -> NDArray:
        """Means of the parts of each sample."""
        for axis, parts in enumerate(self.parts):
            if parts > 1:
                values = values.reshape(*values.shape[:axis], -1, parts, *values.shape[axis + 1 :]).mean(axis + 1)
        return values


def smooth_field(rng: Generator, places: list[NDArray], points: int) -> NDArray:
    """Random field (x, y, z) of about unit variance: a cubic B-spline over ``points`` random knots an axis."""
    field = rng.standard_normal((points,) * len(places))
    for positions in places:
        field = np.tensordot(field, _spline_weights(positions, points), axes=(0, 1))
    return field


def _spline_weights(positions: NDArray, points: int) -> NDArray:
    """Cubic B-spline weights (positions, points) of the knots, scaled to unit mean square."""
    distance = np.abs(((positions + 1) / 2 * (points - 1))[:, None] - np.arange(points))
    near = 2 / 3 - np.square(distance) + distance**3 / 2
    weights = np.where(distance < 1, near, np.clip(2 - distance, 0, None) ** 3 / 6)
    return np.asarray(weights / np.sqrt(np.square(weights).sum(axis=1).mean()))


def draw_phantom(rng: Generator, sampling: Sampling, structures: Sequence[str]) -> tuple[NDArray, NDArray]:
    """Draw a new patient and scan them.

    Args:
        rng: all randomness comes from here.
        sampling: where samples are taken.
        structures: structure of each class, background excluded.

    Returns:
        Voxels (x, y, z) as int16 in arbitrary units, and the label (x, y, z) as uint8.
    """
    places = sampling.places()
    position = _patient(rng, places, sampling.turn)
    head, tail = _bean(rng, position)
    tissues = [*_surroundings(rng, position), *_organ(rng, head, tail)]
    if "pancreas" in structures:
        tissues.append(_pancreas(rng, position))
    anatomy, label = np.zeros(position.shape[1:]), np.zeros(sampling.size, np.uint8)
    for tissue in tissues:
        fraction = 1 / (1 + np.exp(-np.clip(tissue.inside / EDGE, -30, 30)))
        look = tissue.intensity + tissue.texture * smooth_field(rng, places, tissue.grain)
        anatomy += fraction * (look - anatomy)
        label[sampling.mean(tissue.inside) > 0] = 1 + structures.index(tissue.name) if tissue.name in structures else 0
    return _acquire(rng, sampling.mean(anatomy), sampling.places(fine=False)), label


def _patient(rng: Generator, places: list[NDArray], tilt: NDArray | None) -> NDArray:
    """Where each sample lies in the standard body: tilted, shifted, scaled and deformed."""
    grid = np.stack(np.meshgrid(*places, indexing="ij"))
    if tilt is not None:
        half = np.asarray(FIELD_OF_VIEW) / 2
        grid = np.tensordot(tilt * half / half[:, None], grid, axes=1)
    turn = Rotation.from_euler("xyz", rng.normal(0, 5, 3), degrees=True).as_matrix()
    stretch = rng.normal(1, 0.04, 3)
    shift = rng.normal(0, 0.04, 3)
    body = np.tensordot(turn / stretch, grid, axes=1) - shift[:, None, None, None]
    return np.asarray(body + 0.035 * np.stack([smooth_field(rng, places, COARSE) for _ in range(3)]))


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
        _Tissue(tail, 0.65 + rng.normal(0, 0.02), 0.035, 12, "tail"),
        _Tissue(np.minimum(head, head - tail), 0.71 + rng.normal(0, 0.02), 0.035, 12, "head"),
    ]


def _pancreas(rng: Generator, position: NDArray) -> _Tissue:
    """A bent, thin organ, 50 to 60 mm long and about 13 mm thick."""
    local = np.tensordot(_tilt(rng, 10), position - _around(rng, (-0.1, 0.3, 0.0))[:, None, None, None], axes=1)
    local[1] = local[1] + rng.normal(0.9, 0.15) * np.square(local[0])
    inside = _ellipsoid(local, np.zeros(3), (0.34, 0.075, 0.085))
    return _Tissue(inside, 0.57 + rng.normal(0, 0.02), 0.05, 16, "pancreas")


def _surroundings(rng: Generator, position: NDArray) -> list[_Tissue]:
    """Everything but the labeled organ, from the outside in; later tissues cover earlier ones."""
    middle, jitter = np.zeros(3), rng.normal(0, 0.025, 8)
    spine = _around(rng, (0.0, -0.6, 0.0), 0.02)
    vessel = _around(rng, (-0.05, -0.3, 0.0), 0.03)
    liver = _ellipsoid(position, _around(rng, (-0.34, 0.2, 0.42)), (0.4, 0.45, 0.46), _tilt(rng, 8))
    spleen = _ellipsoid(position, _around(rng, (-0.34, -0.06, -0.4), 0.06), (0.27, 0.38, 0.34), _tilt(rng, 15))
    gut = _ellipsoid(position, _around(rng, (0.1, 0.42, -0.6), 0.08), (0.32, 0.18, 0.2), _tilt(rng, 20))
    return [
        _Tissue(_ellipsoid(position, middle, (0.93, 0.9, 1.5)), 0.9 + jitter[0], 0.04),
        _Tissue(_ellipsoid(position, middle, (0.81, 0.77, 1.4)), 0.38 + jitter[1], 0.03, 14),
        _Tissue(_ellipsoid(position, np.array([0.0, 0.06, 0.0]), (0.71, 0.64, 1.25)), 0.52 + jitter[2], 0.05, 12),
        _Tissue(_ellipsoid(position, spine, (0.21, 0.17, 3.0)), 0.16, 0.02),
        _Tissue(_ellipsoid(position, spine, (0.16, 0.12, 3.0)), 0.74 + jitter[3], 0.04, 12),
        _Tissue(_ellipsoid(position, vessel, (0.09, 0.09, 3.0)), 1.05 + jitter[4], 0.02, name="vessel"),
        _Tissue(liver, 0.59 + jitter[5], 0.03, 12, "liver"),
        _Tissue(spleen, 0.66 + jitter[6], 0.035, 12, "spleen"),
        _Tissue(gut, 0.24 + 4 * jitter[7], 0.08, 12),
    ]


def _acquire(rng: Generator, anatomy: NDArray, places: list[NDArray]) -> NDArray:
    """What the scanner makes of the anatomy: uneven reception, Rician noise, arbitrary units, whole numbers."""
    bias = np.exp(0.1 * smooth_field(rng, places, 3))
    real, imaginary = NOISE * rng.standard_normal((2, *anatomy.shape))
    magnitude = np.hypot(anatomy * bias + real, imaginary)
    return np.asarray(np.rint(magnitude * rng.uniform(*NATIVE_SCALE)), np.int16)


def write_phantom_dataset(
    folder: str | Path,
    count: int = 36,
    test_count: int = 12,
    seed: int = 0,
    size: tuple[int, int, int] | None = (40, 48, 32),
    structures: Sequence[str] = ("head", "tail"),
) -> None:
    """Write MR-like scans of an invented body with labeled organs, as a Decathlon dataset.

    The files are ``imagesTr/phantom_000.nii.gz``, ``labelsTr/...``, the same under ``imagesTs`` and ``labelsTs``, and
    ``dataset.json`` with the sections ``training`` and ``test``, both with labels. Images are int16 with an oblique
    affine, labels uint8. The same arguments give the same bytes, and a scan does not depend on how many others there
    are. Shapes are defined in millimeters: the body, of which 168 x 182 x 160 mm are seen, is the same at any size.

    Args:
        folder: folder to write to; made if it does not exist.
        count: number of training scans.
        test_count: number of held-out scans.
        seed: random seed of everything.
        size: matrix size (x, y, z) of all scans; the field of view stays the same. With None each scan has a
            protocol of its own: axial, sagittal or coronal slices of 4.5 to 6.5 mm with pixels of 2.2 to 3.2 mm, or
            voxels of 3 to 3.6 mm in all directions, stored in any orientation.
        structures: structure of each class, background excluded: ``liver`` and ``spleen`` are large, ``pancreas``
            and ``vessel`` are about 13 mm thick, ``head`` and ``tail`` are two parts of one organ.

    Raises:
        InputError: when a count or the size is too small, or a structure is unknown.
        OutputError: when the folder holds another dataset, or cannot be written.
    """
    root = Path(folder)
    if count < 1 or test_count < 0:
        raise InputError(f"cannot draw {count} training and {test_count} test phantoms", value=min(count, test_count))
    if size is not None and (len(size) != 3 or min(size) < SMALLEST_SIZE):
        reason = f"a phantom of size {tuple(size)} cannot be drawn; give three numbers of at least {SMALLEST_SIZE}"
        raise InputError(reason, value=tuple(size), limit=SMALLEST_SIZE)
    unknown = [name for name in structures if name not in STRUCTURES]
    if unknown or not structures or len(set(structures)) < len(structures):
        raise InputError(f"structures are {list(structures)}; give some of {', '.join(STRUCTURES)}, each once")
    datalist = _datalist(count, test_count, seed, size, structures)
    target = root / "dataset.json"
    if target.exists() and target.read_bytes() != datalist:
        raise OutputError("the folder holds another dataset; choose another folder", file=target)
    classes = ", ".join(f"{number} {name}" for number, name in enumerate(structures, 1))
    for section, (_, images, labels) in enumerate(SECTIONS):
        for index in range((count, test_count)[section]):
            rng = np.random.default_rng([seed, section, index])
            voxels, label, affine = _scan(rng, structures) if size is None else _upright_scan(rng, size, structures)
            name = _name(section * count + index)
            write_atomic(root / images / name, _nifti(voxels, affine, "phantom, T1-weighted"))
            write_atomic(root / labels / name, _nifti(label, affine, f"phantom, {classes}"[:79]))
    write_atomic(target, datalist)


def _upright_scan(rng: Generator, size: tuple[int, ...], structures: Sequence[str]) -> tuple[NDArray, NDArray, NDArray]:
    """Voxels, label and affine of a scan whose slices lie in the body as they do in all others."""
    voxels, label = draw_phantom(rng, Sampling(size, np.asarray(FIELD_OF_VIEW)), structures)
    turn, scale = _random_turn(rng), rng.uniform(0.96, 1.04)
    return voxels, label, _affine(rng, size, turn * (np.asarray(FIELD_OF_VIEW) / size * scale))


def _scan(rng: Generator, structures: Sequence[str]) -> tuple[NDArray, NDArray, NDArray]:
    """Voxels, label and affine of a scan by a protocol of its own, its slices tilted against the body."""
    across = rng.integers(4)  # the axis that slices are stacked along; 3 for none
    spacing = np.full(3, rng.uniform(*ISOTROPIC if across == 3 else PIXEL))
    if across < 3:
        spacing[across] = rng.uniform(*SLICE)
    extent = np.asarray(FIELD_OF_VIEW) * rng.uniform(0.9, 1.04, 3)
    size = np.rint(extent / spacing).astype(int)
    parts = np.ceil(spacing / THIN).astype(int)
    sampling = Sampling(tuple(size.tolist()), size * spacing, tuple(parts.tolist()), _random_turn(rng))
    voxels, label = draw_phantom(rng, sampling, structures)
    axes = [axis for axis in range(3) if axis != across] + ([int(across)] if across < 3 else [])
    flips = rng.random(3) < 0.5
    stored = [np.flip(array.transpose(axes), tuple(np.flatnonzero(flips).tolist())) for array in (voxels, label)]
    columns = sampling.turn * spacing * np.where(flips[np.argsort(axes)], -1, 1)  # type: ignore[operator]
    return stored[0], stored[1], _affine(rng, stored[0].shape, columns[:, axes])


def _name(number: int) -> str:
    return f"phantom_{number:03d}.nii.gz"


def _datalist(
    count: int, test_count: int, seed: int, size: tuple[int, int, int] | None, structures: Sequence[str]
) -> bytes:
    grid = "mixed protocols" if size is None else f"size {'x'.join(map(str, size))}"
    numbers = {"training": range(count), "test": range(count, count + test_count)}
    content = {
        "name": "Phantom",
        "description": f"Procedural scans of an invented organ (seed {seed}, {grid})",
        "licence": "CC0-1.0",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": {str(number): name for number, name in enumerate(("background", *structures))},
        "numTraining": count,
        "numTest": test_count,
    }
    sections = {
        section: [{"image": f"{images}/{_name(n)}", "label": f"{labels}/{_name(n)}"} for n in numbers[section]]
        for section, images, labels in SECTIONS
    }
    return encode_json({**content, **sections})


def _random_turn(rng: Generator) -> NDArray:
    """Rotation by 4 to 16 degrees about each axis."""
    angles = rng.choice([-1, 1], 3) * rng.uniform(4, 16, 3)
    return np.asarray(Rotation.from_euler("xyz", angles, degrees=True).as_matrix())


def _affine(rng: Generator, size: Sequence[int], columns: NDArray) -> NDArray:
    """Voxel indices to millimeters, the center of the scan near the scanner's."""
    affine = np.eye(4)
    affine[:3, :3] = columns
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

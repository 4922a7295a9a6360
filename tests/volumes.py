# SPDX-License-Identifier: Apache-2.0
"""Volumes as other programs write them, and readers of them that know nothing of the package under test."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from tests.helpers import OBLIQUE, raw_bytes, write_nifti

RNG = np.random.default_rng(0)
TURN = np.linalg.qr(np.random.default_rng(1).random((3, 3)))[0]


def voxels(shape: tuple[int, ...], dtype: str) -> NDArray:
    return (RNG.random(shape) * 200).astype(dtype)


def nifti_pair(shape: tuple[int, ...], dtype: str, suffix: str = ".hdr", cls: type = nib.Nifti1Pair) -> Callable:
    return lambda folder: write_nifti(folder / f"scan{suffix}", voxels(shape, dtype), cls=cls)


def sitk_image(shape: tuple[int, ...], dtype: str, channels: int = 1) -> sitk.Image:
    """An image with a place of its own, as SimpleITK has it."""
    dims = len(shape)
    if dims == 4:
        return sitk.JoinSeries([sitk_image(shape[:3], dtype) for _ in range(shape[3])])
    if channels > 1:
        image = sitk.GetImageFromArray(voxels((*reversed(shape), channels), dtype), isVector=True)
    else:
        image = sitk.GetImageFromArray(voxels(tuple(reversed(shape)), dtype))
    image.SetDirection(TURN[:dims, :dims].ravel().tolist() if dims == 3 else [0, -1, 1, 0])
    image.SetSpacing([0.5, 0.7, 2.5][:dims])
    image.SetOrigin([-30.25, 12.5, 7.0][:dims])
    return image


def by_sitk(suffix: str, shape: tuple[int, ...], dtype: str, channels: int = 1, compress: bool = False) -> Callable:
    def make(folder: Path) -> Path:
        image = sitk_image(shape, dtype, channels)
        sitk.WriteImage(image, str(folder / f"scan{suffix}"), compress)
        return folder / f"scan{suffix}"

    return make


def meta_with(fields: str, files: dict[str, bytes] | None = None, local: bytes = b"", end: str = "\n") -> Callable:
    """A MetaImage header as people write it by hand, in any order and with remarks."""

    def make(folder: Path) -> Path:
        path = folder / ("scan.mhd" if files else "scan.mha")
        path.write_bytes(fields.replace("\n", end).encode() + local)
        for name, content in (files or {}).items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        return path

    return make


def by_nrrd(header: dict, shape: tuple[int, ...], dtype: str, suffix: str = ".nrrd", **options: object) -> Callable:
    def make(folder: Path) -> Path:
        nrrd.write(str(folder / f"scan{suffix}"), voxels(shape, dtype), header, **options)
        return folder / f"scan{suffix}"

    return make


def nrrd_with(header: str, data: bytes = b"", files: dict[str, bytes] | None = None) -> Callable:
    def make(folder: Path) -> Path:
        path = folder / ("scan.nhdr" if files else "scan.nrrd")
        path.write_bytes(header.encode() + data)
        for name, content in (files or {}).items():
            (folder / name).write_bytes(content)
        return path

    return make


def gipl(dtype: str, suffix: str = ".gipl") -> Callable:
    def make(folder: Path) -> Path:
        image = sitk.GetImageFromArray(voxels((7, 6, 5), dtype))
        image.SetSpacing([0.5, 0.7, 2.5])
        image.SetOrigin([-30.25, 12.5, 7.0])
        sitk.WriteImage(image, str(folder / f"scan{suffix}"))
        return folder / f"scan{suffix}"

    return make


def mgh(shape: tuple[int, ...], dtype: str, suffix: str = ".mgz", tail: bytes = b"") -> Callable:
    def make(folder: Path) -> Path:
        name, path = f"scan{suffix}", folder / f"scan{suffix.replace('.mgh.gz', '.mgz')}"
        nib.MGHImage(voxels(shape, dtype), OBLIQUE).to_filename(path)
        if tail:
            raw = raw_bytes(path) + tail
            path.write_bytes(raw if suffix == ".mgh" else gzip.compress(raw, mtime=0))
        return path.rename(path.with_name(name))

    return make


BLOCK = voxels((4, 5, 6), "int16")  # of files written by hand
RAW, SLICES = BLOCK.tobytes("F"), [BLOCK[..., index].tobytes("F") for index in range(6)]
META = "ObjectType = Image\nNDims = 3\nComment = by hand\nBinaryData = True\nDimSize = 4 5 6\nElementType = MET_SHORT\n"
META += "Offset = 1 2 3\nElementSpacing = -1 2 3\nTransformMatrix = 0 1 0 1 0 0 0 0 -1\n"
NRRD = "NRRD0005\n# by hand\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 5 6\nendian: little\n"
NRRD += "space directions: (-1,0,0) (0,0.5,0.5) (0,0,2)\nspace origin: (1,2,3)\nkey:=kept to the byte\n"


def reference(path: Path) -> tuple[NDArray, NDArray]:
    """Voxels (C, x, y[, z]) and affine of a volume, by nibabel or SimpleITK alone."""
    name = path.name.lower()
    if name.endswith((".mgz", ".mgh", ".mgh.gz")):
        header = nib.freesurfer.MGHImage.from_bytes(raw_bytes(path))
        return by_last_axis(np.asarray(header.dataobj)), header.affine
    if ".nii" in name or ".hdr" in name:
        image = nib.load(path)
        return by_last_axis(image.dataobj.get_unscaled()), image.affine
    if b"bzip2" in path.read_bytes()[:500]:  # which ITK does not read
        return nrrd.read(str(path))[0][None], np.diag([-1.0, -1.0, 1.0, 1.0])
    image = sitk.ReadImage(str(path))
    return by_last_axis(sitk_voxels(image)), sitk_affine(image)


def by_last_axis(stored: NDArray) -> NDArray:
    """Voxels (C, x, y[, z]) of ones given as (x, y, z, ...), a third extent of 1 left out."""
    if stored.dtype.names:
        stored = np.stack([stored[name] for name in stored.dtype.names if name != "A"], -1)
    kept = stored.shape[:3] if stored.shape[2:3] != (1,) else stored.shape[:2]
    return np.moveaxis(stored.reshape(*kept, -1, order="F"), -1, 0)


def sitk_voxels(image: sitk.Image) -> NDArray:
    """Voxels (x, y[, z, t][, C])."""
    array = sitk.GetArrayFromImage(image)
    dims = image.GetDimension()
    array = array.transpose(*reversed(range(dims)), *range(dims, array.ndim))
    return array[:, :, None] if dims == 2 and array.ndim > 2 else array


def sitk_affine(image: sitk.Image) -> NDArray:
    """Voxel indices to millimeters to the right, to the front and up."""
    dims = min(image.GetDimension(), 3)
    directions = np.reshape(image.GetDirection(), [image.GetDimension()] * 2)[:dims, :dims]
    affine = np.eye(4)
    affine[:dims, :dims] = directions * image.GetSpacing()[:dims]
    affine[:dims, 3] = image.GetOrigin()[:dims]
    return np.diag([-1, -1, 1, 1]) @ affine


# Functions that write a scan into a folder and return the path of the file that names it.
VOLUMES: dict[str, Callable[[Path], Path]] = {
    "pair": nifti_pair((5, 6, 7), "i2"),
    "pair-gz": nifti_pair((5, 6, 7), "i2", ".hdr.gz"),
    "pair-nifti2": nifti_pair((5, 6, 7), "f4", cls=nib.Nifti2Pair),
    "pair-4d": nifti_pair((5, 6, 7, 3), "u1"),
    **{f"mha-{dtype}": by_sitk(".mha", (5, 6, 7), dtype) for dtype in ("i1", "u1", "i2", "u2", "i4", "u4")},
    **{f"mha-{dtype}": by_sitk(".mha", (5, 6, 7), dtype) for dtype in ("i8", "u8", "f4", "f8")},
    "mha-zlib": by_sitk(".mha", (5, 6, 7), "i2", compress=True),
    "mha-2d": by_sitk(".mha", (8, 6), "u1"),
    "mha-flat": by_sitk(".mha", (8, 6, 1), "u2"),
    "mha-4d": by_sitk(".mha", (5, 6, 7, 3), "i2"),
    "mha-vector": by_sitk(".mha", (5, 6, 7), "u1", 3, compress=True),
    "mha-2d-vector": by_sitk(".mha", (8, 6), "f4", 2),
    "mha-big-endian": meta_with(
        META + "ElementByteOrderMSB = True\nElementDataFile = LOCAL\n", local=BLOCK.astype(">i2").tobytes("F") + b"more"
    ),
    "mha-line-ends": meta_with(META + "ElementDataFile = LOCAL\n", local=RAW, end="\r\n"),
    "mhd-raw": by_sitk(".mhd", (5, 6, 7), "i2"),
    "mhd-zraw": by_sitk(".mhd", (5, 6, 7), "i2", compress=True),
    "mhd-skip": meta_with(META + "HeaderSize = 7\nElementDataFile = a.raw\n", {"a.raw": b"7 bytes" + RAW + b"more"}),
    "mhd-end": meta_with(META + "HeaderSize = -1\nElementDataFile = d/a.raw", {"d/a.raw": b"any" + RAW}),
    "mhd-list": meta_with(
        META + "ElementDataFile = LIST\n" + "".join(f"z{n}.raw\n" for n in range(6)),
        {f"z{n}.raw": part for n, part in enumerate(SLICES)},
    ),
    "mhd-pattern": meta_with(
        META + "ElementDataFile = z%02d.raw 1 6 1\n", {f"z{n:02}.raw": part for n, part in enumerate(SLICES, 1)}
    ),
    **{f"nrrd-{dtype}": by_sitk(".nrrd", (5, 6, 7), dtype) for dtype in ("i1", "u1", "i2", "u2", "i4", "u4")},
    **{f"nrrd-{dtype}": by_sitk(".nrrd", (5, 6, 7), dtype) for dtype in ("i8", "u8", "f4", "f8")},
    "nrrd-gzip": by_sitk(".nrrd", (5, 6, 7), "i2", compress=True),
    "nrrd-2d": by_sitk(".nrrd", (8, 6), "u1"),
    "nrrd-vector": by_sitk(".nrrd", (5, 6, 7), "u1", 3),
    "nrrd-bzip2": by_nrrd({"encoding": "bzip2"}, (5, 6, 7), "int16"),
    "nrrd-spacings": by_nrrd({"spacings": [1, 2, 0.5], "encoding": "raw"}, (5, 6, 7), "float32"),
    "nrrd-ras": by_nrrd(
        {"space": "right-anterior-superior", "space directions": OBLIQUE[:3, :3].T, "space origin": OBLIQUE[:3, 3]},
        (5, 6, 7),
        "uint16",
    ),
    "nrrd-list-first": by_nrrd(
        {
            "space": "left-posterior-superior",
            "kinds": ["list", "domain", "domain", "domain"],
            "space directions": np.vstack([[np.nan] * 3, np.diag([1.0, 2.0, 3.0])]),
        },
        (2, 5, 6, 7),
        "uint8",
    ),
    "nrrd-list-last": by_nrrd({"kinds": ["domain", "domain", "domain", "list"]}, (5, 6, 7, 2), "uint8"),
    "nrrd-big-endian": nrrd_with(
        NRRD.replace("little", "big") + "encoding: raw\n\n", BLOCK.astype(">i2").tobytes("F") + b"more"
    ),
    "nhdr-raw": by_sitk(".nhdr", (5, 6, 7), "i2"),
    "nhdr-gzip": by_sitk(".nhdr", (5, 6, 7), "i2", compress=True),
    "nhdr-skip": nrrd_with(
        NRRD + "encoding: raw\nline skip: 1\nbyte skip: 3\ndata file: a.raw\n", files={"a.raw": b"a line\n123" + RAW}
    ),
    "nhdr-list": nrrd_with(
        NRRD + "encoding: gzip\ndata file: LIST\n" + "".join(f"z{n}.gz\n" for n in range(6)),
        files={f"z{n}.gz": gzip.compress(part) for n, part in enumerate(SLICES)},
    ),
    **{f"gipl-{dtype}": gipl(dtype) for dtype in ("u1", "i2", "f4")},
    "gipl-gz": gipl("u2", ".gipl.gz"),
    **{f"mgz-{dtype}": mgh((5, 6, 7), dtype) for dtype in ("uint8", "int16", "int32", "float32")},
    "mgh": mgh((5, 6, 7), "int16", ".mgh", b"tags of FreeSurfer"),
    "mgz-tags": mgh((5, 6, 7), "int16", ".mgz", b"tags of FreeSurfer"),
    "mgz-frames": mgh((5, 6, 7, 3), "float32"),
    "mgh-gz": mgh((5, 6, 7), "uint8", ".mgh.gz"),
}

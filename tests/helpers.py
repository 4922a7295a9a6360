# SPDX-License-Identifier: Apache-2.0
"""Tiny datasets, and readers of their files that know nothing of the package under test."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel as nib
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from monai_unlearnable.budget import Budget
from monai_unlearnable.data import load_cases
from monai_unlearnable.intensity import DtypeWindow, FixedWindow, PercentileWindow, WindowRule
from monai_unlearnable.noise import Manifest
from monai_unlearnable.perturbers import ClasswiseNoise, Perturber, Surrogate, UMed
from monai_unlearnable.publishing.publication import Publication
from monai_unlearnable.utils.seeding import reset_parameters

SHAPES = {2: (21, 18), 3: (11, 14, 9)}
RANGES = {
    "uint8": (20, 230),
    "int16": (-500, 900),
    "uint16": (100, 4000),
    "float32": (-1.5, 3.5),
    "float64": (-1.5, 3.5),
}
OBLIQUE = np.array([[0.9, 0.1, -0.2, -31], [-0.1, 1.1, 0.05, 12.5], [0.2, 0.0, 2.0, 7], [0, 0, 0, 1]])
BUDGET = Budget(0.1)


def random_image(shape: tuple[int, ...], dtype: str = "int16", seed: int = 0) -> NDArray:
    """Noise on a ramp, within a range usual for the dtype."""
    rng = np.random.default_rng(seed)
    low, high = RANGES[np.dtype(dtype).name]
    ramp = np.linspace(0, 0.4, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    return (low + (high - low) * (ramp + 0.6 * rng.random(shape))).astype(dtype)


def two_classes(shape: tuple[int, ...]) -> NDArray:
    """A box in the middle of the image, one half of class 1 and one of class 2: they touch."""
    label = np.zeros(shape, np.uint8)
    box = tuple(slice(extent // 4, extent - extent // 4) for extent in shape)
    label[box] = 1
    label[(slice(shape[0] // 2, box[0].stop), *box[1:])] = 2
    return label


def write_nifti(path: Path, voxels: NDArray, slope: float | None = None, inter: float = 0.0, cls: Any = None) -> Path:
    """A NIfTI file with an oblique affine and header fields that careless writers drop."""
    image = (cls or nib.Nifti1Image)(voxels, OBLIQUE, dtype=voxels.dtype)
    image.header["descrip"], image.header["aux_file"] = b"made by hand", b"colors"
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(OBLIQUE, code=2)
    image.set_qform(OBLIQUE, code=1, strip_shears=True)
    if slope is not None:
        image.header.set_slope_inter(slope, inter)
    path.parent.mkdir(parents=True, exist_ok=True)
    with np.errstate(all="ignore"):
        image.to_filename(path)
    if slope is not None:  # nibabel rescales voxels to a slope: put the ones that were asked for
        put_voxels(path, voxels)
    return path


def raw_bytes(path: Path) -> bytes:
    """The content of a file, decompressed."""
    content = path.read_bytes()
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def nifti_header(path: Path) -> tuple[nib.Nifti1Header, int]:
    """The header as it is in the file (nibabel clears some fields of the images it loads), and where voxels begin."""
    raw, kind = raw_bytes(path), type(nib.load(path).header)
    header = kind(raw[: kind.sizeof_hdr], check=False)
    return header, int(header["vox_offset"])


def put_voxels(path: Path, voxels: NDArray) -> None:
    """Replace the voxel block of a NIfTI file."""
    raw, (_, offset) = raw_bytes(path), nifti_header(path)
    block = voxels.tobytes(order="F")
    raw = raw[:offset] + block + raw[offset + len(block) :]
    path.write_bytes(gzip.compress(raw, mtime=0) if path.name.endswith(".gz") else raw)


def flip_byte(path: Path, position: int) -> None:
    """Flip the lowest bit of one byte of a file's (decompressed) content."""
    raw = bytearray(raw_bytes(path))
    raw[position] ^= 1
    path.write_bytes(gzip.compress(bytes(raw), mtime=0) if path.name.endswith(".gz") else bytes(raw))


def stored_voxels(path: Path) -> NDArray:
    """Stored numbers of a file, by nibabel or Pillow alone."""
    if ".nii" in path.name.lower():
        return np.asarray(nib.load(path).dataobj.get_unscaled())
    if path.suffix == ".tif":
        pixels = tifffile.imread(path)
        return np.moveaxis(pixels, 0, -1) if pixels.ndim == 3 and len(pixels) == 3 else pixels
    return np.asarray(imagecodecs.imread(path) if path.suffix == ".png" else Image.open(path))


def write_dataset(
    root: Path,
    dims: int = 3,
    dtype: str = "int16",
    names: tuple[str, ...] = ("a", "b"),
    suffix: str = ".nii.gz",
    empty: tuple[str, ...] = (),
    slope: float | None = None,
    first_seed: int = 0,
) -> Path:
    """``images/`` and ``labels/`` with one file a name; labels of the names in ``empty`` are all background."""
    for seed, name in enumerate(names, first_seed):
        image, label = random_image(SHAPES[dims], dtype, seed), two_classes(SHAPES[dims])
        label = np.zeros_like(label) if name in empty else label
        for folder, voxels in (("images", image), ("labels", label)):
            path = root / folder / f"{name}{suffix}"
            if suffix == ".png":
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(voxels.T).save(path)
            else:
                write_nifti(path, voxels, slope if folder == "images" else None, 12.5)
    return root


def write_class_folders(
    root: Path,
    dims: int = 2,
    dtype: str = "uint8",
    counts: tuple[int, ...] = (3, 2, 2),
    suffix: str = ".png",
    shape: tuple[int, ...] | None = None,
    first_seed: int = 0,
) -> Path:
    """A folder for each class, ``a``, ``b``, ..., with so many images; later classes have a darker first half."""
    shape = shape or SHAPES[dims]
    kinds = [kind for kind, count in enumerate(counts) for _ in range(count)]
    for seed, kind in enumerate(kinds, first_seed):
        image = random_image(shape, dtype, seed)
        image[: shape[0] // 2] = image[: shape[0] // 2] * (1 - 0.3 * kind)
        path = root / "abcdefgh"[kind] / f"{seed}{suffix}"
        if suffix.startswith(".nii"):
            write_nifti(path, image)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.T).save(path)
    return root


def write_datalist(root: Path, entries: list[dict[str, Any]]) -> Path:
    """``datalist.json`` with a section ``training``."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "datalist.json").write_text(json.dumps({"training": entries}))
    return root


def small_umed(dims: int = 3, seed: int = 0, in_channels: int = 1, **arguments: Any) -> UMed:
    """An untrained UMed with weights of a seed."""
    perturber = UMed(dims, in_channels, BUDGET.epsilon, channels=(4, 8), **arguments)
    reset_parameters(perturber, seed)
    for network in (perturber.contour_net, perturber.texture_net):  # as much noise as after training
        network.head.weight.data *= 50
    return perturber


def small_surrogate(
    name: str = "ResNet18", dims: int = 2, classes: int = 3, seed: int = 0, channels: int = 1
) -> Surrogate:
    """An untrained surrogate of width 4 for input of 16 voxels along each axis, with weights of a seed."""
    surrogate = Surrogate(name, dims, channels, classes, [16] * dims, width=4)
    reset_parameters(surrogate, seed)
    return surrogate


def small_shared(size: tuple[int, ...], seed: int = 0, classes: int = 3, **arguments: Any) -> ClasswiseNoise:
    """An untrained ClasswiseNoise with patterns of a seed."""
    perturber = ClasswiseNoise(1, classes, size, BUDGET.epsilon, **arguments)
    reset_parameters(perturber, seed)
    perturber.tile.data *= 10  # as much noise as after training
    return perturber


def protect(
    dataset: Path,
    out: Path,
    perturber: Perturber | None = None,
    window: WindowRule | None = None,
    budget: Budget = BUDGET,
    **arguments: Any,
) -> Manifest:
    """Run :class:`Publication` on a dataset, 3D with a percentile window unless told otherwise."""
    window = PercentileWindow() if window is None else window
    return Publication(load_cases(dataset), perturber or small_umed(), out, window, budget, **arguments).run()


def fixed_window(dtype: str) -> FixedWindow:
    """A window somewhat narrower than the images of :func:`random_image`."""
    low, high = RANGES[dtype]
    return FixedWindow(low + 0.1 * (high - low), high - 0.1 * (high - low))


def window_width(rule: WindowRule, voxels: NDArray) -> float:
    """The physical width of the window that a rule gives an image without a slope."""
    if isinstance(rule, PercentileWindow):
        low, high = np.percentile(voxels.astype(np.float64), [0.5, 99.5])
        return float(high - low)
    if isinstance(rule, DtypeWindow):
        return float(np.iinfo(voxels.dtype).max) - float(np.iinfo(voxels.dtype).min)
    assert isinstance(rule, FixedWindow)
    return rule.high - rule.low


def tree(folder: Path) -> dict[str, bytes]:
    """The content of every file below a folder, by relative name."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

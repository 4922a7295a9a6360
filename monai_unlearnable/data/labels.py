# SPDX-License-Identifier: Apache-2.0
"""What the numbers of a label file mean: classes, voxels to ignore, or no label at all.

Labels are copied and never written, so that they are read by rules of their own: any type of number will do."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import DTypeLike, NDArray

from monai_unlearnable.data.formats import read_label_scan
from monai_unlearnable.data.scan import Scan
from monai_unlearnable.errors import LabelError, ScanError
from monai_unlearnable.intensity import StorageQuantization
from monai_unlearnable.utils.arrays import file_order, pieces

__all__ = [
    "LabelGeometry",
    "encode_label",
    "ignored_voxels",
    "read_label",
    "read_label_map",
    "soft_edges",
    "value_counts",
]

WHOLE = 1e-3  # a value this near to a whole number is that number: slopes drift
FAR = 0.5  # voxels that a corner of a label may lie from that of its image
SHOWN = 8  # values that an error lists


class LabelGeometry(str, Enum):
    """Whether a label must lie where its image lies."""

    MATCH = "match"
    IGNORE = "ignore"

    def __str__(self) -> str:
        return self.value


def read_label(
    path: Path, images: Sequence[Scan], case: str | None = None, geometry: str = LabelGeometry.MATCH
) -> NDArray:
    """Stored label values (1, spatial...), whole numbers of any width; see :func:`read_label_map`."""
    return read_label_map(path, images, case, geometry).voxels


def read_label_map(
    path: Path, images: Sequence[Scan], case: str | None = None, geometry: str = LabelGeometry.MATCH
) -> Scan:
    """Read a label map.

    Args:
        path: path of the label.
        images: scans of the case.
        case: name of the case, for errors.
        geometry: ``"match"``: the label must lie where the first image lies, in mm, to half a voxel; axes may have
            been flipped on the way from one program to another. ``"ignore"``: voxels belong together by their index.
            Files that do not tell where they lie are not compared.

    Returns:
        The label with one channel of whole numbers: those of the file where it stores such, else int64.

    Raises:
        LabelError: when shape or place differ from the image's, or values are not whole numbers.
    """
    try:
        scan = read_label_scan(path, images)
    except ScanError as error:
        raise LabelError(f"the label cannot be used: {error.reason}", case=case, file=error.file or path) from error
    try:
        _check_shape(scan, images[0])
        if geometry == LabelGeometry.MATCH:
            _check_place(scan, images[0])
        values = _whole_numbers(_single_channel(scan))
    except LabelError as error:
        raise LabelError(error.reason, case=case, file=path, value=error.value, limit=error.limit) from None
    return replace(scan, voxels=values, quantization=StorageQuantization(values.dtype.str))


def _check_shape(label: Scan, image: Scan) -> None:
    found, expected = label.spatial_shape, image.spatial_shape
    if found != expected:
        hint = "; its axes are in another order" if sorted(found) == sorted(expected) else ""
        raise LabelError(f"the label has shape {found}, the image {expected}{hint}", value=found, limit=expected)


def _check_place(label: Scan, image: Scan) -> None:
    """Refuse a label whose voxels lie elsewhere than those of the same index in the image."""
    if len(image.spatial_shape) == 2 and label.path.suffix != image.path.suffix:
        return  # formats have no common way to tell where a picture lies in space
    affines = (label.affine, image.affine)
    if not all(scan.has_geometry for scan in (label, image)) or not all(map(_is_regular, affines)):
        return
    corners = np.array(list(itertools.product(*((0, extent - 1) for extent in (*image.spatial_shape, 1)[:3]))))
    places = [apply_affine(affine, corners) for affine in affines]
    voxels = np.abs(apply_affine(np.linalg.inv(image.affine), places[0]) - corners).max()
    if voxels > FAR:
        offset = float(np.linalg.norm(places[0] - places[1], axis=1).max())
        reason = f"the label lies up to {offset:.4g} mm from the image: its axes are others, or flipped"
        way = "resample it onto the image, or give --label_geometry ignore if voxels of equal index belong together"
        raise LabelError(f"{reason}; {way}", value=offset)


def _is_regular(affine: NDArray) -> bool:
    return bool(np.isfinite(affine).all() and np.linalg.matrix_rank(affine[:3, :3]) == 3)


def _single_channel(scan: Scan) -> Scan:
    voxels = scan.voxels
    if len(voxels) > 1 and (voxels != voxels[:1]).any():
        raise LabelError(f"the label has {len(voxels)} channels; a label map needs one, with a value for each class")
    return scan if len(voxels) == 1 else replace(scan, voxels=voxels[:1])


def _whole_numbers(scan: Scan) -> NDArray:
    voxels, quantization = scan.voxels, scan.quantization
    if voxels.dtype.kind == "b":
        return voxels.astype(np.uint8)
    if voxels.dtype.kind in "iu" and (quantization.slope, quantization.inter) == (1, 0):
        if voxels.dtype == np.uint64 and voxels.max() > np.iinfo(np.int64).max:
            raise LabelError("the label holds numbers of 64 bits without sign", value=int(voxels.max()))
        return voxels.astype(np.int64) if voxels.dtype == np.uint64 else voxels
    physical = scan.physical(np.float64)
    with np.errstate(invalid="ignore"):
        rounded = np.rint(physical)
        off = ~(np.abs(physical - rounded) <= WHOLE)  # NaN and infinity too
    if off.any():
        raise LabelError(_not_whole(physical[off]))
    return rounded.astype(np.int64)


def _not_whole(values: NDArray) -> str:
    """What is wrong with values, all of which are no whole numbers."""
    finite = values[np.isfinite(values)]
    parts = []
    if len(finite):
        parts.append(f"not whole numbers in {len(finite)} voxels (from {finite.min():.4g} to {finite.max():.4g})")
    if len(finite) < len(values):
        parts.append(f"NaN or infinite in {len(values) - len(finite)} voxels")
    return f"label values are {' and '.join(parts)}; resample labels by the nearest neighbor, or threshold them"


def index_dtype(count: int) -> DTypeLike:
    """The smallest dtype that torch computes with and that holds the indices of ``count`` classes."""
    return next(dtype for dtype in (np.uint8, np.int16, np.int32) if count - 1 <= np.iinfo(dtype).max)


def check_values(values: Sequence[int]) -> tuple[int, ...]:
    """The label values of classes that a user gave.

    Raises:
        LabelError: when they are no whole numbers, fewer than two, or not all different.
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise LabelError(f"--label_values is a list such as [0, 1], not {values!r}")
    if not all(isinstance(value, (int, np.integer)) and not isinstance(value, bool) for value in values):
        raise LabelError(f"--label_values are whole numbers, not {list(values)}")
    if len(set(values)) < max(2, len(values)):
        raise LabelError(f"--label_values are at least two, all different, not {list(values)}")
    return tuple(int(value) for value in values)


def ignored_voxels(label: NDArray, values: Sequence[int] | None = None) -> NDArray | None:
    """The voxels that belong to no class: their value is negative, and none of ``values``; None where there are none.

    Args:
        label: stored values.
        values: the stored value of each class, where they are known.
    """
    if label.dtype.kind == "u" or label.min(initial=0) >= 0:
        return None
    negative = label < 0
    classes = [value for value in values or () if value < 0]
    if classes:
        negative &= ~np.isin(label, classes)
    return negative if negative.any() else None


def encode_label(label: NDArray, values: Sequence[int], case: str | None = None, file: Path | None = None) -> NDArray:
    """Class indices 0, 1, ... of stored label values, as uint8, or wider where there are more than 256 classes.

    Negative values that are no class are to be ignored, and become background.

    Args:
        label: stored values; those that are nearly whole numbers are taken for these.
        values: the stored value of each class, background first.

    Raises:
        LabelError: when another value is not in ``values``.
    """
    count = len(values)
    dtype = index_dtype(count)
    if label.dtype.kind in "iu" and list(values) == list(range(count)) and label.min() >= 0 and label.max() < count:
        return label.astype(dtype)  # they are indices already
    order = np.argsort(values)
    known, unknown = np.asarray(values, np.int64)[order], set[float]()
    indices = np.empty_like(label, dtype)
    for source, target in zip(pieces(label), pieces(indices), strict=True):
        ranks = np.searchsorted(known, source if label.dtype.kind in "iu" else source - WHOLE).clip(max=count - 1)
        other = np.abs(known[ranks] - source) > (0 if label.dtype.kind in "iu" else WHOLE)
        target[...] = np.where(other, 0, order[ranks])
        unknown.update(value for value in np.unique(source[other]).tolist() if not value < 0)
    if unknown:
        shown = f"{sorted(unknown)[:5]}; known are {list(values)}"
        raise LabelError(f"unknown label value {shown}; --label_values gives all", case=case, file=file)
    return indices


def value_counts(label: NDArray) -> dict[int, int]:
    """Number of voxels of each value (1, spatial...), in ascending order of values."""
    low, high = int(label.min()), int(label.max())
    counts = Counter[int]()
    if high - low < 2**16:
        total = np.zeros(high - low + 1, np.int64)
        for piece in pieces(label):
            flat = piece.ravel()
            total += np.bincount(flat if low == 0 else flat.astype(np.int64) - low, minlength=len(total))
        counts.update({low + int(index): int(total[index]) for index in np.flatnonzero(total)})
    else:
        for piece in pieces(label):
            counts.update(dict(zip(*(found.tolist() for found in np.unique(piece, return_counts=True)), strict=True)))
    return dict(sorted(counts.items()))


SAMPLE = 2**20  # voxels that are looked at
TOUCHING = 0.5  # fraction of the direct neighbors with the same value, from which on voxels of a value make up regions
FEW = 0.75  # fraction of the labeled voxels
REGIONS = 8  # values; more of them are no mask that once had two or a few gray levels
RIPPLE = 16  # the range of values by this is as far as JPEG strays from the value of a region
MANY, IMAGE = 32, 0.2  # an image has more values, and most of them, or of its voxels, have fewer neighbors of the same


def soft_edges(label: NDArray, counts: Mapping[int, int]) -> str | None:
    """Why a label looks like a mask that was resized smoothly or saved as JPEG, or like an image; else None.

    The voxels of a class make up regions: most of the voxels beside one of them have its value. Other values are
    *loose* if they lie between a lower and a higher neighbor, as smooth edges do, or near the value of a region, as the
    ripples of JPEG. A mask has soft edges if at least half of its values are loose, in few voxels, and few make up
    regions. Small or thin structures are not loose: nothing around them is both lower and higher.

    Args:
        label: stored values (1, spatial...).
        counts: number of voxels of each value.
    """
    values = sorted(counts)
    if len(values) < 4:
        return None
    background = max(values, key=counts.__getitem__)
    found, touching, between = _neighborhoods(label[0], background)
    voxels = np.array([counts[value] for value in found.tolist()])
    solid, scattered = np.array([background, *found[touching >= TOUCHING]]), touching < TOUCHING
    extent = values[-1] - values[0]
    near = np.abs(found[:, None] - solid).min(axis=1) <= (extent // RIPPLE or -1)
    is_between = between > 0.5
    loose = scattered & (near | is_between)
    is_mask = 1 < len(solid) <= max(REGIONS, len(values) / 10) and voxels[loose].sum() < FEW * voxels.sum()
    if is_mask and loose.sum() >= max(len(values) / 2, 2 if extent >= RIPPLE else 3):
        return (
            f"{len(values)} label values, {loose.sum()} of which lie along the edges of the others ({_shown(counts)}): "
            "a mask that was resized smoothly, or saved as JPEG? Threshold it, or give all values as --label_values if "
            "they are classes"
        )
    is_image = is_between.mean() > 0.5 and touching[is_between].mean() < IMAGE
    # By values alone, noise around a few intensities is none: the rare values of its tails lie between no others.
    is_image |= np.average(between, weights=voxels) > 0.5 and np.average(touching, weights=voxels) < IMAGE
    if len(values) > MANY and is_image:
        return (
            f"{len(values)} label values, which make up no regions ({_shown(counts)}): an image in the place of a "
            "label? Give all values as --label_values if they are classes"
        )
    return None


def _shown(counts: Mapping[int, int]) -> str:
    """The first values with their numbers of voxels, for messages."""
    shown = [f"{value}: {number}" for value, number in itertools.islice(counts.items(), SHOWN)]
    return ", ".join(shown) + (", ..." if len(counts) > SHOWN else "")


def _neighborhoods(label: NDArray, background: int) -> tuple[NDArray, NDArray, NDArray]:
    """How the voxels of each value other than the background's lie among their direct neighbors.

    Returns:
        The values; the mean fraction of neighbors that have the same value; the fraction of voxels with a lower and a
        higher neighbor. Large labels are sampled evenly.
    """
    volume = np.ascontiguousarray(file_order(label[None])[0])
    flat, where = volume.ravel(), np.flatnonzero(volume != background)
    where = where[:: -(-len(where) // SAMPLE)]
    own = flat[where]
    places = np.unravel_index(where, volume.shape)
    same, sides = np.zeros(len(where)), np.zeros(len(where))
    lower, higher = np.zeros(len(where), bool), np.zeros(len(where), bool)
    stride = 1
    for place, extent in zip(reversed(places), reversed(volume.shape), strict=True):
        for step, inside in ((-stride, place > 0), (stride, place < extent - 1)):
            other = np.where(inside, flat[np.where(inside, where + step, 0)], own)
            same += inside & (other == own)
            sides += inside
            lower |= other < own
            higher |= other > own
        stride *= extent
    found, index = np.unique(own, return_inverse=True)
    voxels = np.bincount(index)
    touching = np.bincount(index, same) / np.maximum(np.bincount(index, sides), 1)
    return found.astype(np.int64), touching, np.bincount(index, lower & higher) / voxels

# SPDX-License-Identifier: Apache-2.0
"""Label maps as they are stored, on the grid of their images, and as class indices."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from monai_unlearnable.data.formats import read_label_scan
from monai_unlearnable.data.scan import Scan
from monai_unlearnable.errors import LabelError, ScanError
from monai_unlearnable.utils.arrays import pieces

__all__ = ["encode_label", "read_label"]


def read_label(path: Path, images: Sequence[Scan], case: str | None = None) -> NDArray:
    """Stored label values (1, spatial...), in whole numbers of the file's dtype where that holds them, else int64.

    Args:
        path: of the label.
        images: the scans of the case. The label of a series has to lie in its place too: axes may have been flipped on
            the way from one format to the other.
        case: named in errors.

    Raises:
        LabelError: when shape or place differ from the image's, or values are not whole numbers.
    """
    try:
        scan = read_label_scan(path, images)
    except ScanError as error:
        raise LabelError(f"the label cannot be used: {error.reason}", case=case, file=error.file or path) from error
    whole = scan.quantization.is_integer and (scan.quantization.slope, scan.quantization.inter) == (1, 0)
    label = scan.voxels if whole else scan.physical(np.float64)
    shape, affine = images[0].spatial_shape, images[0].affine
    if scan.spatial_shape != shape:
        reason = f"the label has shape {scan.spatial_shape}, the image {shape}"
        raise LabelError(reason, case=case, file=path, value=scan.spatial_shape, limit=shape)
    if images[0].path.is_dir():
        corners = np.array(list(itertools.product(*((0, extent - 1) for extent in (*shape, 1)[:3]))))
        offset = float(np.abs(apply_affine(scan.affine - affine, corners)).max())
        if offset > np.linalg.norm(affine[:3, :3], axis=0).min() / 2:
            reason = f"the label lies up to {offset:.4g} mm from the image: its axes are others, or flipped"
            raise LabelError(reason, case=case, file=path, value=offset)
    if len(label) > 1 and (label != label[:1]).any():
        raise LabelError(f"the label has {len(label)} channels; class indices need one", case=case, file=path)
    if whole:
        return label[:1]
    if (label != np.rint(label)).any():
        raise LabelError("the label holds values that are not whole numbers", case=case, file=path)
    return label[:1].astype(np.int64)


def encode_label(label: NDArray, values: Sequence[int], case: str | None = None, file: Path | None = None) -> NDArray:
    """Class indices 0, 1, ... of stored label values, as uint8.

    Args:
        label: stored values.
        values: the stored value of each class, background first.

    Raises:
        LabelError: when a value is not in ``values``.
    """
    count = len(values)
    if label.dtype.kind in "iu" and list(values) == list(range(count)) and label.min() >= 0 and label.max() < count:
        return label.astype(np.uint8)  # they are indices already
    order = np.argsort(values)
    known, found = np.asarray(values)[order], set()
    indices = np.empty_like(label, np.uint8)
    for source, target in zip(pieces(label), pieces(indices), strict=True):
        ranks = np.searchsorted(known, source).clip(max=len(known) - 1)
        found.update(np.unique(source[known[ranks] != source]).tolist())
        target[...] = order[ranks]
    if found:
        raise LabelError(f"unknown label value {sorted(found)[:5]}; known are {list(values)}", case=case, file=file)
    return indices

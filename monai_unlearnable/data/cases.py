# SPDX-License-Identifier: Apache-2.0
"""Cases read from disk: scans, windows, and the label map that belongs to them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from monai_unlearnable.data.datalist import Case
from monai_unlearnable.data.formats import read_label_scan, read_scan
from monai_unlearnable.data.scan import Scan, check_same_shape
from monai_unlearnable.errors import LabelError, ScanError, UnlearnableError
from monai_unlearnable.intensity import IntensityWindow, WindowRule
from monai_unlearnable.utils.arrays import pieces
from monai_unlearnable.utils.files import reading

__all__ = ["encode_label", "read_label", "LoadedCase", "read_case"]


def read_label(path: Path, images: Sequence[Scan], case: str | None = None) -> NDArray:
    """Stored label values (1, spatial...), in whole numbers of the file's dtype where that holds them, else int64.

    Args:
        path: path of the label.
        images: scans of the case. The label of a series must lie in its place too: axes may have been flipped on
            the way from one format to the other.
        case: name of the case, for errors.

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
    if not np.isfinite(label).all():
        raise LabelError("the label holds NaN or infinite values", case=case, file=path)
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


@dataclass(frozen=True)
class LoadedCase:
    """A case in memory.

    Args:
        case: the case as it was listed.
        scans: scans, one per image file.
        windows: intensity windows, one per scan.
        label: class indices (1, spatial...), or None.
    """

    case: Case
    scans: tuple[Scan, ...]
    windows: tuple[IntensityWindow, ...]
    label: NDArray | None

    @property
    def image(self) -> NDArray:
        """Normalized intensity of all files, clipped to the window, channels stacked (C, spatial...), float32."""
        units = [scan.unit(window) for scan, window in zip(self.scans, self.windows, strict=True)]
        return units[0] if len(units) == 1 else np.concatenate(units)

    @property
    def target(self) -> NDArray | int | None:
        """The target of a model: class indices of voxels, or else the class of the whole image."""
        return self.case.target if self.label is None else self.label

    @property
    def step(self) -> tuple[float, ...]:
        """Normalized intensity of the largest storage step, a channel at a time; 0 for float storage."""
        return sum((window.step(scan.quantization) for scan, window in zip(self.scans, self.windows, strict=True)), ())


def read_case(case: Case, window: WindowRule, label_values: Sequence[int] | None = None) -> LoadedCase:
    """Read the files of a case.

    Args:
        case: the case to read.
        window: rule for the intensity window of each file.
        label_values: stored label value of each class; None leaves the stored values as they are.

    Raises:
        UnlearnableError: a subclass that says what is wrong, naming case and file.
    """
    scans: list[Scan] = []
    windows: list[IntensityWindow] = []
    for name in case.images:
        path = case.root / name
        with _naming(case, path):
            scans.append(read_scan(path))
            windows.append(scans[-1].window(window))
            check_same_shape(scans)
    label = None
    if case.label is not None:
        path = case.root / case.label
        with _naming(case, path):
            label = read_label(path, scans, case.case_id)
        if label_values is not None:
            label = encode_label(label, label_values, case.case_id, path)
    return LoadedCase(case, tuple(scans), tuple(windows), label)


@contextmanager
def _naming(case: Case, path: Path) -> Iterator[None]:
    """Errors within get the name of the case, and the file if they name none."""
    try:
        with reading(path):
            yield
    except UnlearnableError as error:
        raise type(error)(
            error.reason, case=case.case_id, file=error.file or path, value=error.value, limit=error.limit
        ) from error

# SPDX-License-Identifier: Apache-2.0
"""Cases read from disk as methods see them: normalized intensity, class indices, storage steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.data.datalist import Case
from monai_unlearnable.data.formats import read_scan
from monai_unlearnable.data.labels import encode_label, read_label
from monai_unlearnable.data.scan import Scan
from monai_unlearnable.errors import ScanError, UnlearnableError
from monai_unlearnable.intensity import IntensityWindow, WindowRule
from monai_unlearnable.utils.files import reading

__all__ = ["LoadedCase", "read_case"]


@dataclass(frozen=True)
class LoadedCase:
    """A case in memory.

    Args:
        case: where it came from.
        scans: one per image file.
        windows: one per scan.
        label: class indices (1, spatial...), or None.
    """

    case: Case
    scans: tuple[Scan, ...]
    windows: tuple[IntensityWindow, ...]
    label: NDArray | None

    @property
    def image(self) -> NDArray:
        """Normalized intensity of all files, clipped to the window, channels stacked (C, spatial...), float32."""
        units = [window.to_unit(scan.physical()) for scan, window in zip(self.scans, self.windows, strict=True)]
        return units[0] if len(units) == 1 else np.concatenate(units)

    @property
    def target(self) -> NDArray | int | None:
        """What a model is to say: class indices of voxels, or else the class of the whole image."""
        return self.case.target if self.label is None else self.label

    @property
    def step(self) -> tuple[float, ...]:
        """Normalized intensity of one storage step, a channel at a time; 0 for float storage."""
        return sum((window.step(scan.quantization) for scan, window in zip(self.scans, self.windows, strict=True)), ())


def read_case(case: Case, window: WindowRule, label_values: Sequence[int] | None = None) -> LoadedCase:
    """Read the files of a case.

    Args:
        case: what to read.
        window: rule for the intensity window of each file.
        label_values: stored label value of each class; None leaves the stored values as they are.

    Raises:
        UnlearnableError: of a class that says what is wrong, naming case and file.
    """
    scans: list[Scan] = []
    windows: list[IntensityWindow] = []
    for name in case.images:
        path = case.root / name
        with _naming(case, path):
            scan = read_scan(path)
            windows.append(scan.window(window))
        if scans and scan.spatial_shape != scans[0].spatial_shape:
            reason = f"shape {scan.spatial_shape} differs from {scans[0].spatial_shape} of {case.images[0]}"
            raise ScanError(reason, case=case.case_id, file=path)
        scans.append(scan)
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
    """Errors within name the case, and the file where they do not name one."""
    try:
        with reading(path):
            yield
    except UnlearnableError as error:
        raise type(error)(
            error.reason, case=case.case_id, file=error.file or path, value=error.value, limit=error.limit
        ) from error

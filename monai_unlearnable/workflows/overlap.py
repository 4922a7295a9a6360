# SPDX-License-Identifier: Apache-2.0
"""Images that are in the training data and in the test data: scores on them say nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from monai_unlearnable.errors import DatalistError, ScanError
from monai_unlearnable.scans import Case
from monai_unlearnable.scans.dicom import list_files
from monai_unlearnable.workflows.layout import file_digest

__all__ = ["refuse_overlap"]


def refuse_overlap(training: Iterable[Case], test: Iterable[Case]) -> None:
    """Compare the image files of all cases by content, whatever their names and folders.

    Only files of equal size are read, each once.

    Raises:
        DatalistError: naming both cases, when a test image is a training image.
        ScanError: naming the file, when it cannot be read.
    """
    trained: dict[int, list[tuple[Case, Path]]] = {}
    for case, path in _files(training):
        trained.setdefault(_size(path), []).append((case, path))

    @cache
    def of_size(size: int) -> dict[str, tuple[Case, Path]]:
        return {file_digest(path): (case, path) for case, path in trained.get(size, ())}

    for case, path in _files(test):
        others = of_size(_size(path))
        if others and (digest := file_digest(path)) in others:
            other, known = others[digest]
            reason = f"the case is in the training data and in the test data: it equals {other.case_id}, {known}"
            raise DatalistError(reason, case=case.case_id, file=path)


def _files(cases: Iterable[Case]) -> Iterator[tuple[Case, Path]]:
    """The files of images; of a series, its slices, one of which gives the whole away."""
    for case in cases:
        for path in (case.root / name for name in case.images):
            for file in list_files(path)[0] if path.is_dir() else [path]:
                yield case, file


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise ScanError(f"cannot be read: {error.strerror or error}", file=path) from error

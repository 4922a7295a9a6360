# SPDX-License-Identifier: Apache-2.0
"""Training data of the laboratory: the originals, and folders in which others stand for them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from monai_unlearnable.data import Case, LabelGeometry, check_tasks, load_cases, match_classes, read_case
from monai_unlearnable.data.formats import digest_of, voxel_files
from monai_unlearnable.errors import DatalistError
from monai_unlearnable.evaluation.matrix import Published
from monai_unlearnable.intensity import AutoWindow, WindowRule
from monai_unlearnable.metrics import measure_fidelity, region_changes
from monai_unlearnable.report.rows import CLEAN
from monai_unlearnable.utils.config import build
from monai_unlearnable.utils.files import encoded, file_digest, reading
from monai_unlearnable.utils.progress import track

__all__ = ["Measured", "Source", "clean_source", "published_source", "digest_cases", "refuse_overlap"]

EPSILON = re.compile(r" [\d.]+/255$")  # ends the names of one method's data in a sweep over budgets


def digest_cases(cases: Sequence[Case]) -> str:
    """SHA-256 of names, classes and bytes of all files of the cases."""
    digest = hashlib.sha256()
    for case in cases:
        digest.update(encoded(f"{case.case_id}\0{case.classes}\0"))
        for name in (*case.images, *([case.label] if case.label else [])):
            digest.update(digest_of(case.root / name).encode())
    return digest.hexdigest()


class Measured(NamedTuple):
    """How far data are from the originals.

    Args:
        figures: means of :func:`~monai_unlearnable.metrics.measure_fidelity` over the scans that differ, with
            ``changed``, their fraction.
        regions: for each class the mean size of the relative change of each statistic of its region.
        scans: figures of each scan by its name; empty where an earlier release measured.
    """

    figures: dict[str, float]
    regions: dict[str, dict[str, float]]
    scans: dict[str, dict[str, float]] = {}


@dataclass(frozen=True)
class Source:
    """Cases that victims are trained on.

    Args:
        name: name in the matrix.
        role: ``"clean"``, ``"protected"`` or ``"random noise"``.
        cases: the cases in the order of the originals.
        method: name of what made them; the points of one frontier share it.
        epsilon: largest change that was allowed, in normalized intensity; None where it is unknown.
        window: rule for the intensity window in which fidelity is measured.
    """

    name: str
    role: str
    cases: tuple[Case, ...]
    method: str
    epsilon: float | None = None
    window: WindowRule = field(default_factory=AutoWindow)

    @property
    def is_segmentation(self) -> bool:
        """Whether labels are maps, rather than classes of whole images."""
        return any(case.label for case in self.cases)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all files."""
        return digest_cases(self.cases)

    def measure(self, originals: Source) -> Measured:
        """How far the files are from the originals.

        Args:
            originals: the clean cases.
        """
        figures: dict[str, Mapping[str, float]] = {}
        regions: dict[str, list[Mapping[str, float]]] = {}
        pairs = list(zip(originals.cases, self.cases, strict=True))
        for original, case in track(pairs, f"measuring case of {self.name}"):
            both = (read_case(one, self.window, label_geometry=LabelGeometry.IGNORE) for one in (original, case))
            clean, changed = both
            names = case.images if len(case.images) > 1 else [case.case_id]
            for name, before, after, window in zip(names, clean.scans, changed.scans, clean.windows, strict=True):
                figures[name] = measure_fidelity(before, after, window, clean.label)
                if clean.label is None:
                    continue
                spacing = np.linalg.norm(before.affine[:3, :3], axis=0)[: clean.label.ndim - 1]
                first, second = (scan.data(np.float64)[0] for scan in (before, after))
                for index, change in region_changes(first, second, clean.label[0], spacing).items():
                    regions.setdefault(str(index), []).append({name: abs(value) for name, value in change.items()})
        # Unchanged scans have an infinite PSNR: a mean over all scans would flatter the others.
        differing = [entry for entry in figures.values() if entry["l0"]]
        return Measured(
            _means(differing or [*figures.values()]) | {"changed": len(differing) / len(figures)},
            {index: _means(changes) for index, changes in regions.items()},
            {name: _means([entry]) for name, entry in figures.items()},
        )


def _means(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for entry in figures:
        for name, value in entry.items():
            if np.isfinite(value):
                values.setdefault(name, []).append(value)
    return {name: float(np.mean(found)) for name, found in values.items()}


def clean_source(dataset_dir: str | Path, datalist: str | Path | None = None, omitted: Collection[str] = ()) -> Source:
    """The originals.

    Args:
        dataset_dir: folder of the dataset.
        datalist: list of its cases, see :func:`~monai_unlearnable.data.load_cases`.
        omitted: ids of cases that are none of them.

    Raises:
        DatalistError, LabelError: when cases or labels are missing.
    """
    cases = tuple(case for case in load_cases(dataset_dir, datalist) if case.case_id not in omitted)
    if not cases:
        raise DatalistError("all cases are omitted", file=dataset_dir)
    return Source(CLEAN, CLEAN, cases, CLEAN)


def published_source(name: str, data: Published, originals: Source) -> Source:
    """The cases of published data, in the order of the originals.

    Args:
        name: name in the matrix.
        data: folder with the same relative file names as the originals, and what is known of it.
        originals: the clean cases.

    Raises:
        DatalistError: when a case of the originals is missing.
        LabelError: when the tasks or classes are not those of the originals.
    """
    found = {case.case_id: case for case in load_cases(data.folder)}
    missing = [case.case_id for case in originals.cases if case.case_id not in found]
    if missing:
        raise DatalistError(f"the case is not in the {name} data", case=missing[0], file=data.folder)
    cases = tuple(found[case.case_id] for case in originals.cases)
    check_tasks(cases, originals.cases[0].tasks, "the originals")
    cases = tuple(match_classes(cases, originals.cases[0].class_names, "the originals"))
    window = AutoWindow() if data.window is None else build(data.window)
    return Source(name, data.role, cases, data.method or EPSILON.sub("", name), data.epsilon, window)


def refuse_overlap(training: Iterable[Case], test: Iterable[Case], what: str = "the training data") -> None:
    """Compare the image files of all cases by content, whatever their names and folders.

    Only files of equal size are read, each once.

    Args:
        training: cases that something learns from.
        test: cases that it is scored on.
        what: what the first are, for the error.

    Raises:
        DatalistError: naming both cases, when a test image is a training image.
        ScanError: naming the file, when it cannot be read.
    """

    def size(path: Path) -> int:
        with reading(path):
            return path.stat().st_size

    trained: dict[int, list[tuple[Case, Path]]] = {}
    for case, path in _files(training):
        trained.setdefault(size(path), []).append((case, path))

    @cache
    def of_size(size: int) -> dict[str, tuple[Case, Path]]:
        return {file_digest(path): (case, path) for case, path in trained.get(size, ())}

    for case, path in _files(test):
        others = of_size(size(path))
        if others and (digest := file_digest(path)) in others:
            other, known = others[digest]
            reason = f"the case is in {what} and in the test data: it equals {other.case_id}, {known}"
            raise DatalistError(reason, case=case.case_id, file=path)


def _files(cases: Iterable[Case]) -> Iterator[tuple[Case, Path]]:
    """The image files; of a series, its slices, since one slice gives the whole away."""
    for case in cases:
        for path in (case.root / name for name in case.images):
            for file in voxel_files(path):
                yield case, file

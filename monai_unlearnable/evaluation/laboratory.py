# SPDX-License-Identifier: Apache-2.0
"""The laboratory: what models learn from protected data, over victims, recipes and countermeasures."""

from __future__ import annotations

import dataclasses
import gc
import json
import logging
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from monai_unlearnable import __version__
from monai_unlearnable.crypto import load_key
from monai_unlearnable.crypto.encrypted import Key
from monai_unlearnable.data import Case, DatasetSummary, choose_window, inspect_cases, load_cases
from monai_unlearnable.errors import InputError, UnlearnableError
from monai_unlearnable.evaluation.checks import authorized_scores, detect
from monai_unlearnable.evaluation.matrix import Cell, Matrix
from monai_unlearnable.evaluation.pool import run_cells
from monai_unlearnable.evaluation.runs import Bench, train_cell
from monai_unlearnable.evaluation.sources import Source, clean_source, published_source, refuse_overlap
from monai_unlearnable.noise.records import fingerprint
from monai_unlearnable.publishing.control import random_control
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.report import Results, VictimRow
from monai_unlearnable.report.rows import CLEAN, PROTECTED, RANDOM
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.utils.files import write_atomic, write_json
from monai_unlearnable.victims import Classification, Segmentation, Task

__all__ = ["Laboratory"]

logger = logging.getLogger(__name__)


class Laboratory:
    """Trains every cell of a matrix once and keeps what it found; a killed run goes on where it stopped.

    It reads folders alone, so that data protected by any other code can be examined.

    Args:
        matrix: what to find out.
        folder: gets ``laboratory.json``, ``cells/``, ``figures/`` and, where it is needed, ``control/``.
    """

    def __init__(self, matrix: Matrix, folder: str | Path) -> None:
        if matrix.countermeasures == ("all",):
            names = Catalog.load("countermeasures", matrix.catalog).names()
            matrix = dataclasses.replace(matrix, countermeasures=tuple(names))
        self.matrix, self.folder = matrix, Path(folder)

    @classmethod
    def open(cls, folder: str | Path) -> Laboratory:
        """The laboratory of an earlier run.

        Raises:
            InputError: naming the file, when there is none.
        """
        return cls(Matrix.load(Path(folder)), folder)

    @cached_property
    def originals(self) -> Source:
        """The clean training data."""
        return clean_source(self.matrix.dataset_dir, self.matrix.datalist)

    @cached_property
    def key(self) -> Key | None:
        """What sealed outputs are opened with; read once, since a passphrase may be asked for."""
        return load_key(self.matrix.key)

    @cached_property
    def sources(self) -> dict[str, Source]:
        """All training data by name, the originals first, the control last."""
        if {CLEAN, RANDOM} & set(self.matrix.protected):
            raise InputError(f"protected data cannot be called {CLEAN!r} or {RANDOM!r}")
        protected, key = self.matrix.protected, self.key
        found = [published_source(name, path, self.originals, key) for name, path in protected.items()]
        if self.matrix.originals:
            found.insert(0, self.originals)
        if self.matrix.control:
            model = next((source for source in found if source.epsilon is not None), None)
            if model is not None:
                output = Path(protected[model.name])
                key = key if Layout(output).is_encrypted else None
                folder = random_control(self.originals.cases, output, self.folder / "control", key=key)
                found.append(published_source(RANDOM, folder, self.originals, key))
        return {source.name: source for source in found}

    @cached_property
    def test(self) -> tuple[Case, ...]:
        """Clean held-out cases.

        Raises:
            DatalistError: when there are none, or an image of one is also trained on, under whatever name.
        """
        matrix = self.matrix
        if matrix.test_dir is not None:
            cases = load_cases(matrix.test_dir)
        else:
            cases = load_cases(matrix.dataset_dir, matrix.datalist, section="test")
        refuse_overlap(self.originals.cases, cases)
        return tuple(cases)

    @cached_property
    def summary(self) -> DatasetSummary:
        """Dimensions, channels, classes and size of the training data."""
        return inspect_cases(self.originals.cases, choose_window(self.originals.cases))

    @cached_property
    def task(self) -> Task:
        """What victims are trained for: class maps where labels are files, else classes."""
        if any(case.label for case in self.originals.cases):
            return Segmentation(self.summary.label_values)
        return Classification(1 + max(case.target for case in self.originals.cases if case.target is not None))

    @cached_property
    def bench(self) -> Bench:
        """What all cells share."""
        return Bench(self.matrix, self.originals, lambda: self.test, self.summary, self.task)

    def cells(self) -> list[Cell]:
        """All cells of the matrix."""
        return list(self.matrix.cells(list(self.sources)))

    def check(self) -> None:
        """Look for everything that cells need: data, test cases, victims, recipes and countermeasures.

        Raises:
            UnlearnableError: naming the first that is missing or unknown.
        """
        for cell in self.cells():
            self._path(cell)

    def run(self, part: tuple[int, int] = (0, 1), workers: int = 1) -> Results:
        """Train what has not been trained yet.

        Args:
            part: ``(i, n)`` takes every n-th cell from the i-th on, for n machines side by side.
            workers: processes on this machine, which share its cores.

        Returns:
            All that is known, also of other parts.

        Raises:
            InputError: when data, victims, recipes or countermeasures are unknown.
        """
        self.matrix.save(self.folder)
        self.check()
        cells = self.cells()[part[0] :: part[1]]
        if workers > 1:
            run_cells(self.folder, cells, workers)
        else:
            for cell in cells:
                self.run_cell(cell)
        return self.results()

    def run_cell(self, cell: Cell) -> VictimRow:
        """Train one cell, or read what it found earlier.

        Raises:
            InputError: when there is no such data, victim, recipe or countermeasure.
        """
        if cell.data not in self.sources:
            raise InputError(f"unknown data {cell.data!r}; known are {', '.join(self.sources)}")
        path = self._path(cell)
        if path.is_file() and not (known := self._read(path, cell)).status.startswith("failed"):
            return known  # a failure may have causes that are gone by now
        source = self.sources[cell.data]
        row, pictures = train_cell(self.bench, cell, source)
        gc.collect()  # engines hold their data in reference cycles
        logger.info("%s: %s %.1f", cell.command(self.folder), row.metric, row.score)
        if pictures is not None:
            write_atomic(path.with_suffix(".npz"), pictures)
        write_json(path, dataclasses.asdict(row))
        return self._read(path, cell)

    def pictures_of(self, cell: Cell) -> Path | None:
        """The file with a test image, its label and what the cell's victim said, if there is one."""
        path = self._path(cell).with_suffix(".npz")
        return path if path.is_file() else None

    def figures(self, source: Source) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """Fidelity of a source, measured once; see :meth:`Source.measure`."""
        key = fingerprint([__version__, source.digest, self.originals.digest, repr(source.window)])
        path = self.folder / "figures" / f"{key[:16]}.json"
        if not path.is_file():
            write_json(path, source.measure(self.originals))
        figures, regions = json.loads(path.read_text(encoding="utf-8"))
        return figures, regions

    def measure(self, sources: Iterable[Source]) -> dict[str, tuple[dict[str, float], dict[str, dict[str, float]]]]:
        """:meth:`figures` of those that are not the originals, by name."""
        return {source.name: self.figures(source) for source in sources if source.role != CLEAN}

    def results(self) -> Results:
        """Everything that is known now; cells that were not trained yet are left out."""
        rows = [self._read(path, cell) for cell in self.cells() if (path := self._path(cell)).is_file()]
        measured = self.measure(self.sources.values())
        names = [source.method for source in self.sources.values() if source.role not in (CLEAN, RANDOM)]
        rows = [_with_figures(row, measured.get(row.data, ({}, {}))[0]) for row in rows]
        dataset = Path(self.matrix.dataset_dir).name
        method = ", ".join(dict.fromkeys(names)) or "none"
        return Results(
            title=f"{method} on {dataset}",
            method=method,
            dataset=dataset,
            figures={name: figures for name, (figures, _) in measured.items()},
            regions={name: regions for name, (_, regions) in measured.items() if regions},
            authorized=self._authorized(),
            detectors=self._detectors(),
            rows=rows,
            settings=self._settings(),
        )

    def _authorized(self) -> list[dict[str, Any]]:
        published = self._published()
        if not (self.matrix.authorized and published):
            return []
        folder = self.folder / "authorized"
        found = [authorized_scores(self.bench, victim, published, folder) for victim in self.matrix.victims]
        return [entry for by_source in zip(*found, strict=True) for entry in by_source]

    def _detectors(self) -> dict[str, dict[str, list[float]]]:
        if not self.matrix.detectors:
            return {}
        return {source.name: detect(self.bench, source, self.folder / "detectors") for source in self._published()}

    def _published(self) -> list[Source]:
        return [source for source in self.sources.values() if source.role == PROTECTED]

    def _settings(self) -> dict[str, Any]:
        kept = dataclasses.asdict(self.matrix)
        for name in ("dataset_dir", "protected", "datalist", "test_dir", "catalog", "weights", "key"):
            kept.pop(name)  # paths of the machine are no part of what is reported
        kept["size"] = list(self.bench.size)
        counts = {"training cases": len(self.originals.cases), "test cases": len(self.test)}
        return {**json.loads(json.dumps(kept)), **counts}

    def _path(self, cell: Cell) -> Path:
        key = self.bench.key(cell, self.sources[cell.data])
        return self.folder / "cells" / f"{key[:24]}.json"

    def _read(self, path: Path, cell: Cell) -> VictimRow:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            row = VictimRow.from_dict(content)
        except (OSError, ValueError, KeyError, TypeError, UnlearnableError) as error:
            raise InputError(
                f"the cell cannot be read; delete the file to train it again: {error}", file=path
            ) from error
        source = self.sources[cell.data]
        return dataclasses.replace(
            row, data=cell.data, training=source.role, method=source.method, command=cell.command(self.folder)
        )


def _with_figures(row: VictimRow, figures: dict[str, float]) -> VictimRow:
    psnr, ssim, ssim_roi = (figures.get(name) for name in ("psnr", "ssim", "ssim_roi"))
    return dataclasses.replace(row, psnr=psnr, ssim=ssim, ssim_roi=ssim_roi)

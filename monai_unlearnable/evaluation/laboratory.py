# SPDX-License-Identifier: Apache-2.0
"""The laboratory: what models learn from protected data, over victims, recipes and countermeasures."""

from __future__ import annotations

import dataclasses
import datetime
import gc
import json
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch

from monai_unlearnable import __version__
from monai_unlearnable.errors import InputError, OutOfMemoryError, UnlearnableError
from monai_unlearnable.evaluation.bench import OWN_SCANS, Bench
from monai_unlearnable.evaluation.matrix import Matrix, Published, Run
from monai_unlearnable.evaluation.runs import authorized_scores, detect, kept, reason_of, train_run
from monai_unlearnable.evaluation.sources import Measured, Source, published_source
from monai_unlearnable.report import Results, VictimRow
from monai_unlearnable.report.rows import CLEAN, FAILED, OWN_RECIPE, PROTECTED
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.utils.files import fingerprint, write_atomic, write_json
from monai_unlearnable.utils.progress import Stage, hush_monai, track
from monai_unlearnable.utils.text import alternatives
from monai_unlearnable.utils.values import check_whole, check_wholes
from monai_unlearnable.victims.external import ENVIRONMENT

__all__ = ["RUNS", "Laboratory", "check_part"]

logger = logging.getLogger(__name__)

Found = TypeVar("Found")
RUNS, EARLIER_RUNS = "runs", "cells"  # where trainings are kept, and where earlier laboratories kept them
EXTERNAL = "nnunet"  # where other programs work


class Laboratory:
    """Trains every run of a matrix once and keeps the results; one that was stopped goes on where it stopped.

    It reads only folders, so that data protected by any other code can be examined. Manifests, keys and controls are
    left to :mod:`monai_unlearnable.proof`.

    Args:
        matrix: settings, and the runs that follow from them.
        folder: folder for ``laboratory.json``, ``runs/``, ``figures/``, ``authorized/``, ``detectors/``, ``nnunet/``.

    Example:
        >>> matrix = Matrix.of(dataset_dir="ORIGINALS", protected={"umed": "OUT/protected"}, victims=["UNet"])
        >>> print(Laboratory(matrix, "LAB").run().verdict())
    """

    def __init__(self, matrix: Matrix, folder: str | Path) -> None:
        if matrix.countermeasures == ("all",):
            names = Catalog.load("countermeasures", matrix.catalog).names()
            matrix = dataclasses.replace(matrix, countermeasures=tuple(names))
        self.bench = Bench(matrix)
        if not (matrix.networks and matrix.recipes):
            matrix = self.bench.matrix = matrix.completed(self.bench.usual_victim)
        self.matrix, self.folder = matrix, Path(folder)

    @classmethod
    def open(cls, folder: str | Path) -> Laboratory:
        """The laboratory of an earlier call.

        Raises:
            InputError: naming the file, when there is none.
        """
        return cls(Matrix.load(Path(folder)), folder)

    def extended(self, name: str, data: Published) -> Laboratory:
        """The laboratory with further published data; the originals are not read again."""
        matrix = dataclasses.replace(self.matrix, protected={**self.matrix.protected, name: data})
        laboratory = Laboratory(matrix, self.folder)
        laboratory.bench = self.bench
        return laboratory

    @cached_property
    def sources(self) -> dict[str, Source]:
        """All training data by name, the originals first."""
        originals = self.bench.originals
        found = [published_source(name, data, originals) for name, data in self.matrix.protected.items()]
        return {source.name: source for source in ([originals, *found] if self.matrix.originals else found)}

    def runs(self) -> list[Run]:
        """All runs of the matrix."""
        return list(self.matrix.runs(self.sources))

    def check(self) -> None:
        """Check that everything the runs need is found, before any of them is trained.

        Raises:
            UnlearnableError: naming the first data, test cases, victim, recipe or countermeasure that is missing, or
                does not go with the rest; when a program is missing that all runs need.
        """
        self.bench.check()
        runs = self.runs()
        if not self.matrix.networks:  # else these go on without the others
            for name in dict.fromkeys(run.victim for run in runs if self._known(run) is None):
                self.bench.external(name).check_program()

    def run(self, part: tuple[int, int] = (0, 1), workers: int = 1) -> Results:
        """Train what has not been trained yet.

        Args:
            part: part of the runs: ``(i, n)`` takes every n-th run from the i-th on, for n machines side by side.
            workers: number of processes on this machine, which share its cores.

        Returns:
            All results so far, including those of other parts.

        Raises:
            InputError: when data, victims, recipes or countermeasures are unknown, or there is no such part.
            OutOfMemoryError: when the system ends one of several processes.
        """
        check_part(part, workers)
        self.check()
        self.matrix.save(self.folder)  # after the check: what it refuses leaves the settings of an earlier call
        runs = self.runs()[part[0] :: part[1]]
        runs = [run for run in runs if self._known(run) is None]
        if workers > 1 and runs:
            _train_side_by_side(self.folder, runs, workers)
        else:
            for run in track(runs, "training run"):
                self.train(run)
        return self.results()

    def train(self, run: Run) -> VictimRow:
        """Train one run, or read its earlier result.

        Raises:
            InputError: when there is no such data, victim, recipe or countermeasure.
        """
        if run.data not in self.sources:
            raise InputError(f"unknown data {run.data!r}{alternatives(run.data, self.sources)}")
        if (known := self._known(run)) is not None:
            return known
        path = self._path(run)
        row, pictures = train_run(self.bench, run, self.sources[run.data], self.folder / EXTERNAL)
        gc.collect()  # engines hold their data in reference cycles
        logger.info("%s: %s %.1f", run.command(self.folder), row.metric, row.score)
        if pictures is not None:
            write_atomic(path.with_suffix(".npz"), pictures)
        write_json(path, dataclasses.asdict(dataclasses.replace(row, date=_day(time.time()))))
        return self._read(path, run)

    def _known(self, run: Run) -> VictimRow | None:
        """The earlier result of a run; None of one that failed, whose causes may be gone by now."""
        path = self._path(run)
        row = self._read(path, run) if path.is_file() else None
        return None if row is None or row.status.startswith(FAILED) else row

    def pictures_of(self, run: Run) -> Path | None:
        """The file with a test image, its label and the victim's prediction in a run, if there is one."""
        path = self._path(run).with_suffix(".npz")
        return path if path.is_file() else None

    def figures(self, source: Source) -> Measured:
        """Fidelity of a source, measured once, see :meth:`Source.measure`; none of the originals."""
        originals = self.bench.originals
        if source.role == CLEAN:
            return Measured({}, {})
        key = fingerprint([__version__, source.digest, originals.digest, repr(source.window)])
        return Measured(*kept(self.folder / "figures" / f"{key[:16]}.json", lambda: source.measure(originals)))

    def results(self) -> Results:
        """All results so far; runs that were not trained yet are omitted."""
        rows = [self._read(path, run) for run in self.runs() if (path := self._path(run)).is_file()]
        self._tell_hidden(rows)
        measured = {name: self.figures(source) for name, source in self.sources.items() if source.role != CLEAN}
        rows = [_with_figures(row, measured[row.data].figures if row.data in measured else {}) for row in rows]
        dataset = Path(self.matrix.dataset_dir).resolve().name
        method = ", ".join(dict.fromkeys(source.method for source in self._published())) or "none"
        return Results(
            title=f"{method} on {dataset}",
            method=method,
            dataset=dataset,
            figures={name: found.figures for name, found in measured.items()},
            regions={name: found.regions for name, found in measured.items() if found.regions},
            scans={name: found.scans for name, found in measured.items() if found.scans},
            authorized=self._authorized(),
            detectors=self._detectors(),
            rows=rows,
            settings=self._settings(),
        )

    def _authorized(self) -> list[dict[str, Any]]:
        published, folder = self._published(), self.folder / "authorized"
        if not (self.matrix.authorized and published):
            return []
        found = [
            _or_none(f"an authorized {victim}", authorized_scores, self.bench, victim, published, folder)
            for victim in self.matrix.networks
        ]
        return [entry for by_source in zip(*filter(None, found), strict=True) for entry in by_source]

    def _detectors(self) -> dict[str, dict[str, list[float]]]:
        sources, folder = self._published() if self.matrix.detectors else [], self.folder / "detectors"
        found = {s.name: _or_none(f"detectors of {s.name}", detect, self.bench, s, folder) for s in sources}
        return {name: areas for name, areas in found.items() if areas}

    def _published(self) -> list[Source]:
        return [source for source in self.sources.values() if source.role == PROTECTED]

    def _settings(self) -> dict[str, Any]:
        kept = dataclasses.asdict(self.matrix)
        paths = ("dataset_dir", "protected", "datalist", "test_dir", "catalog", "weights", *OWN_SCANS)
        for name in paths:
            kept.pop(name)  # paths of this machine do not belong in the report
        if not kept["omitted"]:
            kept.pop("omitted")
        kept["size"] = list(self.bench.size)
        sizes = {name: list(self.bench.recipe(name).size) for name in self.matrix.recipes}
        if others := {name: size for name, size in sizes.items() if size != kept["size"]}:
            kept["sizes"] = others  # of recipes that have a size of their own
        if brought := self.bench.brought():
            kept["brought_sha256"] = brought
        counts = {"training cases": len(self.bench.originals.cases), "test cases": len(self.bench.test)}
        known = {"dataset_sha256": self.bench.originals.digest, "version": __version__}
        return {**json.loads(json.dumps(kept)), **counts, **known}

    def _path(self, run: Run) -> Path:
        """The file of a run. One of another program is found whatever version trained it."""
        source = self.sources[run.data]
        if run.recipe == OWN_RECIPE:
            for version in sorted({row.program_version for row in self._external_rows.values()}):
                path = self._file(self.bench.key(run, source, version))
                if path in self._external_rows:
                    return path
        return self._file(self.bench.key(run, source))

    def _file(self, key: str) -> Path:
        name = f"{key[:24]}.json"
        earlier = self.folder / EARLIER_RUNS / name
        return earlier if earlier.is_file() else self.folder / RUNS / name

    @cached_property
    def _external_rows(self) -> dict[Path, VictimRow]:
        """The runs by other programs that were finished when this was first asked, by file."""
        rows = {}
        for path in (path for name in (RUNS, EARLIER_RUNS) for path in (self.folder / name).glob("*.json")):
            with suppress(OSError, ValueError, KeyError, TypeError):  # told where a run asks for the file
                row = VictimRow.from_dict(json.loads(path.read_text(encoding="utf-8")))
                if row.recipe == OWN_RECIPE and not row.status.startswith(FAILED):
                    rows[path] = row
        return rows

    def _tell_hidden(self, shown: Sequence[VictimRow]) -> None:
        """Say how many finished runs by other programs have a name in the matrix, but are none of its results."""
        finished = {_named(row) for row in shown if not row.status.startswith(FAILED)}
        missing = {_named(run) for run in self.runs() if run.recipe == OWN_RECIPE} - finished
        rows = [row for row in self._external_rows.values() if _named(row) in missing]
        hidden = [row for row in rows if row.iterations == self.matrix.iterations]
        if hidden:
            versions = " or ".join(sorted({row.program_version for row in hidden if row.program_version}))
            words = "%d run(s) of nnU-Net%s are not shown: other data or settings, or a version that %s does not name"
            logger.warning(words, len(hidden), f" {versions}" if versions else "", ENVIRONMENT)

    def _read(self, path: Path, run: Run) -> VictimRow:
        try:
            row = VictimRow.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, UnlearnableError) as error:
            raise InputError(f"the run cannot be read; delete it to train it again: {error}", file=path) from error
        source, command = self.sources[run.data], run.command(self.folder)
        date = row.date or _day(path.stat().st_mtime)
        return dataclasses.replace(
            row, data=run.data, training=source.role, method=source.method, command=command, date=date
        )


def check_part(part: Sequence[int], workers: int) -> None:
    """Check a part of the runs, and the number of processes that train it.

    Raises:
        InputError: when there is no such part, or no process.
    """
    check_whole("workers", workers, 1)
    check_wholes("part", part, 0)
    if len(part) != 2 or part[0] >= part[1]:
        raise InputError(f"part is {list(part)}; give [i, n] with i from 0 to n - 1")


def _day(seconds: float) -> str:
    """The day of a moment since the epoch, ISO 8601, in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).date().isoformat()


def _named(run: Run | VictimRow) -> tuple[str, str, str, int]:
    """What tells the runs of other programs apart in a matrix."""
    return run.data, run.victim, run.countermeasure, run.seed


def _with_figures(row: VictimRow, figures: dict[str, float]) -> VictimRow:
    psnr, ssim, ssim_roi = (figures.get(name) for name in ("psnr", "ssim", "ssim_roi"))
    return dataclasses.replace(row, psnr=psnr, ssim=ssim, ssim_roi=ssim_roi)


def _or_none(what: str, check: Callable[..., Found], *arguments: Any) -> Found | None:
    """The result of a check. One that is impossible, for example with too few cases, does not stop the rest."""
    try:
        return check(*arguments)
    except Exception as error:  # as of trainings
        logger.warning("%s: not examined: %s", what, reason_of(error))
        return None


def _train_side_by_side(folder: Path, runs: Sequence[Run], workers: int) -> None:
    """Train runs and measure their data in several processes, which share the cores.

    Each reads the settings that a laboratory saved in the folder, needs no key, and keeps its results there.

    Raises:
        OutOfMemoryError: when the system ends one of them.
    """
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin, (threads,)) as pool:
        trainings = [pool.submit(_train, str(folder), run) for run in runs]
        jobs = trainings + [
            pool.submit(_measure, str(folder), name) for name in dict.fromkeys(run.data for run in runs)
        ]
        try:
            with Stage("training run", len(runs)) as stage:
                for done in as_completed(jobs):
                    done.result()
                    stage.advance(done in trainings)
        except UnlearnableError:  # such as a full disk: what has not begun would fail too
            pool.shutdown(cancel_futures=True)
            raise
        except BrokenProcessPool as error:
            reason = "a process that trains was ended by the system; out of memory? Give fewer workers"
            raise OutOfMemoryError(reason) from error
        except KeyboardInterrupt:  # or the pool would wait for the trainings that have begun
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _begin(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the first one ends the others
    torch.set_num_threads(threads)
    hush_monai()


def _train(folder: str, run: Run) -> None:
    _opened(folder).train(run)


def _measure(folder: str, name: str) -> None:
    laboratory = _opened(folder)
    laboratory.figures(laboratory.sources[name])


@lru_cache(maxsize=1)
def _opened(folder: str) -> Laboratory:
    return Laboratory.open(folder)

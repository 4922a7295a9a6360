# SPDX-License-Identifier: Apache-2.0
"""The method that chooses itself: methods tried on the owner's own data, and the best of them confirmed.

It protects the data with several methods, all as strongly as the fidelity that the owner asks for allows, and trains
the exploiter's models on each: short trainings first, longer ones on those that leave him least (successive halving;
Jamieson and Talwalkar, AISTATS 2016). Since protection may be learned late, the first trainings are not much shorter
than the last: each round is twice as long as the one before, and half of the methods go on.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from monai_unlearnable.budget import Budget
from monai_unlearnable.crypto import Key, load_key
from monai_unlearnable.data import Case, load_cases, read_case
from monai_unlearnable.errors import GoalError, InputError, UnlearnableError, told
from monai_unlearnable.evaluation.laboratory import Laboratory
from monai_unlearnable.evaluation.matrix import LENGTHS
from monai_unlearnable.evaluation.reporting import write_laboratory_report
from monai_unlearnable.intensity import AutoWindow
from monai_unlearnable.metrics import noise_level
from monai_unlearnable.metrics.judgement import HALF
from monai_unlearnable.noise import Manifest
from monai_unlearnable.perturbers import SymmetricLattice
from monai_unlearnable.proof import prepare_laboratory
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.publication import Publication
from monai_unlearnable.publishing.run import protect
from monai_unlearnable.report import Results
from monai_unlearnable.report.rows import CLEAN
from monai_unlearnable.report.summaries import Matrix as Compared
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.utils.files import write_json
from monai_unlearnable.utils.values import check_number

__all__ = ["METHODS", "Candidate", "Choice", "protect_auto"]

METHODS = {
    True: ("carrier", "umed", "lattice", "voxshield", "foresight"),
    False: ("carrier", "lsp", "lattice", "linear", "error_minimizing_class"),
}  # that are tried: for segmentation, and for classification
LARGEST = 64 / 255  # epsilon above which scans are no longer what they were, whatever the PSNR
SAMPLED = 8  # scans that PSNR is measured on, before anything is protected
TIMED = 50  # iterations of the training by which time is estimated
UNSEEN = "unseen"  # in place of a PSNR

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A method at an epsilon, and its trial output.

    Args:
        method: name of the method.
        epsilon: largest change of a voxel, in normalized intensity.
        folder: folder of the output.
    """

    method: str
    epsilon: float
    folder: Path

    @property
    def name(self) -> str:
        """What tables call it: ``"carrier 8.3/255"``."""
        return f"{self.method} {255 * self.epsilon:.3g}/255"


@dataclass(frozen=True)
class Round:
    """What one round of trainings found.

    Args:
        iterations: length of its trainings.
        left: for each candidate the fraction of what the originals teach that it leaves to the exploiter, of several
            pipelines to the one that is left most.
    """

    iterations: int
    left: dict[str, float]


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Args:
        best: the method that leaves least.
        rounds: what each round of trainings found, the last one at full length.
        failed: reason by name of each method that cannot protect these data.
        page: page of the report on the last round.
        manifest: manifest of the published output; None where nothing was published.
    """

    best: Candidate
    rounds: tuple[Round, ...]
    failed: Mapping[str, str]
    page: Path
    manifest: Manifest | None = None

    @property
    def left(self) -> float:
        """Fraction of what the originals teach that is left to the exploiter."""
        return self.rounds[-1].left[self.best.name]


def protect_auto(
    dataset_dir: str | Path,
    output_dir: str | Path,
    *,
    stop: str | Sequence[str] = "patches",
    psnr: float | str = 40.0,
    minutes: float | None = None,
    methods: Sequence[str] | None = None,
    length: str = "standard",
    iterations: int | None = None,
    key: str | Path | Key | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> Choice:
    """Protect a dataset with the method that stops an exploiter, or say that none does.

    A call that was stopped goes on where it stopped: trials and trainings are kept in ``auto/`` of the output.

    Args:
        dataset_dir: the clean dataset, with a test set; see ``test_dir`` below.
        output_dir: folder of the output.
        stop: the pipelines of the exploiter: names of recipes, or of victims that other programs train.
        psnr: how good the scans must stay, in dB, mean over the scans; ``"unseen"`` for an epsilon of no more than the
            noise that the scans have by themselves, see :func:`~monai_unlearnable.metrics.fidelity.noise_level`.
        minutes: how long all trainings together may take; the last ones are shortened to fit. By default as long as
            they take.
        methods: names of the methods to try; by default those that fit the task.
        length: length of the last trainings: ``"short"``, ``"standard"`` or ``"long"``.
        iterations: length of the last trainings, where none of these is meant.
        key: the owner's key or its file.
        overwrite: whether a finished output may be replaced.
        **settings: ``datalist``, and settings of the laboratory such as ``test_dir``, ``victims``, ``width``, ``size``.

    Returns:
        What was chosen, with the manifest of the published output.

    Raises:
        GoalError: with the figures, when no method reaches the goal; then nothing is published.
        InputError: when a setting or name is unknown, test cases are missing, or the time does not suffice even for
            short trainings.

    Example:
        >>> protect_auto("DATASET", "OUT", stop="patches", psnr=43, minutes=120, test_dir="TEST")
    """
    trials = _Trials(Path(dataset_dir), Path(output_dir), stop, load_key(key), settings)
    trials.prepare()
    last = iterations or _length(length)
    choice = trials.choose(trials.protect(methods, psnr), last, minutes)
    write_json(trials.work / "choice.json", _record(choice))
    if not choice.left <= HALF:
        raise GoalError(f"{_sentence(choice, trials.stop)}; nothing was published. Lower psnr, or rely on other means")
    logger.info("%s", _sentence(choice, trials.stop))
    shared = {"datalist": settings.get("datalist"), "overwrite": overwrite, **({"key": trials.key} if key else {})}
    manifest = protect(choice.best.method, dataset_dir, output_dir, epsilon=choice.best.epsilon, **shared)
    return Choice(choice.best, choice.rounds, choice.failed, choice.page, manifest)


def _length(name: str) -> int:
    if name not in LENGTHS:
        raise InputError(f"unknown length {name!r}; known are {', '.join(LENGTHS)}")
    return LENGTHS[name]


def _record(choice: Choice) -> dict[str, Any]:
    """What is kept of a choice, without paths."""
    return {
        "method": choice.best.method,
        "epsilon": choice.best.epsilon,
        "rounds": [asdict(found) for found in choice.rounds],
        "failed": dict(choice.failed),
    }


def _sentence(choice: Choice, stop: Sequence[str]) -> str:
    found = choice.rounds[-1]
    figures = ", ".join(f"{name} {100 * left:.0f}%" for name, left in found.left.items())
    verb = "stops" if choice.left <= HALF else "comes nearest to stopping"
    length = f"{found.iterations:,} iterations"
    return f"{choice.best.name} {verb} {', '.join(stop)}; left of what originals teach: {figures} ({length})"


@dataclass
class _Trials:
    """Trial outputs and trainings of one dataset."""

    dataset_dir: Path
    output_dir: Path
    stop: str | Sequence[str]
    key: Key | None
    settings: dict[str, Any]
    failed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stop = tuple(self.stop.split(",") if isinstance(self.stop, str) else self.stop)
        self.work = self.output_dir / "auto"

    @cached_property
    def cases(self) -> list[Case]:
        """The cases to protect."""
        return load_cases(self.dataset_dir, self.settings.get("datalist"))

    def laboratory(self, candidates: Sequence[Candidate], iterations: int, control: bool = False) -> Laboratory:
        """The exploiter's trainings on the originals and on candidates."""
        external = Catalog.load("external", self.settings.get("catalog")).names()
        recipes = [name for name in self.stop if name not in external]
        victims = [*self.settings.get("victims", ()), *(name for name in self.stop if name in external)]
        chosen = {**self.settings, "victims": victims, "recipes": recipes, "iterations": iterations}
        outputs = {candidate.name: candidate.folder for candidate in candidates}
        shared = {"authorized": False, "detectors": False, "control": control, "key": self.key}
        return prepare_laboratory(self.dataset_dir, self.work / "laboratory", outputs, **{**shared, **chosen})

    def prepare(self) -> None:
        """Refuse unknown names and missing test cases before anything is made."""
        self.laboratory([], TIMED)

    def protect(self, methods: Sequence[str] | None, psnr: float | str) -> list[Candidate]:
        """Protect the dataset with each method, as strongly as the fidelity allows.

        Raises:
            InputError: when none of the methods can protect the dataset, with the reason of each.
        """
        is_segmentation = any(case.label for case in self.cases)
        epsilon = min(LARGEST, self._epsilon(psnr))
        found = []
        for method in methods or METHODS[is_segmentation]:
            candidate = Candidate(method, epsilon, self.work / "data" / method.replace("/", "_"))
            try:
                self._make(candidate)
            except UnlearnableError as error:
                self.failed[method] = told(error)
                logger.warning("%s is not tried: %s", method, told(error))
            else:
                found.append(candidate)
        if not found:
            raise InputError(f"no method can protect these data. {'. '.join(self.failed.values())}")
        return found

    def _epsilon(self, psnr: float | str) -> float:
        """The epsilon at which noise that uses all of it everywhere has a PSNR, by a sample of the scans."""
        sample, tried = self.cases[:: -(-len(self.cases) // SAMPLED)], 8 / 255
        if psnr == UNSEEN:
            images = [channel for case in sample for channel in read_case(case, AutoWindow()).image]
            return median(map(noise_level, images))
        check_number("psnr", psnr)
        with TemporaryDirectory() as folder:
            noise = SymmetricLattice(tried)
            entries = Publication(sample, noise, Path(folder), AutoWindow(), Budget(tried)).run().scans
        measured = sum(entry.measured["psnr"] for entry in entries) / len(entries)
        return float(tried * 10 ** ((measured - float(psnr)) / 20))

    def _make(self, candidate: Candidate) -> None:
        layout = Layout(candidate.folder)
        known = Manifest.load(layout.manifest, self.key) if layout.records else None
        if known is not None and math.isclose(known.scans[0].budget.epsilon, candidate.epsilon):
            return
        shared = {"datalist": self.settings.get("datalist"), **({} if self.key is None else {"key": self.key})}
        again = {"epsilon": candidate.epsilon, "overwrite": known is not None}
        protect(candidate.method, self.dataset_dir, candidate.folder, **again, **shared)

    def choose(self, candidates: Sequence[Candidate], iterations: int, minutes: float | None) -> Choice:
        """Train on all candidates, longer on those that leave least."""
        iterations = self._affordable(len(candidates), iterations, minutes)
        rounds = []
        for steps in _lengths(len(candidates), iterations):
            is_last = steps == iterations
            laboratory = self.laboratory(candidates, steps, control=is_last)
            results = laboratory.run()
            left = self._left(results, candidates)
            rounds.append(Round(steps, left))
            candidates = sorted(candidates, key=lambda candidate: left[candidate.name])
            candidates = candidates if is_last else candidates[: -(-len(candidates) // 2)]
        page = write_laboratory_report(laboratory, results, self.output_dir / "report", 2)
        return Choice(candidates[0], tuple(rounds), self.failed, page)

    def _left(self, results: Results, candidates: Sequence[Candidate]) -> dict[str, float]:
        compared = Compared(results.summaries())
        left = {candidate.name: -math.inf for candidate in candidates}
        for summary in compared.summaries:
            if summary.data in left:
                fraction = compared.fraction(summary)
                left[summary.data] = max(left[summary.data], math.inf if math.isnan(fraction) else fraction)
        return left

    def _affordable(self, count: int, iterations: int, minutes: float | None) -> int:
        """The length of the last trainings that time allows.

        Raises:
            InputError: when not even short ones fit.
        """
        laboratory = self.laboratory([], TIMED)
        laboratory.matrix.save(laboratory.folder)
        seconds = sum(laboratory.train(run).seconds for run in laboratory.runs() if run.data == CLEAN) / TIMED
        whole = seconds * _steps(count, iterations) / 60
        logger.info("about %.0f minutes of training: %d methods, up to %d iterations", whole, count, iterations)
        if minutes is None or whole <= minutes:
            return iterations
        shorter = int(iterations * minutes / whole)
        if shorter < LENGTHS["short"]:
            needed = seconds * _steps(count, LENGTHS["short"]) / 60
            reason = (
                f"trainings of {LENGTHS['short']} iterations take about {needed:.0f} minutes, {minutes:g} are given"
            )
            raise InputError(f"{reason}; give more, or name fewer methods", value=minutes, limit=needed)
        logger.warning("the last trainings have %d iterations instead of %d, for the time given", shorter, iterations)
        return shorter


def _lengths(count: int, iterations: int) -> list[int]:
    """The length of each round, for a number of candidates."""
    rounds = max(0, math.ceil(math.log2(count)) - 1)
    return [iterations // 2**earlier for earlier in range(rounds, -1, -1)]


def _steps(count: int, iterations: int) -> int:
    """Iterations of all trainings together: candidates and originals in each round, the control in the last."""
    total = iterations
    for steps in _lengths(count, iterations):
        total += (count + 1) * steps
        count = -(-count // 2)
    return total

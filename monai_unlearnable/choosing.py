# SPDX-License-Identifier: Apache-2.0
"""The method that chooses itself: methods tried on the owner's own data, and the best of them confirmed.

It protects the data with several methods at the epsilon that the wanted fidelity allows, and trains the exploiter's
models on each: first half as long as asked for, then in full on the two that leave least (successive halving;
Jamieson and Talwalkar, AISTATS 2016). The first round is not shorter, because protection may be learned late.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from monai_unlearnable.budget import Budget
from monai_unlearnable.crypto import Key, load_key
from monai_unlearnable.crypto.encrypted import place
from monai_unlearnable.data import Case, LabelGeometry, load_cases, read_case
from monai_unlearnable.errors import FailedTrainingsError, GoalError, InputError, UnlearnableError, told
from monai_unlearnable.evaluation.laboratory import Laboratory
from monai_unlearnable.evaluation.matrix import LENGTHS, Matrix, listed, training_length
from monai_unlearnable.evaluation.reporting import write_laboratory_report
from monai_unlearnable.evaluation.sources import digest_cases
from monai_unlearnable.intensity import AutoWindow
from monai_unlearnable.metrics import noise_level
from monai_unlearnable.metrics.judgement import POOR, STOPPED
from monai_unlearnable.noise import Manifest
from monai_unlearnable.perturbers import SymmetricLattice
from monai_unlearnable.proof import prepare_laboratory
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.places import check_output
from monai_unlearnable.publishing.publication import Publication
from monai_unlearnable.publishing.run import apply, bundle_root, method_names, protect
from monai_unlearnable.report import Results, summaries
from monai_unlearnable.report.rows import CLEAN
from monai_unlearnable.utils import distributed
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.utils.config import build
from monai_unlearnable.utils.files import fingerprint, write_atomic, write_json
from monai_unlearnable.utils.values import check_number, check_whole

__all__ = ["METHODS", "Candidate", "Choice", "Round", "protect_auto"]

METHODS = {
    True: ("carrier", "umed", "lattice", "voxshield", "foresight"),
    False: ("carrier", "lsp", "lattice", "linear", "error_minimizing_class"),
}  # that are tried: for segmentation, and for classification
OWNERS = ("window", "label_values", "label_geometry", "skip_invalid", "seed")  # settings of protection
DECIDED = ("protected", "originals", "recipes", "control", "seeds")  # settings of the laboratory that are none here
GRIDS = {
    "monai": "median",
    "nnunet": "nnunet",
    "nnunetv2": "nnunet",
    "nnunetv2_noda": "nnunet",
}  # planned for, by pipeline
STRONGEST = 64 / 255  # epsilon above which scans are no longer what they were, whatever the PSNR
SAMPLED = 8  # scans that PSNR is measured on, before anything is protected
TOLERANCE = 0.5  # dB by which a trial may miss the PSNR that was asked for
TIMED = (50, 100)  # iterations of the trainings by which time is estimated
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
        left: fraction of what the originals teach that is left to the exploiter, by candidate; of several pipelines
            the largest.
        judgements: what the candidate does to the exploiter, ``"stopped"`` where it stops all pipelines.
    """

    iterations: int
    left: dict[str, float]
    judgements: dict[str, str]


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Args:
        best: the method that leaves least.
        rounds: findings of each round, the last one at full length.
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

    @property
    def stops(self) -> bool:
        """Whether it stops the exploiter."""
        return self.rounds[-1].judgements[self.best.name] == STOPPED

    def sentence(self) -> str:
        """The figures of the last round in a sentence."""
        found = self.rounds[-1]
        figures = ", ".join(f"{name} {100 * left:.0f}%" for name, left in found.left.items())
        verb = "stops the exploiter" if self.stops else "comes nearest to stopping the exploiter"
        return f"{self.best.name} {verb}; left of what originals teach after {found.iterations:,} iterations: {figures}"


def protect_auto(
    dataset_dir: str | Path,
    output_dir: str | Path,
    *,
    stop: str | Sequence[str] = "patches",
    psnr: float | str = 40.0,
    minutes: float | None = None,
    methods: str | Sequence[str] | None = None,
    length: str | None = None,
    iterations: int | None = None,
    key: str | Path | Key | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> Choice:
    """Protect a dataset with the method that stops an exploiter, or say that none does.

    A call that was stopped goes on where it stopped: trials and trainings are kept in ``auto/`` of the output.

    Args:
        dataset_dir: folder of the clean dataset. A test set is needed, see ``test_dir`` of the laboratory.
        output_dir: folder of the output.
        stop: pipelines of the exploiter: names of recipes, or of victims that other programs train.
        psnr: lowest mean PSNR of the changed scans, in dB; ``"unseen"`` for an epsilon of no more than the noise that
            the sampled scans have by themselves, see :func:`~monai_unlearnable.metrics.fidelity.noise_level`.
        minutes: time limit of all trainings of victims, in minutes; the last ones are shortened to fit.
        methods: names of the methods to try; by default those that fit the task.
        length: length of the last trainings: ``"short"``, ``"standard"`` (the default) or ``"long"``.
        iterations: number of steps of the last trainings, in place of ``length``.
        key: the owner's key or its file.
        overwrite: whether a finished output may be replaced.
        **settings: ``window``, ``label_values``, ``label_geometry``, ``skip_invalid`` and ``seed`` of the protection;
            ``datalist`` and ``device``; and settings of the laboratory such as ``test_dir``, ``victims``, ``width``.

    Returns:
        What was chosen, with the manifest of the published output.

    Raises:
        GoalError: with the figures, when no method reaches the goal; then nothing is published.
        FailedTrainingsError: when the exploiter's model cannot be trained, or learns little from the originals.
        InputError: when a setting or name is unknown, test cases are missing, or the time does not suffice.
        OutputError: when the output is complete and may not be replaced.

    Example:
        >>> protect_auto("DATASET", "OUT", stop="patches", psnr=43, minutes=120, test_dir="TEST")
    """
    opened, output = load_key(key), Path(output_dir)
    check_output(output, dataset_dir, (settings.get("datalist"),))
    Layout(output).check(overwrite, opened)
    last, named = _check(psnr, minutes, length, iterations, settings), listed("methods", methods) or ()
    for name in named:
        if name not in method_names() and not Path(name).suffix:
            bundle_root(name)  # tells what is meant
    trials = _Trials(Path(dataset_dir), output, listed("stop", stop) or (), opened, settings)
    if not trials.stop:
        raise InputError("stop names no pipeline")
    tried = named or METHODS[trials.is_segmentation]
    last = trials.affordable(len(tried), last, minutes)
    choice = trials.choose(trials.protect(tried, psnr), last)
    write_json(trials.work / "choice.json", _record(choice))
    if not choice.stops:
        raise GoalError(f"{choice.sentence()}; nothing was published. Lower psnr, or rely on other means")
    logger.info("%s", choice.sentence())
    return dataclasses.replace(choice, manifest=trials.publish(choice.best, overwrite))


def _check(psnr: Any, minutes: Any, length: str | None, iterations: Any, settings: Mapping[str, Any]) -> int:
    """Check settings before any work; returns the length of the last trainings."""
    if distributed.started() > 1:
        raise InputError("auto runs in one process; start it without torchrun")
    if psnr != UNSEEN:
        check_number("psnr", psnr)
    if minutes is not None:
        check_number("minutes", minutes)
    for name in DECIDED:
        if name in settings:
            raise InputError(f"{name} cannot be chosen here; auto decides on it")
    if iterations is None:
        return training_length(length or "standard", None)[1]
    check_whole("iterations", iterations, 2)
    return training_length(length, iterations)[1]


def _record(choice: Choice) -> dict[str, Any]:
    """What is kept of a choice, without paths."""
    rounds = [asdict(found) for found in choice.rounds]
    chosen = {"method": choice.best.method, "epsilon": choice.best.epsilon}
    return {**chosen, "rounds": rounds, "failed": dict(choice.failed)}


@dataclass
class _Trials:
    """Trial outputs and trainings of one dataset.

    Args:
        dataset_dir: folder of the clean dataset.
        output_dir: folder of the output.
        stop: pipelines of the exploiter.
        key: the owner's key.
        settings: settings of protection and of the laboratory.
    """

    dataset_dir: Path
    output_dir: Path
    stop: Sequence[str]
    key: Key | None
    settings: dict[str, Any]
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """The folder of all trials."""
        return self.output_dir / "auto"

    @cached_property
    def cases(self) -> list[Case]:
        """The cases to protect."""
        return load_cases(self.dataset_dir, self.settings.get("datalist"))

    @property
    def is_segmentation(self) -> bool:
        """Whether labels are maps, rather than classes of whole images."""
        return any(case.label for case in self.cases)

    @property
    def owners(self) -> dict[str, Any]:
        """The settings of protection."""
        names = (*OWNERS, "datalist", "device")
        given = {name: self.settings[name] for name in names if name in self.settings}
        return given if self.key is None else {**given, "key": self.key}

    def laboratory(
        self, candidates: Sequence[Candidate], iterations: int, control: bool = False, **settings: Any
    ) -> Laboratory:
        """The exploiter's trainings on the originals and on candidates."""
        chosen = {name: value for name, value in {**self.settings, **settings}.items() if name not in OWNERS}
        external = Catalog.load("external", chosen.get("catalog")).names()
        recipes = [name for name in self.stop if name not in external]
        victims = [*(listed("victims", chosen.get("victims")) or ()), *(name for name in self.stop if name in external)]
        chosen |= {"victims": victims, "recipes": recipes, "iterations": iterations}
        chosen = {"authorized": False, "detectors": False, **chosen}
        outputs = {candidate.name: candidate.folder for candidate in candidates}
        folder = self.work / "laboratory"
        return prepare_laboratory(self.dataset_dir, folder, outputs, control=control, key=self.key, **chosen)

    def affordable(self, count: int, iterations: int, minutes: float | None) -> int:
        """The length of the last trainings that time allows, by two short ones on the originals.

        Raises:
            FailedTrainingsError: with the reason, when the exploiter's model cannot be trained.
            InputError: when not even short ones fit.
        """
        fixed, step = self._seconds()
        looks = self.settings.get("num_validations", Matrix.num_validations)

        def expected(steps: int) -> float:
            return sum(looks * fixed + own * step for own in _trainings(count, steps)) / 60

        logger.info(
            "%d methods, %d iterations: about %.0f minutes of training", count, iterations, expected(iterations)
        )
        if minutes is None or expected(iterations) <= minutes:
            return iterations
        least = min(LENGTHS["short"], iterations)
        if expected(least) > minutes:
            reason = f"trainings of {least} iterations take about {expected(least):.0f} minutes, {minutes:g} are given"
            raise InputError(f"{reason}; give more, or name fewer methods", value=minutes, limit=expected(least))
        spare = (minutes - expected(least)) / (expected(iterations) - expected(least))
        shorter = int(least + spare * (iterations - least))
        logger.info("for the time given, the last trainings have %d iterations", shorter)
        return shorter

    def _seconds(self) -> tuple[float, float]:
        """Seconds of a training and scoring without steps, and of a step, of all pipelines together."""
        found = []
        for steps in TIMED:
            laboratory = self.laboratory([], steps, num_validations=1)
            laboratory.matrix.save(laboratory.folder)
            rows = [laboratory.train(run) for run in laboratory.runs() if run.data == CLEAN]
            failures = [row.status for row in rows if not row.done]
            if failures:
                raise FailedTrainingsError(f"the exploiter's model cannot be trained on the originals: {failures[0]}")
            found.append(sum(row.seconds for row in rows))
        step = max(found[1] - found[0], 0.0) / (TIMED[1] - TIMED[0])
        return max(found[0] - TIMED[0] * step, 0.0), step

    def protect(self, methods: Sequence[str], psnr: float | str) -> list[Candidate]:
        """Protect the dataset with each method, at the epsilon that the fidelity allows.

        Raises:
            InputError: when none of the methods can protect the dataset, with the reason of each.
        """
        epsilon = min(STRONGEST, self.epsilon(psnr))
        found = []
        for method in methods:
            candidate = Candidate(method, epsilon, self.work / "data" / method.replace("/", "_"))
            try:
                self._make(candidate)
                self._check_fidelity(candidate, psnr)
            except UnlearnableError as error:
                self.failed[method] = told(error)
                logger.warning("%s is not tried: %s", method, told(error))
            else:
                found.append(candidate)
        if not found:
            reasons = " ".join(f"{name}: {reason}." for name, reason in self.failed.items())
            raise InputError(f"no method can protect these data. {reasons}")
        return found

    def epsilon(self, psnr: float | str) -> float:
        """The epsilon at which noise that uses all of it has a PSNR, by a sample of the scans.

        Raises:
            InputError: when no scan of the sample would change, or has noise of its own.
        """
        sample = self.cases[:: -(-len(self.cases) // SAMPLED)]
        window = build(self.settings.get("window")) or AutoWindow()
        values, geometry = self.settings.get("label_values"), self.settings.get("label_geometry", LabelGeometry.MATCH)
        if psnr == UNSEEN:
            images = [channel for case in sample for channel in read_case(case, window, values, geometry).image]
            if not (least := min(map(noise_level, images))):
                raise InputError("some scans have no noise of their own that changes could hide in; give psnr in dB")
            return least
        tried = 8 / 255
        self.work.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.work) as folder:
            noise, budget, given = SymmetricLattice(tried), Budget(tried), {"key": self.key, "label_geometry": geometry}
            entries = Publication(sample, noise, Path(folder), window, budget, values, **given).run().scans
        return float(tried * 10 ** ((_mean_psnr(entries) - float(psnr)) / 20))

    def _make(self, candidate: Candidate) -> None:
        """Make a trial output, unless it is there as it would be made."""
        settings = {**self.owners, "epsilon": candidate.epsilon, **self._planned(candidate.method)}
        kind = "" if self.key is None else "encrypted"
        plain = {name: value for name, value in settings.items() if name != "key"}
        made = fingerprint({"cases": digest_cases(self.cases), "settings": repr(plain), "kind": kind}).encode()
        mark = candidate.folder.with_suffix(".made")
        if mark.is_file() and mark.read_bytes() == made and Layout(candidate.folder).records:
            return
        mark.unlink(missing_ok=True)
        protect(candidate.method, self.dataset_dir, candidate.folder, overwrite=True, **settings)
        write_atomic(mark, made)

    def _planned(self, method: str) -> dict[str, Any]:
        """Settings of a method that follow from the pipelines to stop."""
        grids = {GRIDS.get(name, "native") for name in self.stop}
        return {"grid": grids.pop()} if method == "carrier" and len(grids) == 1 else {}

    def _check_fidelity(self, candidate: Candidate, psnr: float | str) -> None:
        if psnr == UNSEEN:
            return
        found = _mean_psnr(Manifest.load(Layout(candidate.folder).manifest, self.key).scans)
        if found < float(psnr) - TOLERANCE:
            raise InputError(f"its PSNR is {found:.1f} dB, below {float(psnr):g}", value=found, limit=float(psnr))

    def choose(self, candidates: Sequence[Candidate], iterations: int) -> Choice:
        """Train on all candidates, and in full on the two that leave least.

        Raises:
            FailedTrainingsError: when models learn too little from the originals to compare with.
        """
        rounds = []
        for steps in _lengths(len(candidates), iterations):
            is_last = steps == iterations
            laboratory = self.laboratory(candidates, steps, control=is_last)
            results = laboratory.run()
            found = self._found(results, candidates, steps)
            rounds.append(found)
            candidates = sorted(candidates, key=lambda candidate: found.left[candidate.name])[:2]
        page = write_laboratory_report(laboratory, results, self.output_dir / "report", 2)
        if POOR in rounds[-1].judgements.values():
            raise FailedTrainingsError("originals teach the exploiter's model too little to compare with; train longer")
        return Choice(candidates[0], tuple(rounds), self.failed, page)

    def _found(self, results: Results, candidates: Sequence[Candidate], iterations: int) -> Round:
        """What is left to the exploiter, of several pipelines to the one that is left most."""
        compared, left, judgements = summaries.Matrix(results.summaries()), {}, {}
        for candidate in candidates:
            own = [summary for summary in compared.summaries if summary.data == candidate.name]
            fractions = [compared.fraction(summary) for summary in own]
            left[candidate.name] = max(
                (math.inf if math.isnan(found) else found for found in fractions), default=math.inf
            )
            judged = {compared.judgement(summary) for summary in own}
            judgements[candidate.name] = STOPPED if judged == {STOPPED} else (judged - {STOPPED}).pop()
        return Round(iterations, left, judgements)

    def publish(self, best: Candidate, overwrite: bool) -> Manifest:
        """Publish the dataset with the noise that was examined.

        Raises:
            UnlearnableError: when the published files are not those that were examined.
        """
        layout, names = Layout(best.folder), ("datalist", "label_geometry", "skip_invalid", "device", "key")
        settings = {name: value for name, value in self.owners.items() if name in names}
        manifest = apply(
            place(layout.checkpoint, self.key), self.dataset_dir, self.output_dir, overwrite=overwrite, **settings
        )
        examined = Manifest.load(layout.manifest, self.key)
        if [entry.protected_sha256 for entry in manifest.scans] != [entry.protected_sha256 for entry in examined.scans]:
            raise UnlearnableError("the published files differ from those that were examined", file=self.output_dir)
        return manifest


def _mean_psnr(entries: Sequence[Any]) -> float:
    """The mean over the scans that changed, in dB."""
    found = [entry.measured["psnr"] for entry in entries if entry.measured["l0"] > 0]
    if not found:
        raise InputError("no voxel of the sampled scans may change, so that no epsilon can be found")
    return sum(found) / len(found)


def _lengths(count: int, iterations: int) -> list[int]:
    """The length of each round, for a number of candidates."""
    return [iterations // 2, iterations] if count > 2 else [iterations]


def _trainings(count: int, iterations: int) -> list[int]:
    """The length of each training of one pipeline: candidates and originals, and a control in the last round."""
    first = [iterations // 2] * (count + 1) if count > 2 else []
    return [*first, *[iterations] * (min(count, 2) + 2)]

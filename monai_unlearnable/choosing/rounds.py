# SPDX-License-Identifier: Apache-2.0
"""Rounds of trainings on trial outputs, longer ones on those that leave an exploiter least."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_unlearnable.choosing.trials import OWNERS, Candidate, Trials
from monai_unlearnable.errors import FailedTrainingsError, InputError
from monai_unlearnable.evaluation.laboratory import Laboratory
from monai_unlearnable.evaluation.matrix import LENGTHS, Matrix, listed
from monai_unlearnable.evaluation.reporting import write_laboratory_report
from monai_unlearnable.metrics.judgement import NOT_STOPPED, POOR, STOPPED, UNKNOWN, WEAKENED
from monai_unlearnable.noise import Manifest
from monai_unlearnable.proof import prepare_laboratory
from monai_unlearnable.report import Results
from monai_unlearnable.report.controlled import ControlledSummaries
from monai_unlearnable.report.rows import CLEAN
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.utils.progress import track
from monai_unlearnable.utils.text import first_few

__all__ = ["Choice", "Round", "Rounds"]

TIMED = (50, 100)  # iterations of the trainings by which time is estimated
SEEDS = 2  # of the last trainings: what is learned late is learned by some of them only
DECIDING = (POOR, UNKNOWN, NOT_STOPPED, WEAKENED, STOPPED)  # of several pipelines the first of these that is found

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Round:
    """What one round of trainings found.

    Args:
        iterations: length of its trainings.
        left: fraction of what the originals teach that is left to the exploiter, by candidate; of several pipelines
            and seeds the largest, infinite where a pipeline is not known.
        judgements: what the candidate does to the exploiter, ``"stopped"`` where it stops all pipelines.
    """

    iterations: int
    left: dict[str, float]
    judgements: dict[str, str]

    def rank(self, candidate: Candidate) -> tuple[bool, float]:
        """What candidates are sorted by: those that stop the exploiter first, then by what is left to him."""
        return self.judgements[candidate.name] != STOPPED, self.left[candidate.name]


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
        figures = ", ".join(f"{name} {_percent(left)}" for name, left in found.left.items())
        verb = "stops the exploiter" if self.stops else "comes nearest to stopping the exploiter"
        return f"{self.best.name} {verb}; left of what originals teach after {found.iterations:,} iterations: {figures}"


@dataclass
class Rounds:
    """The exploiter's trainings on trial outputs, in ``auto/laboratory/`` of the output.

    Args:
        trials: the trial outputs, and the settings, those of the laboratory among them.
    """

    trials: Trials

    def laboratory(
        self, candidates: Sequence[Candidate], iterations: int, control: bool = False, **settings: Any
    ) -> Laboratory:
        """The exploiter's trainings on the originals and on candidates."""
        chosen = {name: value for name, value in {**self.trials.settings, **settings}.items() if name not in OWNERS}
        external = Catalog.load("external", chosen.get("catalog")).names()
        recipes = [name for name in self.trials.stop if name not in external]
        victims = [
            *(listed("victims", chosen.get("victims")) or ()),
            *(name for name in self.trials.stop if name in external),
        ]
        chosen |= {"victims": victims, "recipes": recipes, "iterations": iterations}
        chosen = {"authorized": False, "detectors": False, "omitted": list(self.trials.admitted.reasons), **chosen}
        outputs = {candidate.name: candidate.folder for candidate in candidates}
        folder = self.trials.work / "laboratory"
        return prepare_laboratory(
            self.trials.dataset_dir, folder, outputs, control=control, key=self.trials.key, **chosen
        )

    def division(self) -> str:
        """Which cases are protected, and which stay as they are.

        Raises:
            UnlearnableError: see :func:`~monai_unlearnable.proof.prepare_laboratory`.
        """
        test, own = self.laboratory([], TIMED[0]).bench.test, self.trials.settings.get("test_dir")
        source = "the dataset's section 'test'" if own is None else str(own)
        skipped = self.trials.admitted.reasons
        count = f"{len(self.trials.cases)} cases are protected"
        count += f", {len(skipped)} are skipped ({first_few(skipped)})" if skipped else ""
        return f"{count}; {len(test)} test cases stay as they are, from {source}"

    def affordable(self, count: int, iterations: int, minutes: float | None) -> int:
        """The length of the last trainings that time allows, by two short ones on the originals.

        Raises:
            FailedTrainingsError: with the reason, when the exploiter's model cannot be trained.
            InputError: when not even short ones fit.
        """
        fixed, step = self._seconds()
        looks = self.trials.settings.get("num_validations", Matrix.num_validations)

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
        for steps in track(TIMED, "timing training"):
            laboratory = self.laboratory([], steps, num_validations=1)
            laboratory.matrix.save(laboratory.folder)
            rows = [laboratory.train(run) for run in laboratory.runs() if run.data == CLEAN]
            failures = [row.status for row in rows if not row.done]
            if failures:
                raise FailedTrainingsError(f"the exploiter's model cannot be trained on the originals: {failures[0]}")
            found.append(sum(row.seconds for row in rows))
        step = max(found[1] - found[0], 0.0) / (TIMED[1] - TIMED[0])
        return max(found[0] - TIMED[0] * step, 0.0), step

    def choose(self, candidates: Sequence[Candidate], iterations: int) -> Choice:
        """Train on all candidates, and in full on the two that leave least.

        Raises:
            FailedTrainingsError: when models learn too little from the originals to compare with; with the reason, when
                they cannot be trained on any candidate.
        """
        rounds = []
        for steps in track(_lengths(len(candidates), iterations), "comparing methods, round"):
            is_last = steps == iterations
            laboratory = self.laboratory(candidates, steps, control=is_last, seeds=SEEDS if is_last else 1)
            results = laboratory.run()
            found = self._found(results, candidates, steps)
            rounds.append(found)
            candidates = sorted(candidates, key=found.rank)[:2]
        page = write_laboratory_report(laboratory, results, self.trials.output_dir / "report", 2)
        if POOR in rounds[-1].judgements.values():
            raise FailedTrainingsError("originals teach the exploiter's model too little to compare with; train longer")
        if all(map(math.isinf, rounds[-1].left.values())):
            raise FailedTrainingsError(f"no method can be compared: {'. '.join(results.failures())}")
        return Choice(candidates[0], tuple(rounds), self.trials.failed, page)

    def _found(self, results: Results, candidates: Sequence[Candidate], iterations: int) -> Round:
        """What is left to the exploiter, of several pipelines to the one that is left most."""
        compared, left, judgements = ControlledSummaries(results.summaries()), {}, {}
        for candidate in candidates:
            own = [summary for summary in compared.summaries if summary.data == candidate.name]
            fractions = [compared.fraction(summary, summary.highest) for summary in own]
            left[candidate.name] = max(
                (math.inf if math.isnan(found) else found for found in fractions), default=math.inf
            )
            judged = {compared.judgement(summary) for summary in own}
            judgements[candidate.name] = next((known for known in DECIDING if known in judged), UNKNOWN)
        return Round(iterations, left, judgements)


def _percent(left: float) -> str:
    return f"{100 * left:.0f}%" if math.isfinite(left) else "unknown"


def _lengths(count: int, iterations: int) -> list[int]:
    """The length of each round, for a number of candidates."""
    return [iterations // 2, iterations] if count > 2 else [iterations]


def _trainings(count: int, iterations: int) -> list[int]:
    """The length of each training of one pipeline: candidates and originals; in the last round a control, and seeds."""
    first = [iterations // 2] * (count + 1) if count > 2 else []
    return [*first, *[iterations] * SEEDS * (min(count, 2) + 2)]

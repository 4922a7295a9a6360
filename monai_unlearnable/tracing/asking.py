# SPDX-License-Identifier: Apache-2.0
"""A suspected model asked with the owner's mark and with others, one after the other, until the test is decided."""

from __future__ import annotations

import datetime
import json
import logging
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from monai_unlearnable.crypto import OwnerKey, load_key
from monai_unlearnable.crypto.keys import owner
from monai_unlearnable.errors import CommandError, InputError, told
from monai_unlearnable.noise.records import package_versions
from monai_unlearnable.perturbers import load_input_settings, load_perturber
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.statement import MARK, signed
from monai_unlearnable.report.traces import write_trace_page
from monai_unlearnable.tracing.answers import AnswerFormat
from monai_unlearnable.tracing.marks import OWN, Marks
from monai_unlearnable.tracing.probes import Probes, query_digest
from monai_unlearnable.tracing.randomization import Outcome, sequential_test
from monai_unlearnable.tracing.record import UNMARKED, Answered, Plan, Record, answer_digest
from monai_unlearnable.tracing.statistics import (
    WORST,
    Answer,
    Statistic,
    check_answer,
    score,
    usual_statistic,
)
from monai_unlearnable.tracing.suspects import Suspect, open_suspect
from monai_unlearnable.utils.enums import look_up
from monai_unlearnable.utils.files import file_digest, write_json
from monai_unlearnable.utils.progress import track
from monai_unlearnable.utils.seeding import seeded
from monai_unlearnable.utils.values import check_number, check_whole

__all__ = ["Setup", "TraceResult", "conclude", "keep_answers", "set_up", "trace"]

logger = logging.getLogger(__name__)

NAME, PAGE = "model", "index.html"
FAILURES = 3  # marks in a row that a model fails at, after which it is not asked again


@dataclass(frozen=True)
class TraceResult:
    """What a trace found.

    Args:
        outcome: the test; None where marks are still to be asked.
        own: statistic of the owner's mark.
        others: statistics of other marks, in their order.
        unmarked: statistic of the probes without a mark; None where they were not asked.
        folder: folder of the record.
    """

    outcome: Outcome | None
    own: float
    others: tuple[float, ...]
    unmarked: float | None
    folder: Path

    def sentence(self) -> str:
        """What was found, in plain words."""
        if self.outcome is None:
            return f"not decided yet: {len(self.others)} other marks were asked so far"
        o = self.outcome
        answered = f"p = {o.p:.4g} ({o.exceeding} of {o.others} other marks score as high as the owner's)"
        if o.p <= ALPHA:
            return f"{answered}: the model answers to the owner's mark"
        return f"{answered}: no evidence that the model was trained on the set"


ALPHA = 0.05  # up to which a result is called evidence


@dataclass(frozen=True)
class Setup:
    """The owner's side of a trace.

    Args:
        layout: layout of the output of the protected set.
        key: the owner's key.
        marks: the owner's mark and others.
        probes: scans that they are put on.
        statistic: how answers are scored.
        num_classes: number of classes.
        label_values: stored label values of the classes; None for classes of whole images.
    """

    layout: Layout
    key: OwnerKey
    marks: Marks
    probes: Probes
    statistic: str
    num_classes: int
    label_values: tuple[int, ...] | None

    def plan(self, model: str, others: int, stop_after: int) -> Plan:
        """The plan of a trace.

        Args:
            model: what is asked.
            others: number of other marks.
            stop_after: see :func:`~monai_unlearnable.tracing.randomization.sequential_test`.
        """
        epsilon = self.marks.mark(OWN).epsilon
        digest = self.marks.perturber.mark_digest()
        probes = tuple(self.probes.digests)
        return Plan(digest, str(self.statistic), epsilon, others, stop_after, probes, model)

    def answer_format(self, classes: Sequence[int | str | None] | None) -> AnswerFormat:
        """The form of the answers of a command.

        Args:
            classes: what stands for each class; by default the stored label values.

        Raises:
            InputError: when these are those of another number of classes.
        """
        if classes is not None and len(classes) != self.num_classes:
            reason = f"answer_classes names {len(classes)} classes, and the set has {self.num_classes}"
            raise InputError(f"{reason}, background included")
        return AnswerFormat(self.label_values if classes is None else tuple(classes))

    def record(self, name: str) -> Record:
        """The record of a name."""
        return Record.of(self.layout.trace, name)


def set_up(
    output_dir: str | Path,
    probes_dir: str | Path,
    key: Any,
    epsilon: float | None = None,
    statistic: str | None = None,
    datalist: str | Path | None = None,
    max_probes: int = 40,
) -> Setup:
    """Open a protected set and the probes.

    Args:
        output_dir: output of the protected set, with ``models/``.
        probes_dir: folder of labeled scans.
        key: the owner's key or its file.
        epsilon: largest change of a voxel in the probes; by default that of the set.
        statistic: how answers are scored; by default ``"dice"`` for label maps, else ``"log_probability"``.
        datalist: list of the probes.
        max_probes: largest number of probes.

    Raises:
        KeyMismatchError: when the key is another one.
        InputError: when the set carries no mark, its statement does not commit to it, or the probes do not fit it.
    """
    check_whole("max_probes", max_probes, 1)
    if epsilon is not None:
        check_number("epsilon", epsilon)
    layout = Layout(output_dir)
    if layout.records and not layout.is_encrypted:
        reason = "the set cannot be traced: it was protected without a key, so that anyone can know its mark"
        raise InputError(f"{reason}; protect with --key", file=layout.root)
    if key is None:
        raise InputError("a trace needs the owner's key: without one the set carries no secret mark; give --key")
    own = owner(load_key(key))
    perturber = load_perturber(layout.checkpoint, key=own)
    settings = load_input_settings(layout.checkpoint, own)
    marks = Marks(perturber, epsilon)
    _check_commitment(layout, perturber.mark_digest())
    probes = Probes(probes_dir, settings, datalist, max_probes)
    usual = usual_statistic(probes.are_maps)
    chosen = str(usual) if statistic is None else look_up("statistic", statistic, Statistic)
    if (chosen == Statistic.DICE) != probes.are_maps and chosen != Statistic.LOG_PROBABILITY:
        raise InputError(f"the statistic {chosen} does not fit the labels; the usual one is {usual}")
    values = None if settings.label_values is None else tuple(settings.label_values)
    classes = len(values) if values else 1 + max(int(label) for label in probes.labels)
    return Setup(layout, own, marks, probes, chosen, classes, values)


def _check_commitment(layout: Layout, mark: str) -> None:
    """Refuse a set whose owner could have chosen the key after he knew the model.

    Raises:
        InputError: naming the statement, when it is missing, or does not commit to the mark.
    """
    path, again = layout.statement, "write it anew with: statement OUT --key KEY"
    if not path.is_file():
        raise InputError(f"there is no statement that commits to the mark; {again}", file=path)
    try:
        stated = json.loads(path.read_bytes()).get(MARK)
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"the statement cannot be read: {told(error)}", file=path) from error
    if stated is None:
        reason = f"the statement does not commit to the mark: it has no {MARK}"
        raise InputError(f"{reason}, so that a result would prove nothing; {again}", file=path)
    if stated != mark:
        raise InputError("the statement commits to another mark than that of the set", file=path)


def trace(
    output_dir: str | Path,
    probes_dir: str | Path,
    model: Any,
    key: Any,
    keys: int = 199,
    name: str = NAME,
    stop_after: int = 10,
    epsilon: float | None = None,
    statistic: str | None = None,
    answer_classes: Sequence[int | str | None] | None = None,
    preprocessing: str | Path | None = None,
    datalist: str | Path | None = None,
    max_probes: int = 40,
    timeout: float = 3600.0,
) -> TraceResult:
    """Test whether a model was trained on a protected set.

    The model is asked for its answers to probes with the owner's mark, and with marks of keys that nobody has. Whatever
    the model is, if it never saw the owner's mark, the p-value is at most alpha with a probability of at most alpha.
    Everything is kept in ``OUT/trace/NAME``; a call that was stopped goes on, and several processes share the work.

    Args:
        output_dir: output of the protected set, with ``models/``.
        probes_dir: folder of labeled scans: the originals, or others of the same kind.
        model: see :func:`~monai_unlearnable.tracing.suspects.open_suspect`.
        key: the owner's key or its file.
        keys: number of other marks; the smallest p is ``1 / (1 + keys)``.
        name: name of the model, for the record.
        stop_after: number of other marks with a larger statistic after which the rest is not asked.
        epsilon: largest change of a voxel in the probes; by default that of the set.
        statistic: how answers are scored: ``"dice"`` of label maps, ``"accuracy"``, or ``"log_probability"`` of the
            true class.
        answer_classes: what stands for each class in the answers of a command, see
            :class:`~monai_unlearnable.tracing.answers.AnswerFormat`; by default the stored label values of the set.
        preprocessing: configuration file whose ``preprocessing`` makes the input of a network in a file.
        datalist: list of the probes.
        max_probes: largest number of probes.
        timeout: time that the model gets for the probes of one mark, in seconds.

    Returns:
        The result; its ``outcome`` is None while other processes are still asking.

    Raises:
        KeyMismatchError: when the key is another one.
        InputError: when the set carries no mark, its statement does not commit to it, or the probes do not fit it.
        OutputError: when another trace was begun under the name.
        CommandError: when the model fails.
    """
    check_whole("keys", keys, 1)
    check_whole("stop_after", stop_after, 1)
    check_number("timeout", timeout)
    if timeout <= 0:
        raise InputError(f"timeout is {timeout:g} seconds, not above 0", value=timeout, limit=0)
    setup = set_up(output_dir, probes_dir, key, epsilon, statistic, datalist, max_probes)
    suspect = open_suspect(model, setup.answer_format(answer_classes), timeout, preprocessing)
    record = setup.record(name)
    record.begin(setup.plan(suspect.description, keys, stop_after))
    _ask(setup, record, suspect, UNMARKED)  # a model that cannot be asked at all fails here
    failure = _ask_until_decided(setup, record, suspect, _order(setup, name, keys, stop_after))
    result = conclude(setup, record)
    if result.outcome is None and failure is not None:
        raise CommandError(f"marks are left without an answer; run again: {failure.reason}", file=record.folder)
    return result


def _order(setup: Setup, name: str, keys: int, stop_after: int) -> list[int]:
    """The order in which marks are asked.

    The owner's is anywhere among those that are asked in any case, so that the model cannot tell it by its turn.
    """
    first = min(keys, stop_after) + 1
    shuffled: list[int] = torch.randperm(first, generator=seeded(setup.marks.seed, "turn", name)).tolist()
    return [*shuffled, *range(first, keys + 1)]


def _ask_until_decided(setup: Setup, record: Record, suspect: Suspect, numbers: Sequence[int]) -> CommandError | None:
    """Ask about marks, one after the other, until the test is decided.

    Returns:
        The last failure of the model, if there was one.

    Raises:
        CommandError: when the model fails several times in a row.
    """
    failure, in_a_row = None, 0
    for number in track(numbers, "asking mark"):
        if current_result(record).outcome is not None:
            break
        try:
            _ask(setup, record, suspect, number)
            in_a_row = 0
        except CommandError as error:
            logger.warning("mark %d was not answered: %s", number, error)
            failure, in_a_row = error, in_a_row + 1
            if in_a_row == FAILURES:
                raise
    return failure


def _ask(setup: Setup, record: Record, suspect: Suspect, number: int) -> None:
    """Ask about one mark, unless that was done, or another process is doing it."""
    if record.find(number) is not None:
        return
    with record.claimed(number) as is_ours:
        if not is_ours:
            return
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="probes-") as folder:
            mark = None if number == UNMARKED else setup.marks.mark(number)
            queries = setup.probes.write(mark, Path(folder))
            digests = [query_digest(query) for query in queries]
            answers = suspect.ask(queries)
        keep_answers(setup, record, number, digests, answers, time.monotonic() - begin)


def keep_answers(
    setup: Setup,
    record: Record,
    number: int,
    queries: Sequence[str],
    answers: Sequence[Answer | None],
    seconds: float,
    names: Sequence[str] | None = None,
) -> None:
    """Score the answers to the probes with a mark, and keep them.

    Args:
        setup: the owner's side.
        record: where to keep them.
        number: number of the mark.
        queries: digests of the marked probes.
        answers: the answers, None where there is none.
        seconds: time that it took.
        names: names of the marked probes, for errors; by default those of the probes.

    Raises:
        InputError: naming the probe, when an answer cannot be scored, or there is none at all.
    """
    if not any(answer is not None for answer in answers):
        raise CommandError("the model gave no answer to any probe; answers have the names of the probes")
    scores: list[float | None] = []
    for name, answer, label in zip(names or setup.probes.names, answers, setup.probes.labels, strict=True):
        if answer is None:
            logger.warning("mark %d: no answer to %s; it counts as the worst", number, name)
            scores.append(None)
            continue
        try:
            check_answer(answer, label, setup.num_classes, setup.statistic)
        except InputError as error:
            raise InputError(error.reason, case=name) from error
        scores.append(score(answer, label, setup.statistic))
    digests = tuple(None if answer is None else answer_digest(answer) for answer in answers)
    record.save(Answered(number, tuple(queries), digests, tuple(scores), seconds), answers)


def current_result(record: Record) -> TraceResult:
    """What the answers so far say."""
    plan, answered, unmarked = record.plan, record.answered(), record.find(UNMARKED)
    worst = WORST[plan.statistic]
    statistics = [column.statistic(worst) for column in answered]
    own, others = (statistics[0], statistics[1:]) if statistics else (math.nan, [])
    outcome = sequential_test(own, others, plan.others, plan.stop_after) if statistics else None
    clean = None if unmarked is None else unmarked.statistic(worst)
    asked = len(others) if outcome is None else outcome.others
    return TraceResult(outcome, own, tuple(others[:asked]), clean, record.folder)


def conclude(setup: Setup, record: Record) -> TraceResult:
    """Write and sign the result, once it is decided."""
    result = current_result(record)
    if result.outcome is None:
        return result
    columns = record.answered()[: 1 + result.outcome.others]
    content: dict[str, Any] = {
        "format": "monai_unlearnable trace 1",
        "plan": asdict(record.plan),
        "result": {**asdict(result.outcome), "own": result.own, "unmarked": result.unmarked},
        "statistics": [result.own, *result.others],
        "answered_sha256": [file_digest(record.file_of(column.number)) for column in columns],
        "sentence": result.sentence(),
        "probes": len(setup.probes),
        "seconds": round(sum(column.seconds for column in columns), 1),
        "versions": package_versions(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }
    content = signed(content, setup.key)
    write_json(record.result_path, content)
    write_trace_page(content, record.folder / PAGE)
    return result

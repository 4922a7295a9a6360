# SPDX-License-Identifier: Apache-2.0
"""A suspected model asked with the owner's mark and with others, one after the other, until the test is decided."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from monai_unlearnable.errors import CommandError, InputError
from monai_unlearnable.tracing.marks import OWN
from monai_unlearnable.tracing.probes import query_digest
from monai_unlearnable.tracing.record import AGAIN, MOVED, UNMARKED, Answered, Record, answer_digest, kept_form
from monai_unlearnable.tracing.result import TraceResult, conclude, current_result
from monai_unlearnable.tracing.setup import NAME, Setup, set_up
from monai_unlearnable.tracing.statistics import Answer, check_answer, score
from monai_unlearnable.tracing.suspects import Suspect, open_suspect
from monai_unlearnable.utils.progress import track
from monai_unlearnable.utils.seeding import seeded
from monai_unlearnable.utils.values import check_number, check_whole

__all__ = ["scored", "trace"]

logger = logging.getLogger(__name__)

FAILURES = 3  # marks in a row that a model fails at, after which it is not asked again


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
    the model is, if it never saw the owner's mark, and its answer to a file does not depend on when it is asked, the
    p-value is at most alpha with a probability of at most alpha. A function or a command, whose weights cannot be seen,
    is asked again for the probes without a mark, when a call goes on and before the result.
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
        CommandError: when the model fails, or does not answer the probes without a mark as it did before.
    """
    check_whole("keys", keys, 1)
    check_whole("stop_after", stop_after, 1)
    check_number("timeout", timeout)
    if timeout <= 0:
        raise InputError(f"timeout is {timeout:g} seconds, not above 0", value=timeout, limit=0)
    setup = set_up(output_dir, probes_dir, key, epsilon, statistic, datalist, max_probes)
    suspect = open_suspect(model, setup.answer_format(answer_classes), timeout, preprocessing)
    record = setup.record(name)
    plan = setup.plan(suspect.description, keys, stop_after, suspect.sha256, preprocessing, answer_classes)
    record.begin(plan)
    if record.find(UNMARKED) is not None:
        _ask_again(setup, record, suspect, is_same=False)
    _ask(setup, record, suspect, UNMARKED)  # a model that cannot be asked at all fails here
    failure = None
    if current_result(record).outcome is None:
        failure = _ask_until_decided(setup, record, suspect, _order(setup, name, keys, stop_after))
        _ask_again(setup, record, suspect, is_same=True)
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
        queries, answers, seconds = _answers(setup, suspect, number)
        record.save(scored(setup, number, queries, answers, seconds), answers)


def _ask_again(setup: Setup, record: Record, suspect: Suspect, is_same: bool) -> None:
    """Ask once more for the probes without a mark, unless the digest of the model tells that it is still the same.

    Args:
        setup: the owner's side.
        record: the record.
        suspect: the model.
        is_same: whether this call has asked it for marks: then other answers spoil the record, and are kept in it.

    Raises:
        CommandError: when the scores are others than before.
    """
    if suspect.sha256 is not None:
        return
    record.refuse_moved()
    first = record.find(UNMARKED)
    if first is None:
        raise CommandError("the probes without a mark are left without an answer; run again", file=record.folder)
    queries, answers, seconds = _answers(setup, suspect, AGAIN)
    again = scored(setup, AGAIN, queries, answers, seconds)
    if not (is_same or again.is_like(first)):
        reason = f"{MOVED}; go on with the model that was asked before, or give this one another --name"
        raise CommandError(reason, file=record.folder)
    record.save(again, answers)
    record.refuse_moved()


def _answers(setup: Setup, suspect: Suspect, number: int) -> tuple[list[str], list[Answer | None], float]:
    """The digests of the probes with a mark, the answers to them, and the time that it took."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="probes-") as folder:
        mark = None if number < OWN else setup.marks.mark(number)
        queries = setup.probes.write(mark, Path(folder))
        digests = [query_digest(query) for query in queries]
        return digests, suspect.ask(queries), time.monotonic() - begin


def scored(
    setup: Setup,
    number: int,
    queries: Sequence[str],
    answers: Sequence[Answer | None],
    seconds: float,
    names: Sequence[str] | None = None,
) -> Answered:
    """The answers to the probes with a mark with their scores: those of the answers as they are kept.

    Args:
        setup: the owner's side.
        number: number of the mark.
        queries: digests of the marked probes.
        answers: the answers, None where there is none.
        seconds: time that it took.
        names: names of the marked probes, for errors; by default those of the probes.

    Raises:
        InputError: naming the probe, when an answer cannot be scored.
        CommandError: when there is no answer at all.
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
        scores.append(score(kept_form(answer), label, setup.statistic))
    digests = tuple(None if answer is None else answer_digest(answer) for answer in answers)
    return Answered(number, tuple(queries), digests, tuple(scores), seconds)

# SPDX-License-Identifier: Apache-2.0
"""The record of a trace checked by somebody else: with the owner's key, p follows from the answers again."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monai_unlearnable.crypto.keyfiles import from_base64
from monai_unlearnable.crypto.signing import is_signed, public_key
from monai_unlearnable.errors import Finding, InputError, VerificationError
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.statement import canonical
from monai_unlearnable.tracing.marks import OWN
from monai_unlearnable.tracing.probes import query_digest
from monai_unlearnable.tracing.record import AGAIN, UNMARKED, Answered, Plan, Record, answer_digest
from monai_unlearnable.tracing.result import TraceResult, current_result
from monai_unlearnable.tracing.setup import NAME, Setup, set_up
from monai_unlearnable.tracing.statistics import check_answer, score
from monai_unlearnable.utils.files import file_digest
from monai_unlearnable.utils.progress import track
from monai_unlearnable.utils.text import counted

__all__ = ["check_trace"]

TOLERANCE = 1e-9  # of scores


def check_trace(
    output_dir: str | Path,
    probes_dir: str | Path,
    key: Any,
    name: str = NAME,
    datalist: str | Path | None = None,
    max_probes: int | None = None,
) -> TraceResult:
    """Recompute the result of a trace from its record.

    The signature is the owner's; the mark is the one that the statement of the set commits to; every marked probe,
    made again from the key, has the recorded digest; every score follows from the kept answer; and p from the scores.

    Args:
        output_dir: output of the protected set, with ``trace/``.
        probes_dir: folder of the clean probes.
        key: the owner's key or its file.
        name: name of the model.
        datalist: list of the probes.
        max_probes: largest number of probes; by default as many as in the trace.

    Returns:
        The result as it was recomputed.

    Raises:
        VerificationError: naming the first claim that does not hold; ``findings`` has all.
        InputError: when there is no finished trace under this name, or the statement commits to no mark, or another.
    """
    record = Record.of(Layout(output_dir).trace, name)
    plan, content = record.plan, record.result
    most = len(plan.probes) if max_probes is None else max_probes
    setup = set_up(output_dir, probes_dir, key, plan.epsilon, plan.statistic, datalist, most)
    try:
        result = current_result(record)
        columns = record.answered()[: 1 + len(result.others)]
        unmarked = [column for column in map(record.find, (UNMARKED, AGAIN)) if column is not None]
    except InputError as error:
        raise VerificationError(error.reason, file=error.file, findings=[Finding(error.file, error.reason)]) from error
    findings = _claims(content, setup, record, result, columns)
    if list(plan.probes) != setup.probes.digests:
        _refuse(record, findings)
    for answered in track([*columns, *unmarked], "checking mark"):
        findings += _column(answered, setup, record)
    _refuse(record, findings)
    return result


def _refuse(record: Record, findings: Sequence[Finding]) -> None:
    if findings:
        verb = "does" if len(findings) == 1 else "do"
        reason = f"{counted(len(findings), 'claim')} of the trace {verb} not hold: {findings[0]}"
        raise VerificationError(reason, file=record.folder, findings=findings)


def _claims(
    content: dict[str, Any], setup: Setup, record: Record, result: TraceResult, columns: Sequence[Answered]
) -> list[Finding]:
    """What does not hold of the signature, the plan, and the result that was signed."""
    path, findings = record.result_path, []
    if not is_signed(canonical(content), from_base64(content["signature"]), public_key(setup.key)):
        findings.append(Finding(path, "the signature is not that of the owner's key"))
    plan = record.plan
    claims = (
        ("the mark of the plan", plan.mark_sha256, setup.mark_sha256),
        ("the probes", list(plan.probes), setup.probes.digests),
        ("the plan of the result", Plan.of(content["plan"]), plan),
        ("the result", _outcome(result), content["result"]),
        ("the statistics", [result.own, *result.others], content["statistics"]),
        ("the sentence", result.sentence(), content["sentence"]),
    )
    findings += [Finding(path, what, found, claimed) for what, found, claimed in claims if found != claimed]
    first, again = record.find(UNMARKED), record.find(AGAIN)
    if first is not None and again is not None and not again.is_like(first):
        findings.append(Finding(record.file_of(AGAIN), "the model changed while it was asked"))
    digests = [file_digest(record.file_of(column.number)) for column in columns]
    if digests != content["answered_sha256"]:
        findings.append(Finding(path, "the record of the answers was changed since"))
    return findings


def _outcome(result: TraceResult) -> dict[str, Any]:
    outcome = {} if result.outcome is None else asdict(result.outcome)
    return {**outcome, "own": result.own, "unmarked": result.unmarked}


def _column(answered: Answered, setup: Setup, record: Record) -> list[Finding]:
    """What does not hold of one mark: its queries, and the scores of its answers."""
    path, findings = record.file_of(answered.number), []
    with tempfile.TemporaryDirectory(prefix="probes-") as folder:
        mark = None if answered.number < OWN else setup.marks.mark(answered.number)
        queries = setup.probes.write(mark, Path(folder))
        made = [query_digest(query) for query in queries]
    if {len(answered.queries), len(answered.answers), len(answered.scores)} != {len(made)}:
        return [Finding(path, "the number of probes is not that of the answers")]
    kept = record.answers(answered.number, len(setup.probes))
    rows = zip(setup.probes.names, made, answered.queries, kept, answered.answers, strict=True)
    for index, (name, found, claimed, answer, digest) in enumerate(rows):
        if found != claimed:
            findings.append(Finding(path, "the marked probe", found, claimed, case=name))
        if (None if answer is None else answer_digest(answer)) != digest:
            findings.append(Finding(path, "the answer was changed since", case=name))
        elif answer is None:
            if answered.scores[index] is not None:
                findings.append(Finding(path, "the score of no answer", None, answered.scores[index], case=name))
        else:
            label = setup.probes.labels[index]
            check_answer(answer, label, setup.num_classes, setup.statistic)
            own, stated = score(answer, label, setup.statistic), answered.scores[index]
            if stated is None or abs(own - stated) > TOLERANCE:
                findings.append(Finding(path, "the score", own, stated, case=name))
    return findings

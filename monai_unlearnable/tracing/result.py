# SPDX-License-Identifier: Apache-2.0
"""What the answers of a model say, and the signed result of a trace."""

from __future__ import annotations

import datetime
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from monai_unlearnable.noise.records import package_versions
from monai_unlearnable.publishing.statement import signed
from monai_unlearnable.report.traces import write_trace_page
from monai_unlearnable.tracing.randomization import Outcome, sequential_test
from monai_unlearnable.tracing.record import AGAIN, UNMARKED, Record
from monai_unlearnable.tracing.setup import Setup
from monai_unlearnable.tracing.statistics import WORST
from monai_unlearnable.utils.files import file_digest, write_json

__all__ = ["TraceResult", "conclude", "current_result"]

PAGE = "index.html"
ALPHA = 0.05  # up to which a result is called evidence


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
    """Write and sign the result, once it is decided.

    Raises:
        CommandError: when the model did not stay as it was while it was asked.
    """
    result = current_result(record)
    if result.outcome is None:
        return result
    record.refuse_moved()
    columns = record.answered()[: 1 + result.outcome.others]
    content: dict[str, Any] = {
        "format": "monai_unlearnable trace 1",
        "plan": asdict(record.plan),
        "result": {**asdict(result.outcome), "own": result.own, "unmarked": result.unmarked},
        "statistics": [result.own, *result.others],
        "answered_sha256": [file_digest(record.file_of(column.number)) for column in columns],
        "sentence": result.sentence(),
        "asked_again": record.find(AGAIN) is not None,
        "probes": len(setup.probes),
        "seconds": round(sum(column.seconds for column in columns), 1),
        "versions": package_versions(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }
    content = signed(content, setup.key)
    write_json(record.result_path, content)
    write_trace_page(content, record.folder / PAGE)
    return result

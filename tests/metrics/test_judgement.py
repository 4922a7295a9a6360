# SPDX-License-Identifier: Apache-2.0
"""One rule says whether protection stops an exploiter, and the verdict of a report and the evidence both follow it."""

from __future__ import annotations

import math

import pytest

from monai_unlearnable.evidence.judging import claim
from monai_unlearnable.metrics.judgement import NOT_STOPPED, POOR, STOPPED, UNKNOWN, WEAKENED, judge
from monai_unlearnable.report import VictimRow
from monai_unlearnable.report.summaries import summarize
from monai_unlearnable.report.verdict import state_verdict
from tests.evidence.samples import entry

CASES = [
    (42.0, 84.0, 0.0, STOPPED),
    (42.1, 84.0, 0.0, WEAKENED),
    (74.0, 84.0, 0.0, WEAKENED),
    (74.1, 84.0, 0.0, NOT_STOPPED),
    (90.0, 84.0, 0.0, NOT_STOPPED),
    (60.0, 78.0, 50.0, STOPPED),
    (57.0, 66.0, 50.0, NOT_STOPPED),  # less than half is left, but it is 9 points
    (3.0, 12.0, 0.0, POOR),
    (60.7, 61.8, 50.0, POOR),
    (60.0, 45.0, 50.0, POOR),
]
WORDS = {
    WEAKENED: "weakens training but does not prevent it",
    NOT_STOPPED: "The protection does not hold",
    POOR: "this comparison proves nothing",
}


@pytest.mark.parametrize(("score", "clean", "chance", "expected"), CASES)
def test_verdict_and_evidence_judge_alike(score: float, clean: float, chance: float, expected: str) -> None:
    assert judge(score, clean, chance) == expected
    assert claim(entry(score, clean, chance=chance)) == expected
    fields = {"victim": "UNet", "recipe": "plain", "seed": 0, "chance": chance}
    rows = [VictimRow(training=kind, score=value, **fields) for kind, value in (("clean", clean), ("protected", score))]
    verdict = state_verdict(summarize(rows))
    assert [judgement for judgement, words in WORDS.items() if words in verdict] == [expected] * (expected != STOPPED)


@pytest.mark.parametrize("clean", [None, math.nan])
def test_without_the_originals_nothing_is_said(clean: float | None) -> None:
    assert judge(42.0, clean, 0.0) == UNKNOWN

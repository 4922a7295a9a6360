# SPDX-License-Identifier: Apache-2.0
"""The test over marks: exact, whatever the model is, and short for innocent ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from monai_unlearnable.tracing.randomization import sequential_test


def test_p_counts_the_marks_that_score_as_high() -> None:
    assert sequential_test(0.9, [0.1] * 99, total=99, stop_after=10).p == pytest.approx(0.01)  # type: ignore[union-attr]
    two = sequential_test(0.9, [0.95, 0.1, 0.9, *[0.1] * 96], total=99, stop_after=10)
    assert two is not None
    assert (two.p, two.exceeding) == (pytest.approx(0.03), 2)  # ties count against the owner


def test_it_waits_for_marks_that_can_still_decide() -> None:
    assert sequential_test(0.9, [0.1] * 98, total=99, stop_after=10) is None


def test_an_innocent_model_is_asked_little() -> None:
    early = sequential_test(0.1, [0.9] * 10, total=999, stop_after=10)
    assert early is not None
    assert (early.p, early.others) == (1, 10)


@pytest.mark.parametrize("correlated", [False, True])
def test_p_is_valid_for_models_that_never_saw_the_mark(correlated: bool) -> None:
    """Marks are drawn alike, so that the owner's rank is uniform; scores of one model may depend on each other."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2000):
        scores = rng.normal(size=100)
        if correlated:
            scores = np.round(scores + rng.normal(), 1)  # many ties
        result = sequential_test(scores[0], scores[1:].tolist(), total=99, stop_after=10)
        assert result is not None
        found.append(result.p)
    for level in (0.01, 0.05, 0.1, 0.5):
        count = int(np.sum(np.array(found) <= level))
        assert stats.binomtest(count, len(found), level, alternative="greater").pvalue > 1e-4
    if not correlated:  # nor is anything given away: with these totals each level up to 0.1 is met exactly
        share = float(np.mean(np.array(found) <= 0.05))
        assert share == pytest.approx(0.05, abs=0.02)

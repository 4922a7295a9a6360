# SPDX-License-Identifier: Apache-2.0
"""Intervals and tests against SciPy's own routes and hand-computed values."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from monai_unlearnable.errors import InputError
from monai_unlearnable.metrics import bootstrap_interval, paired_test, statistics

RNG = np.random.default_rng(0)


class TestInterval:
    @pytest.mark.parametrize("level", [0.8, 0.95])
    def test_agrees_with_scipy(self, level: float) -> None:
        values = RNG.normal(60, 10, 25)
        expected = stats.bootstrap((values,), np.mean, confidence_level=level, method="percentile", rng=7)
        found = bootstrap_interval(values, level=level, seed=7)
        assert found == pytest.approx(tuple(expected.confidence_interval), rel=1e-12)

    def test_any_statistic_over_paired_arrays(self) -> None:
        truth, predicted = RNG.integers(0, 2, 30), RNG.integers(0, 2, 30)

        def statistic(*resampled: np.ndarray) -> np.ndarray:
            return np.array([balanced_accuracy_score(*pair) for pair in zip(*resampled, strict=True)])

        def one(*resampled: np.ndarray) -> float:
            return float(balanced_accuracy_score(*resampled))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(statistics, "RESAMPLES", 100)
            found = bootstrap_interval(truth, predicted, statistic=statistic, seed=3)
        expected = stats.bootstrap(
            (truth, predicted), one, paired=True, vectorized=False, n_resamples=100, method="percentile", rng=3
        )
        assert found == pytest.approx(tuple(expected.confidence_interval))

    def test_rows_are_cases(self) -> None:
        table = RNG.normal(size=(12, 3))
        found = bootstrap_interval(table, statistic=lambda resampled: resampled.mean(axis=(1, 2)))
        assert found == pytest.approx(bootstrap_interval(table.mean(axis=1)))

    def test_contains_the_mean_and_narrows(self) -> None:
        few, many = RNG.normal(50, 10, 8), RNG.normal(50, 10, 800)
        low, high = bootstrap_interval(few)
        assert low < few.mean() < high
        assert np.diff(bootstrap_interval(many)) < (high - low) / 4

    def test_batches_change_nothing_but_the_draws(self, monkeypatch: pytest.MonkeyPatch) -> None:
        values = RNG.normal(50, 10, 40)
        whole = bootstrap_interval(values)
        monkeypatch.setattr(statistics, "BATCH", 1000)
        assert bootstrap_interval(values) == pytest.approx(whole, abs=0.3)

    def test_degenerate_cases(self) -> None:
        assert bootstrap_interval(np.full(5, 0.3)) == (0.3, 0.3)
        assert bootstrap_interval([0.7]) == (0.7, 0.7)
        assert bootstrap_interval([0.2, math.nan, 0.4], seed=1) == bootstrap_interval([0.2, 0.4], seed=1)
        with pytest.raises(InputError, match="no case"):
            bootstrap_interval([math.nan])
        with pytest.raises(InputError, match="differ in length"):
            bootstrap_interval([1.0, 2.0], [1.0])


class TestPaired:
    def test_wilcoxon_by_hand(self) -> None:
        """Five cases, one way: of 2^5 signs just all plus and all minus are as extreme, so p = 2 / 32."""
        result = paired_test([51.0, 62.0, 73.0, 84.0, 96.0], [50.0, 60.0, 70.0, 80.0, 90.0])
        assert result.test == "Wilcoxon signed-rank" and result.cases == 5
        assert result.p_value == pytest.approx(2 / 32)
        assert result.difference == pytest.approx(3.2)
        assert 1 < result.interval[0] < 3.2 < result.interval[1] < 6

    def test_wilcoxon_with_ties_and_many_cases(self) -> None:
        first, second = RNG.normal(60, 10, 80).round(), RNG.normal(57, 10, 80).round()
        moved = (first - second)[first != second]
        ranks = stats.rankdata(np.abs(moved))
        plus, total = ranks[moved > 0].sum(), len(moved)
        ties = np.unique(ranks, return_counts=True)[1]
        spread = math.sqrt(total * (total + 1) * (2 * total + 1) / 24 - (ties**3 - ties).sum() / 48)
        z = (plus - total * (total + 1) / 4) / spread
        assert paired_test(first, second).p_value == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-6)

    def test_mcnemar_by_hand(self) -> None:
        """Of 6 cases that differ, the first method is right on 5: p = 2 (C(6,0) + C(6,1)) / 2^6."""
        first = [100.0] * 5 + [0.0] + [100.0, 0.0] * 3
        second = [0.0] * 5 + [100.0] + [100.0, 0.0] * 3
        result = paired_test(first, second)
        assert result.test == "exact McNemar"
        assert result.p_value == pytest.approx(14 / 64)
        assert result.difference == pytest.approx(100 * 4 / 12)

    @pytest.mark.parametrize("values", [(0.0, 100.0, 100.0), (41.0, 52.5, 90.0)])
    def test_equal_methods(self, values: tuple[float, ...]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = paired_test(values, values)
        assert (result.p_value, result.difference, result.interval) == (1.0, 0.0, (0.0, 0.0))

    def test_unknown_cases_are_dropped_in_pairs(self) -> None:
        first, second = RNG.normal(60, 10, 12), RNG.normal(50, 10, 12)
        holes, other = first.copy(), second.copy()
        holes[2], other[5] = math.nan, math.nan
        keep = [index for index in range(12) if index not in (2, 5)]
        assert paired_test(holes, other) == paired_test(first[keep], second[keep])

    def test_no_warning_of_few_cases(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert paired_test([1.0], [2.0]).p_value == 1
            assert 0 < paired_test([1.0, 5.0, 7.0, 8.0], [2.0, 5.0, 8.0, 6.0]).p_value <= 1

    def test_errors(self) -> None:
        with pytest.raises(InputError, match="2 and 1"):
            paired_test([1.0, 2.0], [1.0])
        with pytest.raises(InputError, match="no case"):
            paired_test([math.nan, 1.0], [1.0, math.nan])
        with pytest.raises(InputError, match="no case"):
            paired_test([], [])

# SPDX-License-Identifier: Apache-2.0
"""Scores on their way, and where a frontier falls to half-way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from monai_unlearnable.errors import InputError
from monai_unlearnable.metrics import Crossing, Point, Scores, half_way, p50


def scores(**arguments: Any) -> Scores:
    return Scores("Dice", 60.0, (55.0, 65.0), (60.0,), (55.0, 65.0), **arguments)


def test_peak_is_the_best_on_the_way() -> None:
    assert scores(curve=(10.0, 70.0, math.nan, 60.0)).peak == 70
    assert scores().peak == 60
    assert math.isnan(scores(curve=(math.nan,)).peak)


def test_selected_is_what_validation_picks_first() -> None:
    assert scores(curve=(10.0, 70.0, 60.0), validation_curve=(90.0, 80.0, 90.0)).selected == 10
    assert scores(curve=(10.0, 70.0, 60.0), validation_curve=(math.nan, 80.0, 90.0)).selected == 60
    assert math.isnan(scores(curve=(10.0, 70.0)).selected)
    assert math.isnan(scores(curve=(10.0,), validation_curve=(math.nan,)).selected)


def test_curves_have_the_same_moments() -> None:
    with pytest.raises(InputError, match="validation curve has 1"):
        scores(curve=(1.0, 2.0), validation_curve=(1.0,))


CLEAN, CHANCE = 90.0, 10.0  # half-way is 50


def sweep(*pairs: tuple[float, float]) -> list[Point]:
    return [Point(psnr, score) for psnr, score in pairs]


def test_half_way() -> None:
    assert half_way(CLEAN, CHANCE) == 50 and half_way(84.0, 0.0) == 42


def test_interpolates_between_neighbors() -> None:
    assert p50(sweep((40, 80), (20, 10), (30, 40)), CLEAN, CHANCE) == Crossing(32.5, "exact")
    assert p50(sweep((20, 10), (30, 50), (40, 80)), CLEAN, CHANCE) == Crossing(30.0, "exact")


def test_agrees_with_numpy_on_monotone_sweeps() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        psnr, score = np.sort(rng.uniform(20, 50, 6)), np.sort(rng.uniform(0, 100, 6))
        if score[0] <= 50 < score[-1]:
            found = p50(sweep(*zip(psnr, score, strict=True)), CLEAN, CHANCE)
            assert found.bound == "exact" and found.value == pytest.approx(np.interp(50, score, psnr))


def test_bounds() -> None:
    assert p50(sweep((20, 60), (30, 70)), CLEAN, CHANCE) == Crossing(None, "none")
    assert p50([], CLEAN, CHANCE) == Crossing(None, "none")
    assert p50(sweep((20, 10), (30, 20), (40, 50)), CLEAN, CHANCE) == Crossing(40, "at least")
    assert p50(sweep((33, 12)), CLEAN, CHANCE) == Crossing(33, "at least")


def test_the_highest_crossing_counts() -> None:
    """Falls, rises above half-way and falls again, as short trainings do."""
    assert p50(sweep((10, 20), (20, 80), (30, 40), (40, 60), (50, 85)), CLEAN, CHANCE) == Crossing(35.0, "exact")
    assert p50(sweep((10, 20), (20, 80), (30, 40)), CLEAN, CHANCE) == Crossing(30, "at least")


def test_seeds_of_one_strength_count_with_their_mean() -> None:
    points = sweep((30, 20), (30, 60), (40, 60), (40, 80))
    assert p50(points, CLEAN, CHANCE) == p50(sweep((30, 40), (40, 70)), CLEAN, CHANCE)


def test_another_figure() -> None:
    points = [Point(30, 40, 0.8), Point(40, 60, 0.9), Point(50, 20)]
    assert p50(points, CLEAN, CHANCE, "ssim_roi").value == pytest.approx(0.85)
    assert p50(points[2:], CLEAN, CHANCE, "ssim_roi") == Crossing(None, "none")
    with pytest.raises(InputError, match="epsilon"):
        p50(points, CLEAN, CHANCE, "epsilon")


def test_diverged_victims_and_useless_controls() -> None:
    points = sweep((20, 10), (30, math.nan), (40, 80))
    assert p50(points, CLEAN, CHANCE) == p50(sweep((20, 10), (40, 80)), CLEAN, CHANCE)
    assert p50(points, 10.0, 10.0) == p50(points, math.nan, 10.0) == Crossing(None, "none")

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from typing import Any

import pytest

from monai_unlearnable.errors import InputError
from monai_unlearnable.metrics import Scores


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

# SPDX-License-Identifier: Apache-2.0
"""The filter drops the cases that carry a shortcut."""

from __future__ import annotations

import pytest

from monai_unlearnable.countermeasures import IterativeFilter
from monai_unlearnable.errors import InputError
from tests.countermeasures.planted import classification_cases, material, segmentation_cases

PLANTED = [index % 4 < 2 for index in range(40)]


@pytest.mark.parametrize("make", [classification_cases, segmentation_cases])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("hidden", [0, 8])
def test_planted_cases_are_dropped(make, dims: int, hidden: int) -> None:  # type: ignore[no-untyped-def]
    cases = make(40, dims, PLANTED)
    done = IterativeFilter(0.5, hidden=hidden, block=4).prepare(material(cases))
    kept = [PLANTED[int(case["case_id"][4:])] for case in done.cases]
    assert len(kept) == 20 and sum(kept) <= 1 and not done.steps


def test_counts_order_and_seed() -> None:
    cases = classification_cases(20, 2)
    for fraction in (0.1, 0.3, 0.9):
        kept = IterativeFilter(fraction, rounds=1, iterations=3).prepare(material(cases)).cases
        assert len(kept) == round(20 * (1 - fraction))
        numbers = [int(case["case_id"][4:]) for case in kept]
        assert numbers == sorted(numbers) and sum(number % 2 for number in numbers) == len(numbers) / 2
        again = IterativeFilter(fraction, rounds=1, iterations=3).prepare(material(cases)).cases
        assert [case["case_id"] for case in again] == [case["case_id"] for case in kept]


def test_one_case_of_a_class_stays() -> None:
    cases = [case for case in classification_cases(12, 2) if case["label"] == 0 or case["case_id"] == "case1"]
    kept = IterativeFilter(0.9, rounds=1).prepare(material(cases)).cases
    assert {case["label"] for case in kept} == {0, 1}


def test_bad_settings() -> None:
    for fraction in (0, 1, 1.5):
        with pytest.raises(InputError, match="fraction"):
            IterativeFilter(fraction)
    with pytest.raises(InputError, match="at least 4"):
        IterativeFilter().prepare(material(classification_cases(3, 2)))
    with pytest.raises(InputError, match="rounds is 0"):
        IterativeFilter(rounds=0)

# SPDX-License-Identifier: Apache-2.0
"""Which cases are trained on: those without a shortcut, and clean ones in exact numbers."""

from __future__ import annotations

import pytest

from monai_unlearnable.countermeasures import Countermeasure, IterativeFilter, Material, MixClean
from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.catalog import Catalog
from tests.countermeasures.planted import classification_cases, material, segmentation_cases

PLANTED = [index % 4 < 2 for index in range(40)]


@pytest.mark.parametrize(
    ("make", "dims", "hidden"),
    [  # each two of them in all ways
        (classification_cases, 2, 0),
        (classification_cases, 3, 8),
        (segmentation_cases, 2, 8),
        (segmentation_cases, 3, 0),
    ],
)
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


def ids(count: int, kind: str) -> list[dict[str, str]]:
    return [{"image": f"{kind}/{i}.nii", "label": f"{kind}/l{i}.nii", "case_id": f"c{i}"} for i in range(count)]


def mixed(fraction: float, count: int = 40, known: int | None = None, seed: int = 0) -> list[int]:
    """Which cases are clean after mixing."""
    originals = {case["case_id"]: case for case in ids(count, "clean")[:known]}
    cases = ids(count, "protected")
    done = MixClean(fraction).prepare(Material(cases, dict, originals, seed))
    assert [case["case_id"] for case in done.cases] == [case["case_id"] for case in cases] and not done.steps
    assert all(case["image"].split("/")[0] == case["label"].split("/")[0] for case in done.cases)
    return [index for index, case in enumerate(done.cases) if case["image"].startswith("clean")]


@pytest.mark.parametrize(("fraction", "count"), [(0.05, 2), (0.1, 4), (0.2, 8), (0.5, 20), (1.0, 40), (0.001, 1)])
def test_counts_are_exact(fraction: float, count: int) -> None:
    assert len(mixed(fraction)) == count


def test_the_seed_decides_and_shares_are_nested() -> None:
    assert mixed(0.2) == mixed(0.2) != mixed(0.2, seed=1)
    assert set(mixed(0.05)) < set(mixed(0.1)) < set(mixed(0.5))


def test_originals_are_needed() -> None:
    assert max(mixed(0.2, known=8)) == 7
    with pytest.raises(InputError, match="8 clean cases.*of 7") as caught:
        mixed(0.2, known=7)
    assert (caught.value.value, caught.value.limit) == (8, 7)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, float("nan")])
def test_shares_out_of_range(fraction: float) -> None:
    with pytest.raises(InputError, match="fraction"):
        MixClean(fraction)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("autoencoder", [{"rate": 0.25, "stages": 1}]),
        ("autoencoder_coarse", [{"rate": 0.5, "stages": 2}]),
        ("pairs4", [{"pairs": 4}]),
        ("pairs16", [{"pairs": 16}]),
        ("projection", [{}]),
        ("clean5", [{"fraction": 0.05}]),
        ("clean10", [{"fraction": 0.1}]),
        ("clean20", [{"fraction": 0.2}]),
        ("clean50", [{"fraction": 0.5}]),
        ("filter", [{"fraction": 0.5}]),
        ("clean20+filter", [{"fraction": 0.2}, {"fraction": 0.5}]),
        ("projection+autoencoder", [{}, {"rate": 0.25}]),
    ],
)
@pytest.mark.parametrize("dims", [2, 3])
def test_the_catalog_builds_them(name: str, settings: list[dict[str, float]], dims: int) -> None:
    steps = Catalog.load("countermeasures").build(name, dims=dims, size=[16] * dims)
    assert len(steps) == len(settings) and all(isinstance(step, Countermeasure) for step in steps)
    for step, setting in zip(steps, settings, strict=True):
        assert setting.items() <= vars(step).items()

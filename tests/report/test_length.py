# SPDX-License-Identifier: Apache-2.0
"""Figures say how long models were trained, and whether they still moved."""

from __future__ import annotations

import dataclasses
import json

import pytest

from monai_unlearnable.errors import InputError
from monai_unlearnable.report import Results, VictimRow
from monai_unlearnable.report.comparison import compare, pair_table
from monai_unlearnable.report.html import render_page
from monai_unlearnable.report.tables import markdown_table, matrix_tables, points_table

from .samples import results, row

STILL = "still moving: by more than 5 points in the last fifth of training"
FALLING = {"curve": (60.0, 61.0, 20.0, 8.0), "curve_iterations": (100, 200, 2000, 2500), "iterations": 2500}


def moving(curve: tuple[float, ...], at: tuple[int, ...] = ()) -> bool | None:
    return row("protected", curve[-1], curve=curve, curve_iterations=at).moving


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ((0.0, 0, 0, 0, 0, 0, 0, 40, 40, 46), True),
        ((0.0, 0, 0, 0, 0, 0, 0, 40, 40, 45), False),  # by 5, not more
        ((0.0, 0, 0, 0, 0, 0, 0, 40, 46, 40), True),  # there and back
        ((0.0, 0, 0, 0, 0, 0, 90, 40, 40, 40), False),  # before the last fifth
        ((0.0, 90.0), True),
        ((50.0,), None),  # nothing is known of the way
    ],
)
def test_a_curve_moves_if_it_does_in_its_last_fifth(curve: tuple[float, ...], expected: bool | None) -> None:
    assert moving(curve) is expected


def test_of_weights_that_were_not_the_last_nothing_is_known() -> None:
    assert row("protected", 60.0, curve=(60.0, 40.0, 20.0)).moving is None


def test_the_last_fifth_is_that_of_iterations_not_of_points() -> None:
    curve = (10.0, 20.0, 60.0, 60.0, 60.0)
    assert not moving(curve, (50, 100, 250, 500, 1000))
    assert moving(curve, (50, 850, 900, 950, 1000))


def test_every_point_of_a_curve_has_its_iterations() -> None:
    with pytest.raises(InputError, match="a curve of 3 scores, and iterations of 2"):
        row("clean", 5.0, curve_iterations=(1, 2))


def test_rows_of_earlier_releases_are_read() -> None:
    content = json.loads(results().to_json())
    for old in content["rows"]:
        for name in ("iterations", "curve_iterations", "moving"):
            del old[name]
    (first, *_) = Results.from_json(json.dumps(content)).rows
    assert first.iterations == 0 and not first.moving and first.progress == pytest.approx((1 / 3, 2 / 3, 1))
    kept = json.loads(json.dumps(dataclasses.asdict(row("clean", 5.0))))
    old = {name: value for name, value in kept.items() if "iterations" not in name}
    assert VictimRow.from_dict(old).iterations == 0


@pytest.fixture(scope="module")
def unfinished() -> Results:
    return results(rows=[row("clean", 84.0), row("protected", 8.0, **FALLING)])


def test_tables_show_iterations_and_the_mark(unfinished: Results) -> None:
    (table,) = matrix_tables(unfinished).values()
    score, length = (table.columns.index(name) for name in ("Final Dice", "Iterations"))
    assert [(line[score], line[length]) for line in table.rows] == [("84.0", "500"), ("8.0~", "2,500")]
    assert f"~ {STILL}" in table.caption
    text = markdown_table(unfinished)
    assert "| 8.0~ (" in text and text.endswith(f"\n~ {STILL}\n")
    assert "8.0~" in points_table(unfinished).to_markdown()


def test_nothing_is_explained_where_nothing_moves() -> None:
    (table,) = matrix_tables(results()).values()
    assert STILL not in table.caption and "~" not in markdown_table(results())


def test_the_verdict_says_what_longer_training_may_change(unfinished: Results) -> None:
    verdict = unfinished.verdict()
    assert "The figures are those after 500 to 2,500 iterations; 1 of 2 still moved" in verdict
    assert "(UNet, plain training, protected), so longer training may change the verdict." in verdict
    assert "still moved" not in results().verdict()


def test_page_and_json_show_both(unfinished: Results) -> None:
    page = render_page(unfinished, {})
    assert STILL in page and "8.0~" in page and "2,500" in page
    assert STILL not in render_page(results(), {})
    rows = json.loads(unfinished.to_json())["rows"]
    assert [(r["iterations"], r["moving"]) for r in rows] == [(500, False), (2500, True)]
    assert rows[1]["curve_iterations"] == [100, 200, 2000, 2500]
    assert Results.from_json(unfinished.to_json()) == unfinished


def test_reports_of_trainings_of_different_lengths_are_told_apart(unfinished: Results) -> None:
    found = compare(results(), unfinished)
    assert "Trainings differ in length: 500 and 500 to 2,500 iterations." in found.remarks()
    table = pair_table("none", found.pairs)
    assert "500 / 2,500" in [line[table.columns.index("Iterations")] for line in table.rows]
    assert not any("length" in remark for remark in compare(results(), results()).remarks())

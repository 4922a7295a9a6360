# SPDX-License-Identifier: Apache-2.0
"""A laboratory's results become entries, with controls, and stronger runs correct weaker ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from monai_unlearnable.errors import InputError
from monai_unlearnable.evidence import Overstated, entries_from, load_entries, record, save_entry
from monai_unlearnable.evidence.judging import (
    NOT_STOPPED,
    RECIPES,
    STOPPED,
    UNKNOWN,
    VICTIMS,
    WEAKENED,
    by_strength,
    claim,
    stronger_run,
)
from monai_unlearnable.utils.catalog import Catalog
from tests.evidence.samples import entry, measured


def test_seeds_become_one_entry_with_the_controls_of_their_matrix() -> None:
    plain, noise, nnunet, _ = entries_from(measured(), date="2026-11-30", remark="On a quiet machine.")
    assert (plain.method, plain.epsilon, plain.recipe) == ("umed", "14/255", "plain")
    assert (plain.score.by_seed, plain.score.seeds, plain.score.interval) == ((7.5, 8.5), (0, 1), (7.5, 8.5))
    assert plain.clean is not None and plain.clean.mean == 84.0
    assert plain.random is not None and plain.random.mean == 83.0
    assert (plain.dataset, plain.dataset_sha256, plain.training_cases) == ("Phantom", "ab" * 32, 140)
    assert plain.victim_settings == {"size": [48, 64, 48], "width": 8, "batch_size": 4}
    assert (plain.iterations, plain.version, plain.date) == (500, "0.1.0", "2026-11-30")
    assert (plain.psnr, plain.remark) == (38.2, "On a quiet machine.")
    assert (noise.method, noise.random) == ("random noise", None)
    assert (nnunet.recipe, nnunet.score.mean) == ("nnunet", 79.0)


def test_variants_of_a_method_are_the_method_with_settings() -> None:
    results = measured()
    rows = [dataclasses.replace(r, method="umed blurred") if r.method == "umed" else r for r in results.rows]
    results = dataclasses.replace(results, rows=rows, method="umed blurred, umed not yet trained")
    settings = {"umed blurred": {"augmentation#blur": 1.0}, "umed not yet trained": {"epochs": 20}}
    found = entries_from(results, date="2026-11-30", settings=settings)[0]
    assert (found.method, found.settings) == ("umed", {"augmentation#blur": 1.0})
    assert entries_from(results, date="2026-11-30")[0].method == "umed blurred"
    with pytest.raises(
        InputError, match="no method 'umed blured'; known are clean, random noise, umed blurred, umed not"
    ):
        entries_from(results, date="2026-11-30", settings={"umed blured": {}})
    with pytest.raises(InputError, match="the date is 'yesterday'; give it as YYYY-MM-DD"):
        entries_from(results, date="yesterday")


def test_length_is_that_of_the_runs_and_a_score_that_still_moves_is_marked() -> None:
    results = measured()
    rows = [dataclasses.replace(r, iterations=2500, curve=(80.0, 40.0, 8.0)) for r in results.rows]
    found = entries_from(dataclasses.replace(results, rows=rows), date="2026-11-30")[0]
    assert (found.iterations, found.length, found.moving) == (2500, None, True)
    named = {**results.settings, "iterations": 2500, "length": "standard"}
    still = [dataclasses.replace(r, iterations=2500, curve=(80.0, 8.0, 8.0, 8.0, 8.0, 8.0)) for r in results.rows]
    found = entries_from(dataclasses.replace(results, rows=still, settings=named), date="2026-11-30")[0]
    assert (found.iterations, found.length, found.moving) == (2500, "standard", False)


def test_random_noise_of_another_size_is_no_control() -> None:
    results = measured()
    rows = [dataclasses.replace(r, epsilon=8 / 255) if r.training == "random noise" else r for r in results.rows]
    plain = entries_from(dataclasses.replace(results, rows=rows), date="2026-11-30")[0]
    assert plain.random is None


def test_programs_with_their_own_training_have_no_settings_of_ours() -> None:
    results = measured()
    rows = [dataclasses.replace(r, victim="nnunetv2", recipe="own") for r in results.rows if r.recipe == "nnunet"]
    (found, _) = entries_from(dataclasses.replace(results, rows=rows), date="2026-11-30")
    assert (found.victim, found.victim_settings) == ("nnunetv2", {})


def test_runs_without_score_are_no_evidence() -> None:
    results = measured()
    rows = [dataclasses.replace(r, status="diverged") if r.training == "protected" else r for r in results.rows]
    found = entries_from(dataclasses.replace(results, rows=rows), date="2026-11-30")
    assert {one.method for one in found} == {"random noise"}


def test_recording_marks_what_a_stronger_run_refutes(tmp_path: Path) -> None:
    written, overstated = record(measured(), tmp_path, date="2026-11-30")
    plain, winner = (name for name in written if "-umed-" in name)
    assert overstated == [plain]
    kept = load_entries(tmp_path)
    assert kept[plain].overstated == Overstated(by=winner, remark="UNet, nnU-Net's augmentation reaches 79.0 of 84.0.")
    assert kept[winner].overstated is None
    again = record(measured(), tmp_path, date="2026-12-01")
    assert again == (written, []), "the same runs are replaced, and marks are kept"
    assert load_entries(tmp_path)[plain].overstated == kept[plain].overstated


def test_nothing_is_overstated_where_every_exploiter_is_stopped(tmp_path: Path) -> None:
    assert record(measured(nnunet=20.0), tmp_path, date="2026-11-30")[1] == []


def test_marks_of_authors_are_kept(tmp_path: Path) -> None:
    other = save_entry(entry(30.0, victim="BasicUNet"), tmp_path, {})
    mark = Overstated(by=other, remark="By hand.")
    name = save_entry(entry(8.0, overstated=mark, dataset="Phantom", victim_settings={}), tmp_path, {})
    record(measured(), tmp_path, date="2026-11-30")
    assert load_entries(tmp_path)[name].overstated == mark


@pytest.mark.parametrize(
    ("other", "refuted"),
    [
        ({"iterations": 2500}, True),
        ({"iterations": 100}, False),  # a shorter training of the same exploiter
        ({"victim": "BasicUNet", "iterations": 100}, True),
        ({"recipe": "mirror"}, True),
        ({"recipe": "mirror", "dataset": "left_atrium"}, False),
        ({"recipe": "mirror", "epsilon": "8/255"}, False),
        ({"recipe": "mirror", "settings": {"carrier_axis": 2}}, False),
    ],
)
def test_stronger_runs_are_those_of_other_exploiters_or_longer_ones(other: dict, refuted: bool) -> None:
    weak, strong = entry(8.0), entry(70.0, **other)
    assert stronger_run(weak, {"weak": weak, "strong": strong}) == ("strong" if refuted else None)


def test_exploiters_who_need_nothing_are_named_first() -> None:
    others = {"filter": entry(83.0, countermeasure="gaussian"), "own": entry(79.0, victim="nnunetv2", recipe="own")}
    assert stronger_run(entry(8.0), others) == "own"


def test_claims_follow_from_the_controls() -> None:
    assert claim(entry(42.0)) == STOPPED
    assert claim(entry(60.0)) == WEAKENED
    assert claim(entry(80.0)) == NOT_STOPPED
    assert claim(entry(42.0, clean=None)) == UNKNOWN
    assert claim(entry(60.0, clean=78.0, chance=50.0)) == STOPPED


def test_newest_come_first_and_of_one_day_the_attack_that_wins() -> None:
    old, weak, strong = entry(83.0, date="2026-01-01"), entry(8.0), entry(80.0, recipe="own")
    assert by_strength([old, weak, strong]) == [strong, weak, old]


def test_every_victim_and_recipe_of_the_catalogs_has_words() -> None:
    assert set(Catalog.load("recipes").names()) <= set(RECIPES)
    assert set(Catalog.load("external").names()) <= set(VICTIMS)

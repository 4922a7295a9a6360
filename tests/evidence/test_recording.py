# SPDX-License-Identifier: Apache-2.0
"""A laboratory's results become entries, with controls, and stronger runs correct weaker ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from monai_unlearnable.errors import InputError
from monai_unlearnable.evidence import Overstated, Query, Score, entries_from, load_entries, record, render, save_entry
from monai_unlearnable.evidence.judging import by_strength, stronger_run
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


def test_what_the_exploiter_brings_tells_entries_apart(tmp_path: Path) -> None:
    results = measured()
    for digest in ("ab" * 32, "cd" * 32):
        brought = {"weights": {"plain": digest}, "own_scans": {"none": digest}}
        record(dataclasses.replace(results, settings={**results.settings, "brought_sha256": brought}), tmp_path)
    found = [e for e in load_entries(tmp_path).values() if e.recipe == "plain" and e.method == "umed"]
    assert sorted(e.victim_settings["weights"] for e in found) == ["abababab", "cdcdcdcd"]
    assert "weights abababab, own scans abababab" in render(
        Query.of("recipe=plain method=umed"), load_entries(tmp_path)
    )


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
    rows = [dataclasses.replace(r, iterations=2500, curve=(80.0, 40.0, r.score)) for r in results.rows]
    found = entries_from(dataclasses.replace(results, rows=rows), date="2026-11-30")[0]
    assert (found.iterations, found.length, found.moving) == (2500, None, True)
    named = {**results.settings, "iterations": 2500, "length": "standard"}
    still = [dataclasses.replace(r, iterations=2500, curve=(80.0, *[r.score] * 5)) for r in results.rows]
    found = entries_from(dataclasses.replace(results, rows=still, settings=named), date="2026-11-30")[0]
    assert (found.iterations, found.length, found.moving) == (2500, "standard", False)


def test_dates_are_those_of_the_trainings() -> None:
    results = measured()
    days = {("protected", 0): "2026-11-28", ("protected", 1): "2026-11-29", ("clean", 0): "2026-11-30"}
    rows = [dataclasses.replace(r, date=days.get((r.training, r.seed), "")) for r in results.rows]
    dated = dataclasses.replace(results, rows=rows)
    umed, noise, *_ = entries_from(dated)
    assert (umed.date, noise.date) == ("2026-11-29", None), "the last of its seeds; not known where no run says"
    assert entries_from(dated, date="2026-12-24")[0].date == "2026-12-24"


def test_settings_of_victims_are_those_that_they_were_trained_with() -> None:
    results = measured()
    settings = {**results.settings, "sizes": {"nnunet": [32, 32, 32]}, "amp": True}
    plain, _, nnunet, _ = entries_from(dataclasses.replace(results, settings=settings))
    assert (plain.victim_settings["size"], nnunet.victim_settings["size"]) == ([48, 64, 48], [32, 32, 32])
    assert plain.victim_settings["amp"] is True
    assert plain.key != entries_from(measured())[0].key, "bfloat16 replaces no float32"


def test_lengths_that_differ_over_seeds_are_a_range() -> None:
    results = measured()
    rows = [dataclasses.replace(r, iterations=300 + 100 * r.seed) for r in results.rows]
    found = entries_from(dataclasses.replace(results, rows=rows))[0]
    assert (found.fewest_iterations, found.iterations) == (300, 400)
    assert "300 to 400 iterations" in render(Query(), {"a": found})


def test_whether_weights_that_early_stopping_took_still_moved_is_not_known() -> None:
    results = measured()
    rows = [dataclasses.replace(r, curve=(80.0, 40.0, 60.0)) for r in results.rows]  # none ends at its score
    assert entries_from(dataclasses.replace(results, rows=rows))[0].moving is None
    rows = [dataclasses.replace(r, curve=(r.score,)) for r in results.rows]
    assert entries_from(dataclasses.replace(results, rows=rows))[0].moving is None


def test_another_dataset_of_the_same_name_is_refused(tmp_path: Path) -> None:
    record(measured(), tmp_path)
    before = load_entries(tmp_path)
    other = measured(settings={**measured().settings, "dataset_sha256": "cd" * 32})
    with pytest.raises(InputError, match="another dataset named 'Phantom'; give yours another name, with --dataset"):
        record(other, tmp_path)
    assert load_entries(tmp_path) == before
    assert record(other, tmp_path, dataset="Phantom of a friend")[0]


def test_random_noise_of_another_size_is_no_control() -> None:
    results = measured()
    rows = [dataclasses.replace(r, epsilon=8 / 255) if r.training == "random noise" else r for r in results.rows]
    plain = entries_from(dataclasses.replace(results, rows=rows), date="2026-11-30")[0]
    assert plain.random is None


@pytest.mark.parametrize("is_same", [True, False])
def test_controls_and_remarks_of_the_same_trainings_stay_where_another_laboratory_has_none(
    tmp_path: Path, is_same: bool
) -> None:
    kept = record(measured(nnunet=79.0), tmp_path, remark="On a quiet machine.")[0]
    known = {name: load_entries(tmp_path)[name] for name in kept}
    alone = measured(nnunet=79.0 if is_same else 78.0)
    rows = [row for row in alone.rows if row.training == "protected"]
    name = next(n for n in record(dataclasses.replace(alone, rows=rows), tmp_path)[0] if "-nnunet-" in n)
    now = load_entries(tmp_path)[name]
    told = (known[name].clean, known[name].random, "On a quiet machine.")
    assert (now.clean, now.random, now.remark) == (told if is_same else (None, None, "")) and all(told)


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
    remark = "UNet with nnU-Net's pipeline reaches 79.0 after 500 iterations (originals: 84.0)."
    assert kept[plain].overstated == Overstated(by=winner, remark=remark)
    assert kept[winner].overstated is None
    again = record(measured(), tmp_path, date="2026-12-01")
    assert again == (written, []), "the same runs are replaced, and marks are kept"
    assert load_entries(tmp_path)[plain].overstated == kept[plain].overstated


def test_marks_follow_what_is_recorded_later(tmp_path: Path) -> None:
    plain = record(measured(nnunet=79.0), tmp_path, date="2026-11-30")[1][0]
    record(measured(nnunet=60.0), tmp_path, date="2026-12-01")
    mark = load_entries(tmp_path)[plain].overstated
    assert (
        mark is not None
        and mark.remark == "UNet with nnU-Net's pipeline reaches 60.0 after 500 iterations (originals: 84.0)."
    )
    record(measured(nnunet=20.0), tmp_path, date="2026-12-02")
    assert load_entries(tmp_path)[plain].overstated is None, "nobody is left who found more"


def test_nothing_is_overstated_where_every_exploiter_is_stopped(tmp_path: Path) -> None:
    assert record(measured(nnunet=20.0), tmp_path, date="2026-11-30")[1] == []


def test_marks_of_authors_are_kept(tmp_path: Path) -> None:
    other = save_entry(entry(30.0, victim="BasicUNet"), tmp_path, {})
    mark = Overstated(by=other, remark="By hand.", by_hand=True)
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


@pytest.mark.parametrize(
    ("weak", "strong", "refuted"),
    [
        ({}, {}, False),  # 41.0 and 45.0 of 84.0, of one training each: chance may have done it
        ({"by_seed": (40.0, 42.0)}, {"by_seed": (44.0, 46.0)}, True),
        ({"by_seed": (31.0, 51.0)}, {"by_seed": (35.0, 55.0)}, False),
        ({"by_seed": (31.0, 51.0)}, {"interval": (44.0, 46.0)}, False),
        ({"interval": (40.0, 42.0)}, {"interval": (44.0, 46.0)}, True),
    ],
)
def test_scores_that_differ_by_chance_refute_nothing(weak: dict, strong: dict, refuted: bool) -> None:
    known = {
        "weak": entry(score=Score(mean=41.0, **weak)),
        "strong": entry(score=Score(mean=45.0, **strong), recipe="mirror"),
    }
    assert stronger_run(known["weak"], known) == ("strong" if refuted else None)


def test_networks_that_learn_little_from_originals_refute_nothing() -> None:
    known = {"strong": entry(61.0, clean=61.8, chance=50.0, recipe="mirror")}
    assert stronger_run(entry(50.0, clean=90.0, chance=50.0), known) is None


def test_runs_that_can_be_repeated_are_named_first() -> None:
    others = {
        "elsewhere": entry(85.9, 85.9, recipe="mirror", measured_by="throw-away code", iterations=None),
        "here": entry(84.6, 85.5, recipe="mirror", iterations=2500),
    }
    assert stronger_run(entry(8.0), others) == "here"


def test_exploiters_who_need_nothing_are_named_first() -> None:
    others = {"filter": entry(83.0, countermeasure="gaussian"), "own": entry(79.0, victim="nnunetv2", recipe="own")}
    assert stronger_run(entry(8.0), others) == "own"


def test_newest_come_first_and_of_one_day_the_attack_that_wins() -> None:
    old, weak, strong = entry(83.0, date="2026-01-01"), entry(8.0), entry(80.0, recipe="own")
    assert by_strength([old, weak, strong]) == [strong, weak, old]


def test_every_victim_and_recipe_of_the_catalogs_has_words() -> None:
    for kind in ("recipes", "external"):
        catalog = Catalog.load(kind)
        assert list(catalog.words) == catalog.names()
        assert all("words" not in catalog.description(name) for name in catalog.names()), "runs are known by these"

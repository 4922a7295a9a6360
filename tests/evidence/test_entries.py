# SPDX-License-Identifier: Apache-2.0
"""Entries hold what was measured and nothing else: files that are broken or contradict themselves are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monai_unlearnable.errors import InputError
from monai_unlearnable.evidence import Entry, Overstated, Score, load_entries, save_entry
from monai_unlearnable.evidence.entries import format_epsilon, own_entries, parse_epsilon
from monai_unlearnable.evidence.judging import claim, fraction, with_overstated
from tests.evidence.samples import entry


def test_entry_survives_its_file(tmp_path: Path) -> None:
    full = entry(
        settings={"recipe": "mirror"},
        victim_settings={"size": [48, 64, 48], "width": 8},
        score=Score(mean=8.0, by_seed=(7.0, 9.0), seeds=(0, 1), interval=(7.0, 9.0)),
        random=Score(mean=83.0),
        extras={"hd95": 4.5},
        moving=False,
        remark="Größer.",
    )
    name = save_entry(full, tmp_path, {})
    assert name == "hippocampus-umed-14_255-recipe_mirror-UNet-plain-500-48x64x48"
    assert load_entries(tmp_path) == {name: full}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"epsilon": "0.05"}, "N/255"),
        ({"dataset": ""}, "dataset is empty"),
        ({"dataset_sha256": "abc"}, "SHA-256"),
        ({"measured_by": "a friend"}, "measured_by"),
        ({"date": "yesterday"}, "yesterday"),
        ({"iterations": 0}, "iterations is less"),
        ({"iterations": "many"}, "iterations is not a whole number"),
        ({"chance": 100}, "chance"),
        ({"moving": 1}, "moving is not true or false"),
        ({"psnr_2": 1.0}, "unknown 'psnr_2'"),
        ({"score": {"mean": 8.0, "by_seed": [1.0, 2.0], "seeds": [], "interval": None}}, "not the mean"),
        ({"score": {"mean": 8.0, "by_seed": [8.0], "seeds": [0, 1], "interval": None}}, "2 seeds"),
        ({"score": {"mean": 8.0, "by_seed": [], "seeds": [], "interval": [9.0, 10.0]}}, "outside of its interval"),
        ({"score": {"mean": None, "by_seed": [], "seeds": [], "interval": None}}, "not a percentage"),
    ],
)
def test_wrong_entries_name_file_and_reason(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    content = {**json.loads(entry().to_json()), **change}
    (tmp_path / "wrong.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=reason) as caught:
        load_entries(tmp_path)
    assert caught.value.file == tmp_path / "wrong.json"


def test_what_is_missing_is_not_taken_for_unknown(tmp_path: Path) -> None:
    content = json.loads(entry().to_json())
    del content["iterations"]
    with pytest.raises(InputError, match="lacks 'iterations'"):
        Entry.from_json(json.dumps(content))


def test_two_files_of_one_run_are_refused(tmp_path: Path) -> None:
    save_entry(entry(8.0), tmp_path, {})
    (tmp_path / "z.json").write_text(entry(9.0).to_json())
    with pytest.raises(InputError, match="the same run as hippocampus-umed"):
        load_entries(tmp_path)


def test_reference_to_nothing_is_refused(tmp_path: Path) -> None:
    save_entry(entry(overstated=Overstated(by="gone", remark="More.")), tmp_path, {})
    with pytest.raises(InputError, match="names 'gone' as the stronger run, and there is no such entry"):
        load_entries(tmp_path)


def test_later_figure_of_one_run_replaces_the_earlier_and_others_get_names_of_their_own(tmp_path: Path) -> None:
    first = save_entry(entry(8.0), tmp_path, {})
    assert save_entry(entry(9.0), tmp_path, load_entries(tmp_path)) == first
    batches = save_entry(entry(30.0, victim_settings={"batch_size": 2}), tmp_path, load_entries(tmp_path))
    assert batches == f"{first}-2"
    assert {name: one.score.mean for name, one in load_entries(tmp_path).items()} == {first: 9.0, batches: 30.0}


def test_the_seed_that_learned_most_decides_on_the_claim() -> None:
    both = {"stopped": (4.0, 41.0), "weakened": (4.0, 43.0), "not stopped": (4.0, 80.0)}
    for word, seeds in both.items():
        assert claim(entry(score=Score(mean=sum(seeds) / 2, by_seed=seeds))) == word


def test_epsilon_reads_as_people_write_it() -> None:
    assert format_epsilon(14 / 255) == "14/255"
    assert format_epsilon(0.02) == "5.1/255"
    assert parse_epsilon("14/255") == pytest.approx(14 / 255)
    assert parse_epsilon(None) is None


def test_entries_of_the_package_are_valid_and_none_claims_what_another_refutes() -> None:
    entries = own_entries()
    assert len(entries) > 100
    for name, one in entries.items():
        assert name.startswith(one.slug), "a file is named after what it holds"
        if one.overstated:
            assert "reaches" in one.overstated.remark
            assert fraction(entries[one.overstated.by]) > fraction(one), "the other run is the stronger"
    assert not with_overstated(entries), "record marks them"

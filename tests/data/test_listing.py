# SPDX-License-Identifier: Apache-2.0
"""A listing names what it took, where from, and all that it passed over."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from monai_unlearnable.data import list_dataset
from monai_unlearnable.errors import DatalistError, LabelError
from tests.data.test_datalist import touch
from tests.helpers import write_datalist


def passed_over(root: Path, **arguments: str) -> dict[str, str]:
    return {item.name: item.reason for item in list_dataset(root, **arguments).passed_over}


def test_all_that_is_no_case_is_named_with_the_reason(tmp_path: Path) -> None:
    pairs = [f"{folder}/{name}.nii.gz" for folder in ("images", "labels") for name in "ab"]
    touch(tmp_path, *pairs, "README.md", "images/.DS_Store", ".git/objects/1", "extra/c.nii.gz", "old.mnc", "x.mat")
    found = list_dataset(tmp_path)
    assert [case.case_id for case in found.cases] == ["images/a", "images/b"]
    assert found.source == "folders images/ and labels/"
    reasons = {item.name: item.reason for item in found.passed_over}
    assert list(reasons) == [".git/", "README.md", "extra/c.nii.gz", "images/.DS_Store", "old.mnc", "x.mat"]
    assert reasons[".git/"] == reasons["images/.DS_Store"] == "hidden"
    assert reasons["README.md"] == "no scan: .md"
    assert ".mnc files are not read" in reasons["old.mnc"] and ".mat files are not read" in reasons["x.mat"]
    assert str(found.passed_over[1]) == "README.md: no scan: .md"


def test_a_datalist_passes_over_what_it_does_not_list(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii", "b.nii", "t.nii", "y.nii")
    lists = {"training": [{"image": "a.nii", "label": "y.nii"}], "test": [{"image": "./t.nii"}]}
    (tmp_path / "datalist.json").write_text(json.dumps(lists))
    assert passed_over(tmp_path) == {
        "b.nii": "not among the cases of datalist.json, section 'training'",
        "t.nii": "of the section 'test'",
    }


def test_files_that_would_get_one_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "kinds", "images/a.png", "images/a.jpg", "labels/a.png")
    with pytest.raises(DatalistError, match=r"images/a\.jpg and images/a\.png have one name; rename one"):
        list_dataset(tmp_path / "kinds")
    touch(tmp_path / "case", "x/a.png", "x/A.jpg", "y.png")
    entries = [{"image": name, "label": "y.png"} for name in ("x/a.png", "x/A.jpg")]
    with pytest.raises(DatalistError, match="differ only in upper and lower case"):
        list_dataset(write_datalist(tmp_path / "case", entries))


@pytest.mark.parametrize("name", ["train", "Training", "training", None])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_datalists_as_people_write_them(tmp_path: Path, name: str | None, encoding: str) -> None:
    touch(tmp_path, "a.nii", "y.nii", "t.nii")
    entries = [{"image": {"t1": "a.nii"}, "label": str(tmp_path / "y.nii")}]
    content = entries if name is None else {name: entries, "test": [{"image": "t.nii", "label": "y.nii"}]}
    (tmp_path / "datalist.json").write_text(json.dumps(content), encoding=encoding)
    (case,) = list_dataset(tmp_path).cases
    assert (case.images, case.label) == (("a.nii",), "y.nii")


def test_whole_paths_and_backslashes(tmp_path: Path, monkeypatch) -> None:
    touch(tmp_path / "data", "images/a.nii", "labels/a.nii")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    write_datalist(tmp_path / "data", [{"image": f"{tmp_path}/data/images/a.nii", "label": "labels\\a.nii"}])
    for root in (tmp_path / "data", Path("data"), Path("link")):
        (case,) = list_dataset(root).cases
        assert case.files == ("images/a.nii", "labels/a.nii")


def test_a_datalist_is_found_in_the_dataset_and_in_the_working_directory(tmp_path: Path, monkeypatch) -> None:
    touch(tmp_path / "data", "a.nii", "b.nii", "y.nii")
    for folder, image in (("data/lists", "a.nii"), ("here", "b.nii")):
        write_datalist(tmp_path / folder, [{"image": image, "label": "y.nii"}])
    monkeypatch.chdir(tmp_path / "here")
    for name, image in (("lists/datalist.json", "a.nii"), ("datalist.json", "b.nii")):
        (case,) = list_dataset(tmp_path / "data", name).cases
        assert case.images == (image,)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            '{"validation": [{"image": "a.nii"}]}',
            "no list 'training' of cases: .* the lists in it are 'validation'",
        ),
        ('{"training": [], "test": [{"image": "a.nii"}]}', "'training' of cases: it is empty"),
        ('{"train": [{"image": "a.nii"}], "training": []}', "two lists are the section 'training'"),
        ("\ufeff[".encode("utf-16").decode("latin-1"), "is not UTF-8"),
        ("3", "neither an object of lists nor a list"),
    ],
)
def test_lists_without_cases_are_refused(tmp_path: Path, content: str, reason: str) -> None:
    """Folders beside such a list could hold cases that are not for training."""
    touch(tmp_path, "images/a.nii", "labels/a.nii")
    (tmp_path / "datalist.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DatalistError, match=rf"datalist\.json: .*{reason}"):
        list_dataset(tmp_path)


@pytest.mark.parametrize("name", ["split", "section"])
def test_entries_that_say_another_section_are_refused(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "a.nii", "b.nii", "y.nii")
    entries = [{"image": "a.nii", "label": "y.nii", name: "train"}, {"image": "b.nii", "label": "y.nii", name: "Test"}]
    with pytest.raises(DatalistError, match=rf"'training' has the {name} 'test': b\.nii; move it to a list 'test'"):
        list_dataset(write_datalist(tmp_path, entries))
    assert len(list_dataset(write_datalist(tmp_path, entries[:1])).cases) == 1


def test_a_description_of_nnunet_lists_no_cases(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    description = {"channel_names": {"0": "CT"}, "labels": {"whole": [1, 2]}, "regions_class_order": [1, 2]}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    found = list_dataset(tmp_path)
    assert found.cases[0].images == ("imagesTr/a_0000.nii.gz",)
    assert [item.name for item in found.passed_over] == ["dataset.json"]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "store", "a.nii")
    for folder in ("images", "labels"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / folder).symlink_to(tmp_path / "store")
    (tmp_path / "store" / "back").symlink_to(tmp_path / "data")
    (case,) = list_dataset(tmp_path / "data").cases
    assert case.files == ("images/a.nii", "labels/a.nii")


def test_what_is_no_file_stops_nothing(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.nii", "labels/a.nii")
    (tmp_path / "notes").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    reason = "a link that leads nowhere, or no file"
    assert passed_over(tmp_path) == {"notes": reason, "pipe": reason}
    with pytest.raises(DatalistError, match=r"a\.nii: a dataset is a folder, and this is a file"):
        list_dataset(tmp_path / "images/a.nii")


def test_cases_without_labels_are_an_error_unless_none_are_needed(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.nii")
    with pytest.raises(LabelError, match=r"images/a, .*a\.nii: the case has no label"):
        list_dataset(tmp_path)
    assert len(list_dataset(tmp_path, require_labels=False).cases) == 1

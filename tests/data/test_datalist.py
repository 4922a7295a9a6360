# SPDX-License-Identifier: Apache-2.0
"""Datasets are found, or refused with the file and the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monai_unlearnable.data import load_cases
from monai_unlearnable.errors import DatalistError, LabelError
from tests.helpers import tree, write_datalist


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


@pytest.mark.parametrize("labels", ["labels", "masks"])
def test_images_and_labels(tmp_path: Path, labels: str) -> None:
    names = [f"{folder}/{name}" for folder in ("images", labels) for name in ("b.nii.gz", "sub/a.png")]
    cases = load_cases(touch(tmp_path, *names, "images/notes.txt", "images/.hidden.nii"))
    assert [(c.case_id, c.images, c.label) for c in cases] == [
        ("images/b", ("images/b.nii.gz",), f"{labels}/b.nii.gz"),
        ("images/sub/a", ("images/sub/a.png",), f"{labels}/sub/a.png"),
    ]


def test_nnunet_folders_group_channels(tmp_path: Path) -> None:
    root = touch(
        tmp_path,
        *[f"imagesTr/{c}_{i:04}.nii.gz" for c in "ab" for i in (0, 1)],
        "labelsTr/a.nii.gz",
        "labelsTr/b.nii.gz",
    )
    (root / "dataset.json").write_text('{"channel_names": {"0": "T1", "1": "T2"}, "numTraining": 2}')
    cases = load_cases(root)
    assert [c.case_id for c in cases] == ["imagesTr/a", "imagesTr/b"]
    assert (
        cases[0].images == ("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz")
        and cases[0].label == "labelsTr/a.nii.gz"
    )


def test_decathlon_datalist_keeps_its_order(tmp_path: Path) -> None:
    touch(tmp_path, "x/2.nii", "x/1.nii", "y/1.nii", "y/2.nii")
    write_datalist(
        tmp_path, [{"image": "x/2.nii", "label": "y/2.nii"}, {"image": f"{tmp_path}/x/1.nii", "label": "./y/1.nii"}]
    )
    cases = load_cases(tmp_path)
    assert [(c.case_id, c.label) for c in cases] == [("x/2", "y/2.nii"), ("x/1", "y/1.nii")]
    assert cases[0].to_dict() == {"image": f"{tmp_path}/x/2.nii", "label": f"{tmp_path}/y/2.nii", "case_id": "x/2"}


def test_other_sections_and_files(tmp_path: Path) -> None:
    touch(tmp_path, "x.nii")
    (tmp_path / "other.json").write_text('{"validation": [{"image": ["x.nii"]}]}')
    (case,) = load_cases(tmp_path, tmp_path / "other.json", "validation", require_labels=False)
    assert case.images == ("x.nii",) and case.label is None
    with pytest.raises(DatalistError, match="holds no list 'training'"):
        load_cases(tmp_path, tmp_path / "other.json")


@pytest.mark.parametrize(
    "entry",
    [
        {"image": "../secret.nii", "label": "y.nii"},
        {"image": "x.nii", "label": "sub/../../y.nii"},
        {"image": "/etc/passwd", "label": "y.nii"},
        {"image": ["x.nii", "../x2.nii"], "label": "y.nii"},
    ],
    ids=str,
)
def test_files_outside_the_folder_are_refused(tmp_path: Path, entry: dict[str, Any]) -> None:
    root = touch(tmp_path / "data", "x.nii", "y.nii", "../secret.nii", "../y.nii", "../x2.nii")
    with pytest.raises(DatalistError, match=r"datalist\.json: .*lies outside the dataset folder"):
        load_cases(write_datalist(root, [entry]))


@pytest.mark.parametrize("store", ["data/store", "store"], ids=["inside", "outside"])
def test_links_are_followed(tmp_path: Path, store: str) -> None:
    """Stores of large files lay out datasets as links."""
    root = touch(tmp_path / "data", "labels/a.nii", f"../{store}/1")
    (root / "images").mkdir()
    (root / "images/a.nii").symlink_to(tmp_path / store / "1")
    (tmp_path / "link").symlink_to(root)
    for folder in (root, tmp_path / "link"):
        (case,) = load_cases(folder)
        assert case.images == ("images/a.nii",)


@pytest.mark.parametrize(
    "entry", ["x.nii", {}, {"image": 3}, {"image": []}, {"image": [1]}, {"image": "x.nii", "label": 1.5}], ids=str
)
def test_malformed_entries(tmp_path: Path, entry: Any) -> None:
    with pytest.raises(DatalistError, match=r"datalist\.json: an entry names no"):
        load_cases(write_datalist(touch(tmp_path, "x.nii"), [entry]))


@pytest.mark.parametrize(
    ("entries", "name"),
    [
        ([{"image": "x.nii", "label": "y.nii"}] * 2, "x"),
        ([{"image": "x.nii", "label": "y.nii"}, {"image": "x.nii.gz", "label": "y.nii"}], "x"),
        (
            [
                {"image": "x.nii", "label": "y.nii", "case_id": "p"},
                {"image": "z.nii", "label": "y.nii", "case_id": "p"},
            ],
            "p",
        ),
    ],
)
def test_duplicate_cases(tmp_path: Path, entries: list[dict[str, str]], name: str) -> None:
    touch(tmp_path, "x.nii", "x.nii.gz", "y.nii", "z.nii")
    with pytest.raises(DatalistError, match="listed twice") as caught:
        load_cases(write_datalist(tmp_path, entries))
    assert caught.value.case == name


@pytest.mark.parametrize(("image", "label"), [("x.nii", "x.nii"), ("x.jpg", "x.png")])
def test_a_label_that_a_protected_image_would_replace_is_refused(tmp_path: Path, image: str, label: str) -> None:
    touch(tmp_path, image, label)
    with pytest.raises(DatalistError, match="both an image and a label") as caught:
        load_cases(write_datalist(tmp_path, [{"image": image, "label": label}]))
    assert caught.value.case == "x"


def test_missing_label_and_missing_files(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.nii", "images/b.nii", "labels/a.nii")
    with pytest.raises(LabelError, match=r"images/b.*has no label"):
        load_cases(tmp_path)
    assert len(load_cases(tmp_path, require_labels=False)) == 2
    write_datalist(tmp_path, [{"image": "images/a.nii", "label": "labels/gone.nii"}])
    with pytest.raises(DatalistError, match=r"images/a, .*gone\.nii: the file does not exist"):
        load_cases(tmp_path)


def test_labels_of_formats_that_are_not_read_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/b.png", "masks/a.png", "masks/b.gif", "masks/notes.txt")
    with pytest.raises(LabelError, match=r"images/b.*has no label.* \(masks/b\.gif: \.gif files are not read"):
        load_cases(tmp_path)
    touch(tmp_path / "arrays", "images/a.npy", "masks/a.npy")
    with pytest.raises(DatalistError, match=r"no cases found.*images/a\.npy.* \(\.npy files are not read"):
        load_cases(tmp_path / "arrays")


def test_links_whose_content_was_not_fetched_are_told(tmp_path: Path) -> None:
    """As git-annex and DataLad leave them."""
    touch(tmp_path, "images/a.nii", "labels/a.nii", "labels/b.nii")
    (tmp_path / "images/b.nii").symlink_to("../.git/annex/objects/gone")
    with pytest.raises(DatalistError, match=r"b\.nii: a link that leads nowhere; fetch"):
        load_cases(tmp_path)


@pytest.mark.parametrize("content", ["", "{", '{"training": 3}', "[1]", "\xff"])
def test_broken_datalists(tmp_path: Path, content: str) -> None:
    (tmp_path / "datalist.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DatalistError):
        load_cases(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DatalistError, match="no cases found"):
        load_cases(tmp_path)
    with pytest.raises(DatalistError, match="does not exist"):
        load_cases(tmp_path / "gone")
    assert tree(tmp_path) == {}


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    root = touch(tmp_path, "cyst/b.png", "cyst/a.png", "tumor/a.png", "notes/read.txt", ".cache/x.png", "deep/er/x.png")
    cases = load_cases(root)
    assert [(c.case_id, c.target, c.label) for c in cases] == [
        ("cyst/a", 0, None),
        ("cyst/b", 0, None),
        ("tumor/a", 1, None),
    ]
    assert cases[2].to_dict() == {"image": str(root / "tumor/a.png"), "label": 1, "case_id": "tumor/a"}


def test_a_datalist_of_classes(tmp_path: Path) -> None:
    entries = [{"image": "a.png", "label": 2}, {"image": "b.png", "label": 0}]
    root = write_datalist(touch(tmp_path, "a.png", "b.png"), entries)
    assert [(c.target, c.label) for c in load_cases(root)] == [(2, None), (0, None)]


@pytest.mark.parametrize("label", [-1, True, 1.5, [1]])
def test_what_is_no_class(tmp_path: Path, label: Any) -> None:
    root = write_datalist(touch(tmp_path, "a.png"), [{"image": "a.png", "label": label}])
    with pytest.raises(DatalistError, match="neither label file nor class"):
        load_cases(root)

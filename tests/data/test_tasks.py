# SPDX-License-Identifier: Apache-2.0
"""Several labels an image are read from tables, lists and archives, or refused with the line or case that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from monai_unlearnable.data import Case, inspect_cases, load_cases, match_classes, pack_archive, unpack_archive
from monai_unlearnable.errors import DatalistError, LabelError
from monai_unlearnable.intensity import DtypeWindow
from monai_unlearnable.training.data import class_weights
from tests.data.test_medmnist import arrays, read_archive, write_archive
from tests.data.test_tables import write_table
from tests.helpers import random_image, write_datalist

HEADER = "image,label_finding,label_view,split\n"


def labels(root: Path, **arguments: str) -> dict[str, Any]:
    return {case.case_id: case.classes for case in load_cases(root, **arguments)}


def test_each_column_of_a_table_that_is_called_so_is_a_task(tmp_path: Path) -> None:
    write_table(tmp_path, HEADER + "a.png,ill,2,train\nb.png,well,0,train\nc.png,faint,1,test\n")
    assert labels(tmp_path) == {"a": {"finding": 1, "view": 2}, "b": {"finding": 2, "view": 0}}
    assert labels(tmp_path, section="test") == {"c": {"finding": 0, "view": 1}}, "classes are those of the whole file"
    assert load_cases(tmp_path)[0].tasks == ("finding", "view")


def test_the_order_of_columns_does_not_matter(tmp_path: Path) -> None:
    write_table(tmp_path, "label_view,image,Label_Finding\n2,a.png,1\n")
    (case,) = load_cases(tmp_path)
    assert (case.tasks, case.target) == (("finding", "view"), (1, 2))
    assert case.to_dict()["label"].tolist() == [1, 2], "in the order of the names"


def test_classes_are_those_of_another_table_with_the_same_names(tmp_path: Path) -> None:
    for name in ("whole", "part"):
        (tmp_path / name).mkdir()
    write_table(tmp_path / "whole", "image,label_finding,label_view\na.png,ill,2\nb.png,well,0\nc.png,faint,1\n")
    names = load_cases(tmp_path / "whole")[0].class_names
    assert names == (("faint", "ill", "well"), ()), "numbers are no names"
    write_table(tmp_path / "part", "image,label_view,label_finding\na.png,2,ill\nb.png,1,well\n")
    cases = match_classes(load_cases(tmp_path / "part"), names, "the others")
    assert [case.classes for case in cases] == [{"finding": 1, "view": 2}, {"finding": 2, "view": 1}]
    write_table(tmp_path / "part", "image,label_view,label_finding\na.png,2,Ill\nb.png,1,well\n")
    with pytest.raises(LabelError, match=r"a, .*a\.png: the class 'Ill' of the task finding is none of the classes"):
        match_classes(load_cases(tmp_path / "part"), names, "the others")


def test_one_label_is_none_of_several(tmp_path: Path) -> None:
    write_table(tmp_path, "image,label_view\na.png,1\n")
    assert labels(tmp_path) == {"a": 1}
    write_table(tmp_path, "image,label,label_view\na.png,1,0\n")
    assert labels(tmp_path) == {"a": 1}, "a column of the label comes first"
    write_datalist(tmp_path, [{"image": "a.png", "label": {"view": 3}}])
    assert labels(tmp_path) == {"a": 3}


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (HEADER + "a.png,1,,train\n", "line 2: the cell of column 'label_view' is empty"),
        ("image,label_,label_view\na.png,1,0\n", "line 1: the column 'label_' names no task"),
        ("image,finding,view\na.png,1,0\n", "line 1: no column is called label or class or target, or label_ and"),
    ],
)
def test_broken_tables_name_the_line(tmp_path: Path, table: str, reason: str) -> None:
    path = write_table(tmp_path, table)
    with pytest.raises(DatalistError, match=rf"labels\.csv: .*{reason}") as caught:
        load_cases(tmp_path)
    assert caught.value.file == path


def test_lists_hold_the_class_of_each_task_by_its_name(tmp_path: Path) -> None:
    write_table(tmp_path, "")
    entries = [
        {"image": "a.png", "label": {"view": 0, "finding": 1}},
        {"image": "b.png", "label": {"finding": 2, "view": 1}},
    ]
    write_datalist(tmp_path, entries)
    assert labels(tmp_path) == {"a": {"finding": 1, "view": 0}, "b": {"finding": 2, "view": 1}}


@pytest.mark.parametrize("label", [{}, {"view": -1, "finding": 0}, {"view": "front", "finding": 0}, {"": 1, "view": 0}])
def test_labels_that_are_no_classes_are_shown(tmp_path: Path, label: dict[str, Any]) -> None:
    write_table(tmp_path, "")
    write_datalist(tmp_path, [{"image": "a.png", "label": label}])
    with pytest.raises(DatalistError, match=r"neither label file nor class: .*a\.png"):
        load_cases(tmp_path)


@pytest.mark.parametrize("other", [{"finding": 1, "position": 0}, 1])
@pytest.mark.parametrize("section", ["training", "test"])
def test_all_cases_of_all_sections_need_the_same_tasks(tmp_path: Path, other: Any, section: str) -> None:
    write_table(tmp_path, "")
    content: dict[str, list[Any]] = {"training": [{"image": "a.png", "label": {"finding": 1, "view": 0}}], "test": []}
    content[section].append({"image": "b.png", "label": other})
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    with pytest.raises(DatalistError, match=r"b, .*datalist\.json: .*where a has the tasks finding, view") as caught:
        load_cases(tmp_path)
    assert caught.value.case == "b"


def write_findings(path: Path, findings: int = 11) -> Path:
    content = arrays()
    for name in [name for name in content if name.endswith("_labels")]:
        content[name] = np.random.default_rng(1).integers(0, 2, (len(content[name]), findings), "uint8")
    return write_archive(path, content)


def test_archives_of_several_findings_become_lists_and_archives_again(tmp_path: Path) -> None:
    archive = write_findings(tmp_path / "x.npz")
    folder, content = unpack_archive(archive, tmp_path / "folder"), read_archive(archive)
    cases = load_cases(folder)
    assert cases[0].tasks == tuple(f"{number:02d}" for number in range(11))
    assert [case.target for case in cases] == [tuple(row) for row in content["train_labels"].tolist()]
    packed = read_archive(pack_archive(archive, folder, tmp_path / "y.npz"))
    assert all(np.array_equal(packed[name], array) for name, array in content.items())


def test_archives_whose_splits_differ_or_whose_findings_are_no_findings(tmp_path: Path) -> None:
    content = read_archive(write_findings(tmp_path / "x.npz", 3))
    write_archive(tmp_path / "x.npz", {**content, "test_labels": content["test_labels"][:, :2]})
    with pytest.raises(DatalistError, match=r"differ in the number of labels an image: train 3, val 3, test 2"):
        unpack_archive(tmp_path / "x.npz", tmp_path / "folder")
    write_archive(tmp_path / "x.npz", {**content, "test_labels": content["test_labels"] + 1})
    with pytest.raises(DatalistError, match="needed is one class an image, counted from 0, or 0 or 1 for each task"):
        unpack_archive(tmp_path / "x.npz", tmp_path / "folder")


def test_the_summary_counts_the_classes_of_each_task(tmp_path: Path) -> None:
    targets = [(0, 2), (0, 0), (1, 2)]
    for index in range(3):
        Image.fromarray(random_image((9, 8), "uint8", index)).save(tmp_path / f"{index}.png")
    cases = [
        Case(str(index), tmp_path, (f"{index}.png",), target=target, tasks=("finding", "view"))
        for index, target in enumerate(targets)
    ]
    summary = inspect_cases(cases, DtypeWindow())
    assert summary.tasks == {"finding": (2, 1), "view": (1, 0, 2)}
    assert (summary.task_classes, summary.num_classes, summary.targets) == ((2, 3), 5, ())
    with pytest.raises(LabelError, match="the tasks of the case are none, and those of the first case finding, view"):
        inspect_cases([*cases, Case("3", tmp_path, ("0.png",), target=0)], DtypeWindow())


def test_images_of_rare_classes_are_drawn_more_often() -> None:
    def weights(*targets: Any) -> list[float] | None:
        return class_weights([Case(str(index), Path(), ("x",), target=own) for index, own in enumerate(targets)])

    assert weights(0, 0, 1) == [0.5, 0.5, 1]
    assert weights((0, 0), (0, 1), (1, 1)) == [0.75, 0.5, 0.75]
    assert weights(None, None) is None

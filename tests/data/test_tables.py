# SPDX-License-Identifier: Apache-2.0
"""Tables of classes are read as people write them, or refused with the line that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_unlearnable.data import load_cases
from monai_unlearnable.errors import DatalistError


def write_table(root: Path, content: str | bytes, name: str = "labels.csv") -> Path:
    """A table, and an empty file for each image ``a.png`` to ``d.png``."""
    for image in "abcd":
        (root / f"{image}.png").write_bytes(b"")
    (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return root / name


def classes(root: Path, **arguments: str | Path) -> dict[str, int | None]:
    return {case.case_id: case.target for case in load_cases(root, **arguments)}


def test_columns_of_other_names_and_other_columns(tmp_path: Path) -> None:
    write_table(tmp_path, "age,Filename , CLASS\n61,b.png,2\n58,a.png, 0\n\n")
    cases = load_cases(tmp_path)
    assert [(case.case_id, case.images, case.target, case.label) for case in cases] == [
        ("b", ("b.png",), 2, None),
        ("a", ("a.png",), 0, None),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte-order-mark"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["unix", "windows"])
def test_dialects(tmp_path: Path, delimiter: str, mark: bytes, ending: str) -> None:
    rows = [["image", "label", "note"], ["a.png", "1", '"one, two; three"'], ["b.png", "0", "-"]]
    write_table(tmp_path, mark + ending.join(delimiter.join(row) for row in rows).encode())
    assert classes(tmp_path) == {"a": 1, "b": 0}


def test_sections_and_case_ids(tmp_path: Path) -> None:
    table = "image,label,split,case_id\na.png,0,train,p1\nb.png,1,Valid,p2\nc.png,2,test,p3\nd.png,1,training,p4\n"
    write_table(tmp_path, table)
    assert classes(tmp_path) == {"p1": 0, "p4": 1}
    assert classes(tmp_path, section="validation") == {"p2": 1}
    assert classes(tmp_path, section="test") == {"p3": 2}


def test_folders_tell_the_sections_of_a_table_without_them(tmp_path: Path) -> None:
    root = tmp_path / "train" / "data"  # folders above the dataset tell nothing
    for folder in ("trainset", "testset"):
        (root / folder).mkdir(parents=True)
        write_table(root / folder, "")
    rows = [f"{root}/trainset/a.png,x", "trainset/b.png,z", "testset/c.png,y"]
    write_table(root, "\n".join(["image,label", *rows]))
    assert classes(root) == {"trainset/a": 0, "trainset/b": 2}
    assert classes(root, section="test") == {"testset/c": 1}
    write_table(root, "\n".join(["image,label", rows[2]]))
    assert classes(root) == {"testset/c": 0}  # one folder tells of no sections
    write_table(root, "\n".join(["image,label,split", f"{rows[1]},train", f"{rows[2]},train"]))
    assert classes(root) == {"trainset/b": 1, "testset/c": 0}


def test_names_are_numbered_over_all_sections(tmp_path: Path) -> None:
    table = "path,target,section\na.png,tumor,train\nb.png,no tumor,test\nc.png,cyst,val\nd.png,cyst,train\n"
    write_table(tmp_path, table)
    assert classes(tmp_path) == {"a": 2, "d": 0}
    assert classes(tmp_path, section="test") == {"b": 1}


@pytest.mark.parametrize("odd", ["-1", "1.0", "x", "²"])
def test_numbers_among_names_are_names(tmp_path: Path, odd: str) -> None:
    write_table(tmp_path, f"image,label\na.png,7\nb.png,{odd}\n")
    names = sorted(["7", odd])
    assert classes(tmp_path) == {"a": names.index("7"), "b": names.index(odd)}


def test_a_table_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_table(tmp_path / "data", "image,label\na.png,1\n")
    other = tmp_path / "other.tsv"
    other.write_text("image\tlabel\nb.png\t3\n")
    assert classes(tmp_path / "data", datalist=other) == {"b": 3}


def test_a_datalist_comes_first(tmp_path: Path) -> None:
    write_table(tmp_path, "image,label\na.png,1\n")
    (tmp_path / "datalist.json").write_text('{"training": [{"image": "b.png", "label": 4}]}')
    assert classes(tmp_path) == {"b": 4}


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("", "line 1: no column is called image or file or filename or path"),
        ("image,kind\na.png,1\n", "line 1: no column is called label or class or target"),
        ("image,label\na.png,1\n,0\n", "line 3: the cell of column 'image' is empty"),
        ("image,label\na.png,1\n\nb.png, \n", "line 4: the cell of column 'label' is empty"),
        ("image,label,split\na.png,1,\n", "line 2: the cell of column 'split' is empty"),
        ("image,label,case_id\na.png,1\n", "line 2: the cell of column 'case_id' is empty"),
        ("image,label\na.png,1,2\n", "line 2: the row has more cells than the header"),
        (
            "image,label,split\na.png,1,train\nb.png,1,holdout\n",
            "line 3: 'holdout' is not a section; known are training",
        ),
        ('image,label\na.png,"1\n', "line 2: unexpected end of data"),
        ("image,label\n", "no row is of the section 'training'"),
        (b"image,label\na.png,\xe9\n", "cannot be read"),
        ("image,label\n../a.png,1\n", "lies outside the dataset folder"),
    ],
)
def test_broken_tables(tmp_path: Path, table: str | bytes, reason: str) -> None:
    path = write_table(tmp_path, table)
    with pytest.raises(DatalistError, match=rf"labels\.csv: .*{reason}") as caught:
        load_cases(tmp_path)
    assert caught.value.file == path


def test_files_that_are_not_there_or_there_twice(tmp_path: Path) -> None:
    write_table(tmp_path, "image,label\na.png,1\ngone.png,0\n")
    with pytest.raises(DatalistError, match=r"gone\.png: the file does not exist"):
        load_cases(tmp_path)
    write_table(tmp_path, "image,label\na.png,1\na.png,0\n")
    with pytest.raises(DatalistError, match=r"a, .*: a\.png is listed twice; remove one"):
        load_cases(tmp_path)
    with pytest.raises(DatalistError, match=r"other\.csv: cannot be read"):
        load_cases(tmp_path, tmp_path / "other.csv")

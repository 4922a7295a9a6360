# SPDX-License-Identifier: Apache-2.0
"""Wrong commands: each ends in one line that says what is wrong, with exit code 2, and writes nothing."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from monai_unlearnable.cli import WRONG_INPUT, main
from monai_unlearnable.evaluation.matrix import Matrix
from monai_unlearnable.phantoms import write_phantom_dataset
from tests.helpers import write_class_folders
from tests.pictures import write_pictures

TABLE = Path(__file__).with_name("wrong_commands.txt")
LONGEST = 200  # letters, where no list of names is told
LISTS = ("known are", "expected are", "nothing would change")
BEFORE = ("Usage: ", "dataset ")  # what may stand before the line: how it is used, or what a run found in the dataset

SCAN, LABEL = "imagesTr/phantom_000.nii.gz", "labelsTr/phantom_000.nii.gz"
TERMS = """
title: T
description: D
creators:
  - person: A
license: CC-BY-4.0
url: https://a.example
date: 2026-12-01
contact: a@b.example
"""
FILES = {
    "TEXT/a.txt": "x",
    "FILE.nii.gz": "no",
    "BAD.json": "{",
    "LIST.json": "[1]",
    "TEXT.key": "no key",
    "BADLAB/laboratory.json": "{}",
    "BAD.md": "<!-- evidence: nothing=1 -->\n<!-- /evidence -->\n",
    "NOLABEL.csv": f"image,kind\n{SCAN},a\n",
    "EMPTYCELL.csv": f"image,label\n{SCAN},\n",
    "GONE.csv": "image,label\nnowhere.png,a\n",
    "SPLIT.csv": f"image,label,split\n{SCAN},a,both\n",
    "NOTHING.csv": "",
    "UP.json": json.dumps({"training": [{"image": "../FILE.nii.gz", "label": 1}]}),
    "EMPTY.json": json.dumps({"training": []}),
    "UNLABELED.json": json.dumps({"training": [{"image": SCAN}]}),
    "TWICE.json": json.dumps({"training": [{"image": SCAN, "label": LABEL}] * 2}),
    "TERMS.yaml": TERMS,
    "NOLICENSE.yaml": TERMS.replace("license: CC-BY-4.0", ""),
    "UNKNOWN.yaml": f"{TERMS}titel: x",
    "DATE.yaml": TERMS.replace("2026-12-01", "soon"),
    "LICENSE.yaml": TERMS.replace("CC-BY-4.0", "CC-BY-9"),
    "CREATORS.yaml": TERMS.replace("\n  - person: A", " A"),
    "DUO.yaml": f"{TERMS}duo: [XYZ]",
    "URL.yaml": TERMS.replace("https://a.example", "a.example"),
}


def commands() -> list[tuple[str, str]]:
    lines = [line for line in TABLE.read_text().splitlines() if not line.startswith("#")]
    return [(command, told) for command, _, told in (line.rpartition(" | ") for line in lines)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands of the table name; its head says what that is."""
    root = tmp_path_factory.mktemp("wrong")
    write_phantom_dataset(root / "DATA", count=2, test_count=1, size=(24, 24, 16))
    write_phantom_dataset(root / "OTHER", count=1, test_count=1, size=(24, 24, 16), seed=5)
    shutil.copytree(root / "DATA", root / "NOTEST")
    listed = json.loads((root / "DATA/dataset.json").read_text())
    del listed["test"]
    (root / "NOTEST/dataset.json").write_text(json.dumps(listed))
    shutil.copytree(root / "DATA", root / "BARETEST", ignore=shutil.ignore_patterns("dataset.json", "labelsTs"))
    shutil.copytree(root / "DATA", root / "SAMETEST")
    listed["test"] = listed["training"][:1]
    (root / "SAMETEST/dataset.json").write_text(json.dumps(listed))
    write_class_folders(root / "CLASSES")
    write_class_folders(root / "MORECLASSES", first_seed=20)
    write_pictures(root / "SEVERAL", 4, 2, ("brightness", "stripes"))
    for name in ("EMPTY", "TEXT", "BADLAB"):
        (root / name).mkdir()
    for name, content in FILES.items():
        (root / name).write_text(content)
    (root / "LATIN.csv").write_bytes(b"image,label\nsc\xe9n.png,a\n")
    images, labels = np.zeros((3, 9, 9), np.uint8), np.arange(3)[:, None]
    np.savez(root / "GOOD.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    np.savez(root / "KEYS.npz", images=images)
    Matrix.of(dataset_dir=str(root / "DATA")).save(root / "LABORATORY")
    for words in (
        ["key", "new", "GOOD.key"],
        ["key", "new", "OTHER.key"],
        ["key", "public", "GOOD.key", "GOOD.pub"],
        ["protect", "lattice", "DATA", "DONE"],
        ["protect", "carrier", "DATA", "SEALED", "--key", "GOOD.key", "--carriers", "keyed"],
    ):
        names = [*FILES, "DATA", "DONE", "SEALED", "GOOD.key", "OTHER.key", "GOOD.pub"]
        assert main([str(root / word) if word in names else word for word in words]) == 0
    return root


def written(folder: Path) -> dict[Path, int]:
    """The files of a folder, with the time of their last change."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_there_are_at_least_120() -> None:
    assert len(set(commands())) >= 120


@pytest.mark.parametrize(("command", "told"), commands())
def test_a_wrong_command_is_told_in_one_line(
    command: str, told: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    before = written(folder)
    assert main(shlex.split(command)) == WRONG_INPUT
    printed = capsys.readouterr()
    *more, last = printed.err.strip().replace(f"{folder}/", "").splitlines()
    assert told in last and last.lower().startswith("error: ")
    assert not more or more[0].startswith(BEFORE)
    assert len(last) <= LONGEST or any(words in last for words in LISTS)
    assert not printed.out
    assert written(folder) == before

# SPDX-License-Identifier: Apache-2.0
"""Bad input ends in one line that names the file, the reason and a way out, and in nothing half-written."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_unlearnable.cli import WRONG_INPUT, main
from monai_unlearnable.proof import prepare_laboratory
from tests.helpers import random_image, two_classes, write_datalist, write_dataset, write_nifti

ADDRESS = re.compile(r"\bat 0x|\bnan\b|Traceback|<[\w.]+ object", re.IGNORECASE)
UNDECODABLE = os.fsdecode(b"sc\xe9n")  # Latin-1, on a system that writes UTF-8


def put(root: Path, name: str, content: bytes | str) -> Path:
    """A dataset with a file of this content: an image, unless the name says otherwise, with a label."""
    path = root / name
    if not name.startswith("labels"):
        write_nifti(root / "labels" / f"{Path(name).name.split('.')[0]}.nii.gz", two_classes((9, 8, 7)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def image_file(suffix: str) -> bytes:
    """The bytes of a good picture."""
    import io

    stream = io.BytesIO()
    Image.fromarray(random_image((40, 40), "uint8")).save(stream, suffix)
    return stream.getvalue()


def with_label(root: Path, label: np.ndarray, name: str = "b") -> Path:
    """A dataset whose second label is another one."""
    write_dataset(root)
    (root / "labels" / "b.nii.gz").unlink()
    write_nifti(root / "labels" / f"{name}.nii.gz", label)
    return root


def constant(root: Path) -> Path:
    write_dataset(root)
    write_nifti(root / "images" / "b.nii.gz", np.full((11, 14, 9), 7, np.int16))
    return root


def listed(root: Path, text: str | bytes) -> Path:
    write_dataset(root)
    (root / "datalist.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def other_channels(root: Path) -> Path:
    write_dataset(root)
    write_nifti(root / "images" / "b.nii.gz", random_image((11, 14, 9, 2)))
    return root


GOOD = gzip.compress(b"no scan")
DATASETS: dict[str, tuple[Callable[[Path], Path], list[str], tuple[str, ...]]] = {
    "missing": (lambda root: root / "nowhere", [], ("nowhere: the dataset folder does not exist",)),
    "file": (lambda root: write_dataset(root) / "images" / "a.nii.gz", [], ("a.nii.gz", "give the folder")),
    "empty folder": (lambda root: root, [], ("no cases found", "images/ and labels/")),
    "empty file": (lambda root: put(root, "images/scan[left].nii.gz", b""), [], ("images/scan[left].nii.gz: ",)),
    "markup": (lambda root: put(root, "images/[/b]/x.nii.gz", b""), [], ("images/[/b]/x.nii.gz",)),
    "newline": (lambda root: put(root, "images/a\nb.nii.gz", b""), [], (r"images/a\nb.nii.gz: ",)),
    "escape": (lambda root: put(root, "images/\x1b[31m.nii.gz", b""), [], (r"images/\x1b[31m.nii.gz: ",)),
    "no UTF-8": (lambda root: put(root, f"images/{UNDECODABLE}.nii.gz", b""), [], (r"images/sc\udce9n.nii.gz: ",)),
    "no PNG": (lambda root: put(root, "images/a.png", "text"), [], ("images/a.png: ",)),
    "no TIFF": (lambda root: put(root, "images/a.tif", "text"), [], ("images/a.tif: ",)),
    "no JPEG": (lambda root: put(root, "images/a.jpg", "text"), [], ("images/a.jpg: ",)),
    "no DICOM": (lambda root: put(root, "images/a.dcm", "text"), [], ("images/a.dcm: ",)),
    "no NIfTI": (lambda root: put(root, "images/a.nii.gz", GOOD), [], ("images/a.nii.gz: not a NIfTI file",)),
    "cut PNG": (lambda root: put(root, "images/a.png", image_file("PNG")[:300]), [], ("images/a.png: ",)),
    "cut TIFF": (lambda root: put(root, "images/a.tif", image_file("TIFF")[:-300]), [], ("images/a.tif: ",)),
    "cut gzip": (lambda root: put(root, "images/a.nii.gz", GOOD[:12]), [], ("images/a.nii.gz: ",)),
    "constant": (constant, [], ("images/b.nii.gz: ", "constant", "skip_invalid")),
    "label shape": (lambda root: with_label(root, two_classes((5, 5, 5))), [], ("b.nii.gz: ", "(5, 5, 5)")),
    "half classes": (
        lambda root: with_label(root, two_classes((11, 14, 9)) * np.float32(0.5)),
        [],
        ("labels/b.nii.gz: ", "whole numbers", "skip_invalid"),
    ),
    "unknown class": (write_dataset, ["--label_values", "[0,1]"], ("labels/a.nii.gz: ", "[2]", "label_values")),
    "channels": (other_channels, [], ("images/b.nii.gz: ", "2 channel", "skip_invalid")),
    "no label": (lambda root: with_label(root, two_classes((11, 14, 9)), "other"), [], ("images/b", "no label")),
    "broken list": (lambda root: listed(root, '{"training": [\n{]}'), [], ("datalist.json: cannot be read",)),
    "list of bytes": (lambda root: listed(root, b'{"training": ["\xe9"]}'), [], ("datalist.json: cannot be read",)),
    "list of numbers": (lambda root: listed(root, '{"training": [1]}'), [], ("datalist.json: ", "image")),
    "listed, not there": (
        lambda root: write_datalist(root, [{"image": "[/b]x.nii.gz", "label": 1}]),
        [],
        ("[/b]x.nii.gz: the file does not exist",),
    ),
    "no list": (write_dataset, ["--datalist", "nowhere.json"], ("nowhere.json: ",)),
}


def one_line(text: str, *expected: str) -> None:
    lines = text.strip().splitlines()
    assert len(lines) == 1 and not ADDRESS.search(text), text
    assert all(word in text for word in expected), f"{expected} in {text}"


@pytest.mark.parametrize("kind", DATASETS)
def test_bad_datasets(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, more, expected = DATASETS[kind]
    (tmp_path / "data").mkdir()
    data = make(tmp_path / "data")
    assert main(["protect", "lattice", str(data), str(tmp_path / "out"), *more]) == WRONG_INPUT
    one_line(capsys.readouterr().err, *expected)
    assert not list(tmp_path.glob("out/**/*.*")), "nothing is written"


COMMANDS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "no output": (["verify", "DATA"], ("manifest.json", "give the folder")),
    "no output to restore": (["restore", "DATA", "BACK"], ("manifest.json", "give the folder")),
    "no output to evaluate": (["evaluate", "DATA", "DATA"], ("manifest.json", "give the folder")),
    "nothing there": (["verify", "NOWHERE"], ("nowhere", "give the folder")),
    "no source": (["apply", "NOWHERE", "DATA", "OUT"], ("nowhere",)),
    "no checkpoint": (["apply", "FILE", "DATA", "OUT"], ("file.txt: is not a perturber checkpoint",)),
    "no key": (["protect", "lattice", "DATA", "OUT", "--key", "NOWHERE"], ("nowhere", "key")),
    "no key in it": (["protect", "lattice", "DATA", "OUT", "--key", "FILE"], ("file.txt", "key")),
    "no results": (["compare", "FILE", "FILE"], ("file.txt: the results cannot be read",)),
    "no laboratory": (["report", "DATA"], ("laboratory.json",)),
    "no archive": (["unpack", "FILE", "OUT"], ("file.txt",)),
    "no statement": (["audit", "DATA", "NOWHERE"], ("nowhere",)),
    "no catalog": (["laboratory", "DATA", "OUT", "--catalog", "FILE"], ("file.txt: the catalog",)),
    "no test cases": (["laboratory", "DATA", "OUT"], ("no test cases", "test_dir")),
    "no test folder": (["laboratory", "DATA", "OUT", "--test_dir", "NOWHERE"], ("nowhere: ",)),
    "no value": (["protect", "lattice", "DATA", "OUT", "--epsilon", "["], ("--epsilon is '['", "cannot be read")),
    "no number": (["protect", "lattice", "DATA", "OUT", "--epsilon", "x"], ("epsilon is 'x', not a number",)),
    "no seed": (["protect", "lattice", "DATA", "OUT", "--seed", "null"], ("seed is None, not a whole number",)),
    "no count": (["protect", "umed", "DATA", "OUT", "--epochs", "2.5"], ("epochs is 2.5, not a whole number",)),
    "no sides": (
        ["protect", "umed", "DATA", "OUT", "--dry-run", "--patch_size", "[8, 8]"],
        ("patch_size", "3 dimensions"),
    ),
    "no channels": (
        ["protect", "umed", "DATA", "OUT", "--dry-run", "--network_def#channels", "3"],
        ("network_def#channels is 3, not a list",),
    ),
    "no path": (["protect", "lattice", "DATA", "OUT", "--datalist", "3"], ("3: cannot be read",)),
    "no window": (["protect", "lattice", "DATA", "OUT", "--window", "3"], ("window is 3, not a group",)),
    "no epsilons": (["frontier", "DATA", "OUT", "--epsilons", "6,x"], ("--epsilons holds 'x'",)),
    "no bundle": (["frontier", "DATA", "OUT", "--bundle", "{'a':"], ("--bundle is", "cannot be read")),
    "epsilon twice": (["frontier", "DATA", "OUT", "--bundle", "{epsilon: 1/9}"], ("epsilon cannot be chosen here",)),
    "no settings": (["evidence", "record", "DATA", "--settings", "{'a':"], ("--settings is", "cannot be read")),
    "no part": (["laboratory", "DATA", "OUT", "--part", "[2, 2]"], ("part is [2, 2]; give [i, n]",)),
    "no method": (["protect", "latice", "DATA", "OUT"], ("did you mean 'lattice'",)),
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_bad_arguments(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, expected = COMMANDS[kind]
    (tmp_path / "file.txt").write_text("a: [b\n c: {d")
    known = {"DATA": write_dataset(tmp_path / "data"), "NOWHERE": tmp_path / "nowhere", "FILE": tmp_path / "file.txt"}
    known |= {"OUT": tmp_path / "out", "BACK": tmp_path / "back"}
    assert main([str(known.get(word, word)) for word in words]) == WRONG_INPUT
    one_line(capsys.readouterr().err, *expected)
    assert not (tmp_path / "out").exists() and not (tmp_path / "back").exists()


def test_strange_names_are_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("scan[left]", "[b]o[", "a\nb", UNDECODABLE, "ü é", "empty[/b]")
    data = write_dataset(tmp_path / "data[/i]", names=names, empty=names[-1:])
    test = write_dataset(tmp_path / "test", names=("x",), first_seed=20)
    out = tmp_path / "out[bold]"
    assert main(["protect", "lattice", str(data), str(out)]) == 0
    assert capsys.readouterr().out.endswith("1 of 6 scans are unchanged: images/empty[/b]\n")
    assert main(["verify", str(out), "--clean", str(data)]) == 0
    assert main(["audit", str(out / "protected"), str(out / "statement.json")]) == 0
    assert main(["restore", str(out), str(tmp_path / "restored")]) == 0
    settings = {"iterations": 1, "num_validations": 1, "width": 4, "detectors": False, "authorized": False}
    laboratory = prepare_laboratory(data, tmp_path / "lab", {"[/b]": out}, test_dir=str(test), **settings)
    assert [row.status for row in laboratory.run().rows] == ["done"] * 3
    (out / "protected" / "images" / f"{UNDECODABLE}.nii.gz").unlink()
    assert main(["verify", str(out)]) == 1
    printed = capsys.readouterr()
    assert r"sc\udce9n.nii.gz: the file does not exist" in printed.out and r"sc\udce9n" in printed.err


def test_lists_hold_names_that_are_no_text(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", names=(UNDECODABLE,))
    write_datalist(data, [{"image": f"images/{UNDECODABLE}.nii.gz", "label": f"labels/{UNDECODABLE}.nii.gz"}])
    assert main(["protect", "lattice", str(data), str(tmp_path / "out")]) == 0

# SPDX-License-Identifier: Apache-2.0
"""Bad input of a trace, from the command line: one clear line each, exit code 2, and no result."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

import monai_unlearnable as mu
from monai_unlearnable.cli import WRONG_INPUT, main
from monai_unlearnable.crypto import OwnerKey
from monai_unlearnable.phantoms import write_phantom_dataset
from tests.helpers import write_class_folders

MODEL = "tests.tracing.test_bad_input:empty"
COMMAND = f"{sys.executable} -c '{{}}' {{{{probes}}}} {{{{answers}}}}"


def empty(files: list[str]) -> NDArray:
    """A model that finds nothing."""
    return np.zeros(nib.load(files[0]).shape, int)


def misshaped(files: list[str]) -> NDArray:
    return np.zeros((3, 3), int)


def endless(files: list[str]) -> NDArray:
    time.sleep(60)
    return empty(files)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``DATA``, the traceable ``OUT``, ``KEY``, and prepared ``PROBES`` with their ``ANSWERS``."""
    root = tmp_path_factory.mktemp("good")
    write_phantom_dataset(root / "DATA", count=2, test_count=0, size=(24, 24, 16))
    write_class_folders(root / "PICTURES", counts=(2, 2), shape=(32, 32))
    for name, number in (("KEY", 1), ("OTHER", 2)):
        OwnerKey(bytes([number] * 32)).save(root / name)
    settings = {"key": str(root / "KEY"), "epsilon": 16 / 255}
    mu.protect("carrier", root / "DATA", root / "OUT", carriers="keyed", **settings)
    mu.protect("lattice", root / "DATA", root / "UNMARKED", **settings)
    words = ["OUT", "DATA", "PROBES", "--key", "KEY", "--keys", "1", "--max-probes", "1"]
    assert main(["trace", "prepare", *(str(root / word) if word.isupper() else word for word in words)]) == 0
    (root / "ANSWERS").mkdir()
    for path in sorted((root / "PROBES").iterdir()):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), root / "ANSWERS" / path.name)
    return root


@pytest.fixture
def folder(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that may be spoiled, as the working directory."""
    shutil.copytree(good, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def nothing(root: Path) -> None:
    """Leave all as it is."""


def unstated(root: Path) -> None:
    """A statement without the commitment."""
    path = root / "OUT" / "statement.json"
    content = json.loads(path.read_text())
    del content["mark_sha256"]
    path.write_text(json.dumps(content))


def restated(root: Path) -> None:
    """The statement of a mark that was chosen later."""
    path = root / "OUT" / "statement.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mark_sha256": "0" * 64}))


def first(folder: Path) -> Path:
    return sorted(folder.iterdir())[0]


def change(root: Path) -> None:
    image = nib.load(first(root / "PROBES"))
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine), first(root / "PROBES"))


def misshape(root: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4)), first(root / "ANSWERS"))


ASK = f"trace OUT DATA --key KEY --keys 2 --name new --model {MODEL}"
JUDGE = "trace judge OUT DATA PROBES ANSWERS --key KEY --max-probes 1"
CASES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "wrong key": (ASK.replace("KEY", "OTHER"), nothing, "wrong key"),
    "no key": (ASK.replace("--key KEY ", ""), nothing, "needs the owner's key"),
    "no such key": (ASK.replace("KEY", "NOWHERE"), nothing, "NOWHERE: the key cannot be read"),
    "no mark": (ASK.replace("OUT", "UNMARKED"), nothing, "the noise of SymmetricLattice is not drawn from a key alone"),
    "no commitment": (
        ASK,
        unstated,
        "the statement does not commit to the mark: it has no mark_sha256",
    ),
    "another commitment": (ASK, restated, "statement.json: the statement commits to another mark"),
    "no statement": (ASK, lambda root: (root / "OUT/statement.json").unlink(), "there is no statement that commits"),
    "broken statement": (ASK, lambda root: (root / "OUT/statement.json").write_text("{"), "statement cannot be read"),
    "no set": (ASK.replace("OUT", "NOWHERE"), nothing, "NOWHERE/models/perturber.safetensors"),
    "no probes": (ASK.replace("DATA", "NOWHERE"), nothing, "NOWHERE: the dataset folder does not exist"),
    "probes of another task": (ASK.replace("DATA", "PICTURES"), nothing, "the probes are for another task"),
    "a name that leads away": (ASK.replace("new", "../new"), nothing, "'../new' is no name of a record"),
    "no time": (f"{ASK} --timeout 0", nothing, "timeout is 0 seconds, not above 0"),
    "no keys": (ASK.replace("--keys 2", "--keys 0"), nothing, "keys is 0"),
    "too few classes": (f"{ASK} --answer-classes '[0]'", nothing, "names 1 classes, and the set has"),
    "no model": (ASK.replace(MODEL, "nothing"), nothing, "'nothing' is no model"),
    "no module": (ASK.replace(MODEL, "nothing:there"), nothing, "nothing:there cannot be loaded"),
    "misshaped": (ASK.replace("empty", "misshaped"), nothing, "probe0001: the answer has shape (3, 3); expected is"),
    "a function that hangs": (f"{ASK} --timeout 0.3".replace("empty", "endless"), nothing, "it took too long"),
    "a command that fails": (
        ASK.replace(MODEL, '"' + COMMAND.format('raise SystemExit(\\"no weights\\")') + '"'),
        nothing,
        "failed with exit code 1: no weights",
    ),
    "a command that hangs": (
        f"{ASK} --timeout 0.3".replace(MODEL, '"' + COMMAND.format("import time; time.sleep(60)") + '"'),
        nothing,
        "it took too long",
    ),
    "no answers": (ASK.replace(MODEL, f'"{COMMAND.format("0")}"'), nothing, "the model gave no answer to any probe"),
    "judged with another key": (JUDGE.replace("KEY", "OTHER"), nothing, "wrong key"),
    "judged under another name": (f"{JUDGE} --name new", nothing, "no trace was begun under this name"),
    "judged without answers": (
        JUDGE.replace("ANSWERS", "NOWHERE"),
        nothing,
        "NOWHERE: the folder of the answers",
    ),
    "judged without probes": (
        JUDGE.replace("PROBES", "NOWHERE"),
        nothing,
        "NOWHERE: the folder of the probes",
    ),
    "a changed probe": (JUDGE, change, "probe000001, PROBES: the probe is not there, or was changed since"),
    "a missing probe": (JUDGE, lambda root: first(root / "PROBES").unlink(), "probe000001, PROBES: the probe is not"),
    "a missing answer": (JUDGE, lambda root: first(root / "ANSWERS").unlink(), "gave no answer to any probe"),
    "a misshaped answer": (JUDGE, misshape, "probe000001"),
    "a damaged answer": (JUDGE, lambda root: first(root / "ANSWERS").write_bytes(b"no"), "ANSWERS/probe000001_0000"),
    "nothing to check": ("trace check OUT DATA --key KEY --name new", nothing, "no trace was begun under this name"),
    "no result to check": ("trace check OUT DATA --key KEY", nothing, "the trace has no result yet"),
}


@pytest.mark.parametrize("kind", CASES)
def test_bad_input_is_told_in_one_line(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command, spoil, expected = CASES[kind]
    spoil(folder)
    assert main(shlex.split(command)) == WRONG_INPUT
    told = capsys.readouterr().err.strip().splitlines()
    assert told[-1].startswith("error: ") and expected in told[-1].replace(f"{folder}/", "")
    assert not [line for line in told if "Traceback" in line]
    assert not list((folder / "OUT").rglob("result.json"))

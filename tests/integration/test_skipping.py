# SPDX-License-Identifier: Apache-2.0
"""One bad case among many: it stops the run, or is skipped and named, as the owner wishes."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from monai_unlearnable.__main__ import CHECK_FAILED, WRONG_INPUT, main
from monai_unlearnable.publishing.verify import verify
from tests.helpers import tree, write_dataset

QUICK = ["--epochs", "1", "--epoch_length", "2", "--batch_size", "2"]
SETTINGS = {"umed": [*QUICK, "--network_def#channels", "[4, 8, 8, 8]"], "lattice": []}


def cut(data: Path) -> None:
    path = data / "images" / "a.nii.gz"
    path.write_bytes(path.read_bytes()[:200])


def foreign_label(data: Path) -> None:
    (data / "labels" / "a.nii.gz").write_bytes(b"no label")


def flat(data: Path) -> None:
    other = write_dataset(data.parent / "flat", 2)
    shutil.copyfile(other / "images" / "a.nii.gz", data / "images" / "c.nii.gz")
    shutil.copyfile(other / "labels" / "a.nii.gz", data / "labels" / "c.nii.gz")


def first_flat(data: Path) -> None:
    other = write_dataset(data.parent / "flat", 2)
    for folder in ("images", "labels"):
        shutil.copyfile(other / folder / "a.nii.gz", data / folder / "a.nii.gz")


FAULTS = {"images/a": cut, "labels/a": foreign_label, "images/c": flat}


@pytest.mark.parametrize(
    ("method", "name"),
    [*itertools.product(("umed", "lattice"), FAULTS), ("voxshield", "images/a"), ("salm", "images/a")],
)
def test_it_is_skipped_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str, name: str) -> None:
    spoil: Callable[[Path], None] = FAULTS[name]
    data, out = write_dataset(tmp_path / "data", names=("a", "b", "c")), tmp_path / "out"
    spoil(data)
    before = tree(data)
    settings = SETTINGS.get(method, QUICK)
    words = ["protect", method, str(data), str(out), *settings]
    assert main(words) == WRONG_INPUT and not tree(out), "by default it stops the run"
    assert name in capsys.readouterr().err
    assert main([*words, "--skip_invalid", "True"]) == CHECK_FAILED
    told = capsys.readouterr()
    assert "1 case was skipped" in told.err
    assert f"2 cases, with {method}" in told.out and "to publish" in told.out, "what is done is summed up all the same"
    (case,) = json.loads((out / "skipped.json").read_text())
    assert case == name.replace("labels", "images")
    protected = {entry.case_id for entry in verify(out, data).scans}
    assert protected == {"images/a", "images/b", "images/c"} - {case}
    assert tree(data) == before


def test_most_cases_tell_what_is_usual(tmp_path: Path) -> None:
    data, out = write_dataset(tmp_path / "data", names=("a", "b", "c")), tmp_path / "out"
    first_flat(data)
    assert main(["protect", "lattice", str(data), str(out), "--skip_invalid", "True"]) == CHECK_FAILED
    reasons = json.loads((out / "skipped.json").read_text())
    assert list(reasons) == ["images/a"] and "2D with 1 channels" in reasons["images/a"]
    assert len(verify(out, data).scans) == 2


def test_nothing_to_leave_out_and_nothing_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_dataset(tmp_path / "data")
    words = ["protect", "lattice", str(data), str(tmp_path / "out"), "--skip_invalid", "True"]
    assert main(words) == 0 and not (tmp_path / "out" / "skipped.json").exists()
    for path in (data / "images").iterdir():
        path.write_bytes(b"")
    words[3] = str(tmp_path / "none")
    assert main(words) == WRONG_INPUT and not (tmp_path / "none").exists()
    assert "a.nii.gz" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["umed", "lattice"])
@pytest.mark.parametrize("name", FAULTS)
def test_apply_skips_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str, name: str) -> None:
    settings = SETTINGS.get(method, QUICK)
    assert main(["protect", method, str(write_dataset(tmp_path / "first")), str(tmp_path / "made"), *settings]) == 0
    data, out = write_dataset(tmp_path / "data", names=("a", "b", "c")), tmp_path / "out"
    FAULTS[name](data)
    checkpoint = tmp_path / "made" / "models" / "perturber.safetensors"
    words = ["apply", str(checkpoint), str(data), str(out)]
    assert main(words) == WRONG_INPUT and not tree(out)
    assert name in capsys.readouterr().err
    assert main([*words, "--skip_invalid", "True"]) == CHECK_FAILED
    told = capsys.readouterr()
    assert "1 case was skipped" in told.err and f"2 cases, with the noise of {checkpoint}" in told.out
    (case,) = json.loads((out / "skipped.json").read_text())
    assert case == name.replace("labels", "images")
    assert len(verify(out, data).scans) == 2


def test_stored_noise_has_nothing_to_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = write_dataset(tmp_path / "data"), tmp_path / "out"
    assert main(["protect", "lattice", str(data), str(tmp_path / "made")]) == 0
    words = ["apply", str(tmp_path / "made" / "noise"), str(data), str(out)]
    assert main([*words, "--skip_invalid", "True"]) == WRONG_INPUT and not out.exists()
    assert "no settings to change: --skip_invalid True" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "value"), [("skip_invalid", "maybe"), ("skip_invalid", "null")])
def test_a_switch_is_on_or_off(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, value: str) -> None:
    data, out = write_dataset(tmp_path / "data"), tmp_path / "out"
    assert main(["protect", "lattice", str(data), str(out), f"--{name}", value]) == WRONG_INPUT
    assert f"{name} is True or False" in capsys.readouterr().err and not out.exists()
    assert main(["protect", "lattice", str(data), str(out), f"--{name}", "$True"]) == 0, "an expression may say it"

# SPDX-License-Identifier: Apache-2.0
"""Wrong commands: each ends in one line that says what is wrong, with exit code 2, and writes nothing."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from monai_unlearnable.cli import WRONG_INPUT, main
from monai_unlearnable.phantoms import write_phantom_dataset

TABLE = Path(__file__).with_name("wrong_commands.txt")
LONGEST = 200  # letters, where no list of names is told
LISTS = ("known are", "expected are", "nothing would change")


def commands() -> list[tuple[str, str]]:
    lines = [line for line in TABLE.read_text().splitlines() if not line.startswith("#")]
    return [(command, told) for command, _, told in (line.rpartition(" | ") for line in lines)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("wrong")
    write_phantom_dataset(root / "DATA", count=2, test_count=1, size=(24, 24, 16))
    for name in ("EMPTY", "TEXT"):
        (root / name).mkdir()
    contents = {"TEXT/a.txt": "x", "FILE.nii.gz": "no", "BAD.json": "{", "LIST.json": "[1]", "TEXT.key": "no key"}
    for name, content in contents.items():
        (root / name).write_text(content)
    return root


def test_there_are_at_least_120() -> None:
    assert len(set(commands())) >= 120


@pytest.mark.parametrize(("command", "told"), commands())
def test_a_wrong_command_is_told_in_one_line(
    command: str, told: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert main(shlex.split(command)) == WRONG_INPUT
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert told in last.replace(f"{folder}/", "")
    assert last.lower().startswith("error: ")
    shown = last.replace(f"{folder}/", "")
    assert len(shown) <= LONGEST or any(words in shown for words in LISTS)
    assert not [path for path in (folder / "OUT").rglob("*") if path.is_file()]

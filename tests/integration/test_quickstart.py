# SPDX-License-Identifier: Apache-2.0
"""The Python of the quickstart runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from monai_unlearnable.data import load_cases, read_scan

PAGE = Path(__file__).parents[2] / "docs" / "quickstart.md"


def test_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    section = PAGE.read_text(encoding="utf-8").partition("## From Python")[2]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert "every file is as recorded" in printed and "notes.txt is not in the manifest" in printed
    assert sorted(path.name for path in (tmp_path / "encrypted/noise").glob("*.json*")) == ["manifest.json.sealed"]
    assert not (tmp_path / "out").exists() and not (tmp_path / "restored").exists(), "the commands above write these"
    for case in load_cases(tmp_path / "phantoms"):
        clean = read_scan(case.root / case.images[0]).digest()
        restored = [read_scan(tmp_path / name / case.images[0]).digest() for name in ("restored_lattice", "back")]
        assert restored == [clean, clean]

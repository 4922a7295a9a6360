# SPDX-License-Identifier: Apache-2.0
"""The tutorial runs as it is printed, and does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from monai_unlearnable.crypto import OwnerKey
from monai_unlearnable.noise import Manifest

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"


def test_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(OwnerKey, "generate", lambda: OwnerKey(bytes(range(32))))  # of 20 keys one answers by chance
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert "task         segmentation in 3D, 1 channel, 3 classes" in printed
    assert "every file is as recorded" in printed
    assert "after 10 iterations" in printed and Path("out/report/index.html").is_file()
    assert "no evidence that the model was trained on the set" in printed
    assert "the originals again: True" in printed
    manifest = names["manifest"]
    assert isinstance(manifest, Manifest) and len(manifest.scans) == 8
    assert {file.suffix for file in Path("out/noise").rglob("*") if file.is_file()} == {".sealed"}
    colors = Image.open("look.png").convert("L").getextrema()
    assert colors == (0, 255), "the pictures are drawn"

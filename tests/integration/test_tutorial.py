# SPDX-License-Identifier: Apache-2.0
"""The tutorial, as a page and as a notebook: it runs as it is printed, and does what it says."""

from __future__ import annotations

import base64
import io
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from monai_unlearnable.crypto import OwnerKey, load_key
from monai_unlearnable.noise import Manifest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "tutorial.md").read_text(encoding="utf-8")
NOTEBOOK = runpy.run_path(str(DOCS / "notebook.py"))


def source(cells: list[dict[str, Any]], kind: str) -> str:
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == kind)


def test_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(OwnerKey, "generate", lambda: OwnerKey(bytes(range(32))))  # of 20 keys one answers by chance
    cells = NOTEBOOK["cells_of"](PAGE)
    NOTEBOOK["run"](cells)
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    printed = "".join(line for output in outputs for line in output.get("text", ()))
    assert "task         segmentation in 3D, 1 channel, 3 classes" in printed
    assert "every file is as recorded" in printed
    assert "after 10 iterations" in printed and Path("out/report/index.html").is_file()
    assert "no evidence that the model was trained on the set" in printed
    assert "the originals again: True" in printed
    assert len(Manifest.load(Path("out/noise/manifest.json"), load_key("owner.key")).scans) == 8
    assert {file.suffix for file in Path("out/noise").rglob("*") if file.is_file()} == {".sealed"}
    (shown,) = [output["data"]["image/png"] for output in outputs if "data" in output]
    colors = Image.open(io.BytesIO(base64.b64decode(shown))).convert("L").getextrema()
    assert colors == (0, 255), "the pictures are drawn"


def test_the_notebook_says_what_the_page_says(tmp_path: Path) -> None:
    NOTEBOOK["write"](NOTEBOOK["cells_of"](PAGE), tmp_path / "tutorial.ipynb")
    found = json.loads((tmp_path / "tutorial.ipynb").read_text(encoding="utf-8"))
    assert (found["nbformat"], len({cell["id"] for cell in found["cells"]})) == (4, len(found["cells"]))
    blocks = re.findall(r"```python\n(.*?)\n```", PAGE, re.DOTALL)
    assert source(found["cells"], "code") == "\n".join(blocks)
    text = source(found["cells"], "markdown")
    headings = re.findall(r"^#+ .*$", PAGE, re.MULTILINE)
    assert [line for line in text.splitlines() if line.startswith("#")] == headings
    assert "](" not in text and "{download}" not in text, "no link to what is not beside it"

# SPDX-License-Identifier: Apache-2.0
"""The tutorial as a notebook, made from its page: the build of the documentation runs it and offers it for download.

python docs/notebook.py tutorial.ipynb    # writes it without running it
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from monai_unlearnable.utils.progress import hush_monai

PAGE = Path(__file__).with_name("tutorial.md")
NOTEBOOK = PAGE.with_suffix(".ipynb")
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\[([^\]]+)\]\((?!https?://)[^)]*\)")  # to other pages, which a notebook does not have beside it
OFFER = re.compile(r"^.*\{download\}.*\n\n", re.MULTILINE)  # of the notebook itself
FORMAT = {
    "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}

Cell = dict[str, Any]


def cells_of(page: str) -> list[Cell]:
    """The cells of a page in Markdown: its text, and its blocks of Python."""
    found: list[Cell] = []
    for index, part in enumerate(BLOCK.split(OFFER.sub("", page))):
        is_code = index % 2 == 1
        lines = (part if is_code else LINK.sub(r"\1", part)).strip().splitlines(keepends=True)
        kind = {"cell_type": "code", "execution_count": None, "outputs": []} if is_code else {"cell_type": "markdown"}
        if lines:
            found.append({**kind, "id": f"part-{index}", "metadata": {}, "source": lines})
    return found


def run(cells: list[Cell]) -> None:
    """Run the code of cells in the working directory, and keep what it prints and the pictures that it saves."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for count, cell in enumerate((cell for cell in cells if cell["cell_type"] == "code"), 1):
        known = set(Path().glob("*.png"))
        with redirect_stdout(io.StringIO()) as printed:
            exec(compile("".join(cell["source"]), f"block {count}", "exec"), names)  # noqa: S102 - our own page
        text = printed.getvalue().splitlines(keepends=True)
        pictures = sorted(set(Path().glob("*.png")) - known)
        cell["execution_count"] = count
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": text}] if text else []
        cell["outputs"] += [_shown(picture) for picture in pictures]


def _shown(picture: Path) -> dict[str, Any]:
    """A picture as a cell shows it."""
    data = {"image/png": base64.b64encode(picture.read_bytes()).decode(), "text/plain": [picture.name]}
    return {"output_type": "display_data", "metadata": {}, "data": data}


def write(cells: list[Cell], file: Path) -> None:
    """Write cells as a notebook."""
    file.write_text(json.dumps({"cells": cells, **FORMAT}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def _elsewhere() -> Iterator[None]:
    """Work in an empty folder, which is gone afterwards."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def build(app: Any) -> None:
    """Write the notebook beside its page; it is run where pages are written, and not where they are only checked."""
    cells = cells_of(PAGE.read_text(encoding="utf-8"))
    if app.builder.format == "html":
        hush_monai()  # whose remarks would stand among what the blocks print
        with _elsewhere():
            run(cells)
    write(cells, NOTEBOOK)


def setup(app: Any) -> dict[str, Any]:
    """Connect to the build of the documentation."""
    app.connect("builder-inited", build)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    write(cells_of(PAGE.read_text(encoding="utf-8")), Path(sys.argv[1]))

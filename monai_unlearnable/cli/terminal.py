# SPDX-License-Identifier: Apache-2.0
"""What commands share with the terminal: its name, exit codes, the width of a page, text that is fit to print."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = [
    "CHECK_FAILED",
    "INTERRUPTED",
    "PAGE_WIDTH",
    "PROGRAM",
    "WRONG_INPUT",
    "console",
    "encodable",
    "printable",
    "settings_table",
    "typed_program",
]

PROGRAM = "monai-unlearnable"
CHECK_FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130  # exit codes
PAGE_WIDTH = 120  # of output that is not a terminal, for tables to fit


def console() -> Console:
    """The console that tables are printed on."""
    return Console(width=None if sys.stdout.isatty() else PAGE_WIDTH)


def settings_table(settings: Iterable[Any]) -> Table:
    """The settings of a manual, a line each."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    for name in ("Setting", "Default", "Meaning"):
        table.add_column(name, no_wrap=name == "Setting")
    for setting in settings:
        table.add_row(f"--{setting.name}", setting.default, setting.meaning)
    return table


def typed_program() -> str:
    """The words that the program was started with."""
    return f"python -m {__package__.partition('.')[0]}" if Path(sys.argv[0]).name == "__main__.py" else PROGRAM


def encodable(text: str) -> str:
    """A text without what no encoding has, which names of files may hold."""
    return text.encode(errors="backslashreplace").decode()


def printable(text: str) -> str:
    """A text without characters that control a terminal or are none, which names of files may hold."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

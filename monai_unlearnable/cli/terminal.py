# SPDX-License-Identifier: Apache-2.0
"""What commands share with the terminal: its name, exit codes, the width of a page, text that is fit to print."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

__all__ = [
    "CHECK_FAILED",
    "INTERRUPTED",
    "PAGE_WIDTH",
    "PROGRAM",
    "WRONG_INPUT",
    "console",
    "encodable",
    "printable",
    "typed_program",
]

PROGRAM = "monai-unlearnable"
CHECK_FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130  # exit codes
PAGE_WIDTH = 120  # of output that is not a terminal, for tables to fit


def console() -> Console:
    """The console that tables are printed on."""
    return Console(width=None if sys.stdout.isatty() else PAGE_WIDTH)


def typed_program() -> str:
    """The words that the program was started with."""
    return f"python -m {__package__.partition('.')[0]}" if Path(sys.argv[0]).name == "__main__.py" else PROGRAM


def encodable(text: str) -> str:
    """A text without what no encoding has, which names of files may hold."""
    return text.encode(errors="backslashreplace").decode()


def printable(text: str) -> str:
    """A text without characters that control a terminal or are none, which names of files may hold."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

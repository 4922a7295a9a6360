# SPDX-License-Identifier: Apache-2.0
"""What commands share with the terminal: exit codes, the width of a page, text that is fit to print."""

from __future__ import annotations

import sys

from rich.console import Console

__all__ = ["CHECK_FAILED", "PAGE_WIDTH", "WRONG_INPUT", "console", "printable"]

CHECK_FAILED, WRONG_INPUT = 1, 2  # exit codes
PAGE_WIDTH = 120  # of output that is not a terminal, for tables to fit


def console() -> Console:
    """The console that tables are printed on."""
    return Console(width=None if sys.stdout.isatty() else PAGE_WIDTH)


def printable(text: str) -> str:
    """A text without characters that control a terminal or are none, which names of files may hold."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

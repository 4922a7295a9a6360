# SPDX-License-Identifier: Apache-2.0
"""Pieces of HTML that all sections share; every string from outside is escaped here or by the caller."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["LONG", "NOTHING", "section", "table", "text_table", "head", "details", "note"]

LONG = 24  # rows of all tables of a kind together that are shown unfolded
WIDE = 8  # columns; tables with more may be wider than the text
NOTHING = '<p class="note">None.</p>'


def section(title: str, *parts: str) -> str:
    """A section with a heading; nothing where all parts are empty.

    Args:
        title: plain text.
        parts: HTML.
    """
    content = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>" if content else ""


def table(label: str, head: str, body: Iterable[str], kind: str = "") -> str:
    """A table that scrolls by itself where the screen is narrow.

    Args:
        label: for readers that hear the page; plain text.
        head: cells of the head, HTML.
        body: rows, HTML.
        kind: class of the table.
    """
    rows = "".join(body)
    inner = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    scroll = "scroll wide" if head.count("<th") > WIDE else "scroll"
    return f'<div class="{scroll}" role="region" aria-label="{escape(label)}" tabindex="0">{inner}</div>'


def text_table(label: str, names: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1, kind: str = "") -> str:
    """A table of plain text; empty where there are no rows.

    Args:
        label: for readers that hear the page.
        names: of the columns.
        rows: as many cells as names.
        words: number of leading columns that hold words, the first of them heads of rows.
        kind: class of the table.
    """
    body = []
    for first, *others in rows:
        cells = [f"<td{_words(column, words)}>{escape(cell)}</td>" for column, cell in enumerate(others, 1)]
        body.append(f'<tr><th scope="row">{escape(first)}</th>{"".join(cells)}</tr>')
    return table(label, head(names, words), body, kind) if body else ""


def head(names: Sequence[str], words: int) -> str:
    """Cells of a table's head, the first ``words`` of them over words."""
    return "".join(f'<th scope="col"{_words(column, words)}>{escape(name)}</th>' for column, name in enumerate(names))


def _words(column: int, words: int) -> str:
    return ' class="words"' if column < words else ""


def details(title: str, content: str, unfolded: bool = False) -> str:
    """Content behind a title that unfolds it; empty where there is no content.

    Args:
        title: plain text.
        content: HTML.
        unfolded: whether it is open at first.
    """
    start = "<details open>" if unfolded else "<details>"
    return f"{start}<summary>{escape(title)}</summary>{content}</details>" if content else ""


def note(text: str) -> str:
    """A remark below a table."""
    return f'<p class="note">{escape(text)}</p>'

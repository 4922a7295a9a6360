# SPDX-License-Identifier: Apache-2.0
"""Tables in Markdown files between two comments, the first of which holds their query.

.. code-block:: text

    <!-- evidence: dataset=hippocampus method=umed -->
    (the table, written by ``monai-unlearnable evidence render``)
    <!-- /evidence -->

``traces:`` in the place of ``evidence:`` asks for a table of traces.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from monai_unlearnable.errors import InputError
from monai_unlearnable.evidence.entries import Entry
from monai_unlearnable.evidence.queries import Query
from monai_unlearnable.evidence.tables import render
from monai_unlearnable.evidence.traces import TraceEntry, render_traces
from monai_unlearnable.utils.files import write_atomic

__all__ = ["DOCUMENTS", "documents", "rendered", "rewrite", "stale"]

DOCUMENTS = ("README.md", "docs/**/*.md", "bundles/*/docs/README.md", "benchmarks/README.md")
BEGIN, END = "<!-- (evidence|traces):", "<!-- /evidence -->"
BLOCK = re.compile(rf"^({BEGIN} (.*?) -->\n).*?^({END})$", re.S | re.M)


def documents(root: str | Path) -> list[Path]:
    """The Markdown files of a checkout that may hold tables."""
    return sorted(path for pattern in DOCUMENTS for path in Path(root).glob(pattern))


def rendered(
    text: str,
    entries: Mapping[str, Entry],
    traces: Mapping[str, TraceEntry],
    file: Path | None = None,
) -> str:
    """Markdown with all of its tables rendered anew.

    Args:
        text: Markdown.
        entries: entries by name.
        traces: traces by name.
        file: name of the file, for errors.

    Raises:
        InputError: naming the file and the query, when a query cannot be read or finds nothing, or a block does not
            end.
    """

    def block(match: re.Match[str]) -> str:
        begin, kind, query, end = match.groups()
        if re.search(BEGIN, match[0][len(begin) :]):
            raise InputError(f"the table of {query!r} does not end", file=file)
        try:
            table = render(Query.of(query), entries) if kind == "evidence" else render_traces(query, traces.values())
            return f"{begin}{table}{end}"
        except InputError as error:
            raise InputError(f"the table of {query!r} cannot be rendered: {error.reason}", file=file) from error

    found = BLOCK.sub(block, text)
    begun = len(re.findall(f"^{BEGIN}", text, re.M))
    if begun != len(BLOCK.findall(text)):
        raise InputError(f"a table does not end; each needs a line {END!r}", file=file)
    return found


def rewrite(files: Iterable[Path], entries: Mapping[str, Entry], traces: Mapping[str, TraceEntry]) -> list[Path]:
    """Render the tables of files anew.

    Returns:
        The files that changed.
    """
    changed = list(_changes(files, entries, traces))
    for path, text in changed:
        write_atomic(path, text.encode())
    return [path for path, _ in changed]


def stale(files: Iterable[Path], entries: Mapping[str, Entry], traces: Mapping[str, TraceEntry]) -> list[Path]:
    """The files with a table that differs from the entries."""
    return [path for path, _ in _changes(files, entries, traces)]


def _changes(
    files: Iterable[Path], entries: Mapping[str, Entry], traces: Mapping[str, TraceEntry]
) -> Iterator[tuple[Path, str]]:
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"the file cannot be read: {reason}", file=path) from error
        if (new := rendered(text, entries, traces, path)) != text:
            yield path, new

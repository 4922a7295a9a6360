# SPDX-License-Identifier: Apache-2.0
"""Tables of the class of each image, or of its classes in several tasks."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from monai_unlearnable.errors import DatalistError
from monai_unlearnable.utils.enums import CaseKeys

__all__ = ["NOT_UTF8", "SECTIONS", "TABLE_NAME", "TABLE_SUFFIXES", "read_class_names", "read_table"]

NOT_UTF8 = (
    "cannot be read: it is not UTF-8; save it as text in this encoding (Excel, Notepad and PowerShell have others too)"
)
TABLE_NAME = "labels.csv"
TABLE_SUFFIXES = (".csv", ".tsv")
DELIMITERS = ",;\t"
SECTION = "section"
TASK = "label_"  # begins the name of the column of a task
# The names of each column; the first one that exists counts.
COLUMNS = {
    CaseKeys.IMAGE: ("image", "file", "filename", "path"),
    CaseKeys.LABEL: ("label", "class", "target"),
    SECTION: ("split", "section"),
    CaseKeys.CASE_ID: ("case_id",),
}
REQUIRED = (CaseKeys.IMAGE, CaseKeys.LABEL)
# The names of the parts of a dataset, and the section of a datalist that each is.
SECTIONS = {
    **dict.fromkeys(("training", "train"), "training"),
    **dict.fromkeys(("validation", "val", "valid"), "validation"),
    "test": "test",
}


def read_table(
    path: Path, section: str, section_of: Callable[[str], str | None] = lambda _: None
) -> list[dict[str, Any]]:
    """The rows of one section as entries of a datalist: ``image`` a file, ``label`` a class, ``case_id`` if given.

    Cells are separated by commas, semicolons or tabs, whichever the header has most of. If every label of the file is
    a whole number from 0 on, it is the class. Else every label is a name, numbers among them too, and the classes are
    the places of the sorted names of the whole file, so that sections agree.

    Where no column holds the label, each one called ``label_`` and a name is that of a task: ``label_view`` that of the
    task ``view``. Then ``label`` holds the class of each task by its name; a single task is a label like any other.

    Args:
        path: the table; UTF-8, a byte order mark is passed over.
        section: ``training``, ``validation`` or ``test``; a table without sections is all training.
        section_of: tells the section of an image by its folders; where it tells several, they count for a table that
            has no column of sections.

    Raises:
        DatalistError: naming file and line, when a column is missing, a cell is empty, a section is unknown, or no row
            is of the section.
    """
    rows = _read_rows(path)
    classes = _classes_of_labels(rows)
    if rows and SECTION not in rows[0]:
        told = [section_of(row[CaseKeys.IMAGE]) or "training" for row in rows]
        if len({*told}) > 1:
            rows = [{**row, SECTION: found} for row, found in zip(rows, told, strict=True)]
    kept = [row for row in rows if row.pop(SECTION, "training") == section]
    if not kept:
        raise DatalistError(f"no row is of the section {section!r}", file=path)
    entries: list[dict[str, Any]] = []
    for row in kept:
        found = {column.removeprefix(TASK): known[row.pop(column)] for column, known in classes.items()}
        entries.append({**row, CaseKeys.LABEL: found if len(found) > 1 else next(iter(found.values()))})
    return entries


def read_class_names(path: Path) -> tuple[tuple[str, ...], ...]:
    """The names of the classes of each label of a table, tasks in sorted order.

    Those of a label that is a number are empty, and so is all where every label is.

    Raises:
        DatalistError: when :func:`read_table` raises it for the whole file.
    """
    classes = sorted(_classes_of_labels(_read_rows(path)).items())
    names = tuple(() if _are_numbers(known) else tuple(known) for _, known in classes)
    return names if any(names) else ()


def _classes_of_labels(rows: Sequence[dict[str, str]]) -> dict[str, dict[str, int]]:
    """The class of each text in every column of labels."""
    columns = [use for use in rows[0] if use == CaseKeys.LABEL or use.startswith(TASK)] if rows else []
    return {column: _classes(row[column] for row in rows) for column in columns}


def _classes(cells: Iterable[str]) -> dict[str, int]:
    """The class of each text in a column of labels, in sorted order."""
    names = sorted(set(cells))
    are_numbers = _are_numbers(names)
    return {name: int(name) if are_numbers else index for index, name in enumerate(names)}


def _are_numbers(names: Iterable[str]) -> bool:
    return all(name.isascii() and name.isdecimal() for name in names)


def _read_rows(path: Path) -> list[dict[str, str]]:
    """The cells of every row by their use."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeError as error:
        raise DatalistError(NOT_UTF8, file=path) from error
    except OSError as error:
        raise DatalistError(f"cannot be read: {error.strerror or error}", file=path) from error
    header = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text), delimiter=max(DELIMITERS, key=header.count), strict=True)
    try:
        columns = _find_columns(reader.fieldnames or ())
        return [_read_row(cells, columns) for cells in reader]
    except (csv.Error, ValueError) as error:
        raise DatalistError(f"line {max(1, reader.reader.line_num)}: {error}", file=path) from error


def _find_columns(header: Iterable[str]) -> dict[str, str]:
    names = {name.strip().lower(): name for name in header}
    found = {}
    for use, known in COLUMNS.items():
        name = next((names[name] for name in known if name in names), None)
        if name is not None:
            found[use] = name
        elif use == CaseKeys.LABEL and (tasks := {name: names[name] for name in names if name.startswith(TASK)}):
            if TASK in tasks:
                raise ValueError(f"the column {tasks[TASK]!r} names no task; call it {TASK} and the name of one")
            found.update(tasks)
        elif use in REQUIRED:
            more = f", or {TASK} and the name of a task" if use == CaseKeys.LABEL else ""
            raise ValueError(f"no column is called {' or '.join(known)}{more}")
    return found


def _read_row(cells: dict[str, Any], columns: dict[str, str]) -> dict[str, str]:
    if None in cells:
        raise ValueError("the row has more cells than the header")
    row = {use: (cells[name] or "").strip() for use, name in columns.items()}
    empty = [columns[use] for use, cell in row.items() if not cell]
    if empty:
        raise ValueError(f"the cell of column {empty[0]!r} is empty")
    if SECTION in row:
        name = row[SECTION]
        row[SECTION] = SECTIONS.get(name.lower(), "")
        if not row[SECTION]:
            raise ValueError(f"{name!r} is not a section; known are {', '.join(SECTIONS)}")
    return row

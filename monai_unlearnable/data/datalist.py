# SPDX-License-Identifier: Apache-2.0
"""The content of a folder: cases from datalists, tables and folders of files."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from monai_unlearnable.data.dicom import is_annotation, is_series
from monai_unlearnable.data.formats import find_format, output_name, stem
from monai_unlearnable.errors import DatalistError, LabelError, ScanError
from monai_unlearnable.utils.enums import CaseKeys
from monai_unlearnable.utils.files import below, leads_outside, reading

__all__ = ["Case", "load_cases", "DATALIST_NAMES", "SECTIONS", "TABLE_NAME", "TABLE_SUFFIXES", "read_table"]

DATALIST_NAMES = ("datalist.json", "dataset.json")
FOLDERS = (("images", "labels"), ("images", "masks"), ("imagesTr", "labelsTr"))
NNUNET_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


@dataclass(frozen=True)
class Case:
    """One sample, its files relative to ``root``.

    Args:
        case_id: name of the case.
        root: folder of the dataset.
        images: one or more image files or folders of DICOM series, one a channel group.
        label: label map, if there is one.
        target: class of the whole image, counted from 0, if it has one.
    """

    case_id: str
    root: Path
    images: tuple[str, ...]
    label: str | None = None
    target: int | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Its images, and its label map if there is one."""
        return self.images if self.label is None else (*self.images, self.label)

    def to_dict(self) -> dict[str, Any]:
        """The dictionary that MONAI pipelines take: ``image`` a path or list of paths, ``label`` a path or a class."""
        paths = [str(self.root / name) for name in self.images]
        item: dict[str, Any] = {CaseKeys.IMAGE: paths if len(paths) > 1 else paths[0], CaseKeys.CASE_ID: self.case_id}
        if self.label is not None:
            item[CaseKeys.LABEL] = str(self.root / self.label)
        elif self.target is not None:
            item[CaseKeys.LABEL] = self.target
        return item


def load_cases(
    dataset_dir: str | Path, datalist: str | Path | None = None, section: str = "training", require_labels: bool = True
) -> list[Case]:
    """List the cases of a dataset in a fixed order.

    Args:
        dataset_dir: folder that file names are relative to.
        datalist: Decathlon-style JSON file, or table of classes (:func:`~monai_unlearnable.data.datalist.read_table`);
            by default ``datalist.json`` or ``dataset.json`` in the folder. Without one, or if it lacks the section,
            folder names tell, or ``labels.csv`` where there are no folders of label maps.
        section: list of the datalist to take.
        require_labels: whether a case without a label is an error.

    Raises:
        DatalistError: when nothing is found, a datalist or table is broken, a case id occurs twice, a file lies
            outside the folder, or a label bears the name of an image.
        LabelError: naming the case whose label is missing.
    """
    root = Path(dataset_dir)
    with reading(root, DatalistError):
        if not root.is_dir():
            raise DatalistError("the dataset folder does not exist", file=root)
        cases = _from_datalist(root, datalist, section)
        if cases is None:
            cases = _from_folders(root)
            if not any(case.label for case in cases) and (root / TABLE_NAME).is_file():
                cases = _from_datalist(root, root / TABLE_NAME, section)
            cases = cases or _from_class_folders(root)
        if not cases:
            lists = f"{' or '.join((*DATALIST_NAMES, TABLE_NAME))} with a section {section!r}"
            folders = "images/ and labels/, imagesTr/ and labelsTr/, or a folder for each class"
            raise DatalistError(f"no cases found: expected {lists}, {folders}", file=root)
        _check(cases, require_labels)
    return cases


def _from_datalist(root: Path, datalist: str | Path | None, section: str) -> list[Case] | None:
    path = Path(datalist) if datalist else next((root / n for n in DATALIST_NAMES if (root / n).is_file()), None)
    if path is None:
        return None
    if path.suffix.lower() in TABLE_SUFFIXES:
        return [_entry(root, path, entry) for entry in read_table(path, section)]
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatalistError(f"cannot be read: {error}", file=path) from error
    entries = content.get(section) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        if datalist is None:
            return None  # nnU-Net's dataset.json lists no cases
        raise DatalistError(f"holds no list {section!r}", file=path)
    return [_entry(root, path, entry) for entry in entries]


def _entry(root: Path, path: Path, entry: Any) -> Case:
    fields: dict[str, Any] = entry if isinstance(entry, dict) else {}
    found, label = fields.get(CaseKeys.IMAGE), fields.get(CaseKeys.LABEL)
    names: list[Any] = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    are_names = names and all(isinstance(name, str) for name in names)
    if not are_names or not (label is None or isinstance(label, str) or _is_class(label)):
        raise DatalistError(f"an entry names no image file, or neither label file nor class: {entry!r}", file=path)
    images = tuple(_inside(root, name, path) for name in names)
    case_id = str(fields.get(CaseKeys.CASE_ID, stem(images[0])))
    if _is_class(label):
        return Case(case_id, root, images, target=label)
    return Case(case_id, root, images, None if label is None else _label_file(root, _inside(root, label, path)))


def _label_file(root: Path, name: str) -> str:
    """The segmentation that a folder holds, for a label given as the folder; other names as they are."""
    if not (root / name).is_dir():
        return name
    files = sorted(path for path in (root / name).iterdir() if not path.name.startswith("."))
    if not any(map(is_annotation, files)):
        return name
    if len(files) > 1:
        reason = f"the folder of a DICOM segmentation holds {len(files)} files; it must hold that one alone"
        raise DatalistError(reason, file=root / name)
    return (root / name / files[0].name).relative_to(root).as_posix()


def _is_class(label: Any) -> bool:
    return isinstance(label, int) and not isinstance(label, bool) and label >= 0


def _inside(root: Path, name: str, path: Path) -> str:
    relative = Path(name).relative_to(root) if Path(name).is_absolute() and Path(name).is_relative_to(root) else name
    if leads_outside(str(relative)):
        raise DatalistError(f"{name!r} lies outside the dataset folder", file=path)
    return PurePath(relative).as_posix()


def _from_folders(root: Path) -> list[Case]:
    pairs = [pair for pair in FOLDERS if (root / pair[0]).is_dir()]
    if not pairs:
        return []
    images, labels = next((pair for pair in pairs if (root / pair[1]).is_dir()), pairs[0])
    label_of = {stem(name): _label_file(root, name) for name in _files(root, labels)}
    groups: dict[str, list[str]] = {}
    for name in _files(root, images):
        channel = NNUNET_CHANNEL.match(stem(name)) if images == "imagesTr" else None
        groups.setdefault(channel["case"] if channel else stem(name), []).append(name)
    return [
        Case(case_id, root, tuple(names), label_of.get(f"{labels}/{case_id.removeprefix(images + '/')}"))
        for case_id, names in groups.items()
    ]


def _from_class_folders(root: Path) -> list[Case]:
    """Folders with images directly in them, whose names in ascending order are the classes 0, 1, ...; at least two."""
    folders = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = ([name for name in _files(root, folder) if name.count("/") == 1] for folder in folders)
    classes = [files for files in found if files]
    if len(classes) < 2:
        return []
    return [Case(stem(name), root, (name,), target=index) for index, files in enumerate(classes) for name in files]


def _files(root: Path, folder: str) -> list[str]:
    """The images below a folder; where DICOM files lie directly in a folder below, that folder is the image."""
    names = []
    series: Path | None = None
    for path in below(root / folder):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if hidden or (series is not None and series in path.parents):
            continue
        if path.is_dir():
            if not is_series(path):
                continue
            series = path
        else:
            try:
                find_format(path)
            except ScanError:
                continue
        names.append(path.relative_to(root).as_posix())
    return names


def _check(cases: Sequence[Case], require_labels: bool) -> None:
    # A series is published as a whole folder, in which nothing else can be.
    series = {PurePosixPath(name) for case in cases for name in case.images if (case.root / name).is_dir()}
    outputs = {output_name(name) for case in cases for name in case.images}
    seen: set[str] = set()
    for case in cases:
        for scan_id in {case.case_id, *map(stem, case.images)}:
            if scan_id in seen:
                raise DatalistError("the case or file is listed twice", case=scan_id, file=case.root)
            seen.add(scan_id)
        for name in case.files:
            path = PurePosixPath(name)
            if path == PurePosixPath(".") or series.intersection(path.parents):
                reason = "lies inside the folder of a series, or is the folder of the dataset; give each one of its own"
                raise DatalistError(reason, case=case.case_id, file=case.root / name)
            if not (case.root / name).exists():
                raise DatalistError("the file does not exist", case=case.case_id, file=case.root / name)
        if case.label in outputs:
            reason = "both an image and a label would be published under this name"
            raise DatalistError(reason, case=case.case_id, file=case.root / case.label)
        if require_labels and case.label is None and case.target is None:
            raise LabelError("the case has no label", case=case.case_id, file=case.root / case.images[0])


TABLE_NAME = "labels.csv"
TABLE_SUFFIXES = (".csv", ".tsv")
DELIMITERS = ",;\t"
SECTION = "section"
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


def read_table(path: Path, section: str) -> list[dict[str, Any]]:
    """The rows of one section as entries of a datalist: ``image`` a file, ``label`` a class, ``case_id`` if given.

    Cells are separated by commas, semicolons or tabs, whichever the header has most of. If every label of the file is
    a whole number from 0 on, it is the class. Else every label is a name, numbers among them too, and the classes are
    the places of the sorted names of the whole file, so that sections agree.

    Args:
        path: the table; UTF-8, a byte order mark is passed over.
        section: ``training``, ``validation`` or ``test``; a table without sections is all training.

    Raises:
        DatalistError: naming file and line, when a column is missing, a cell is empty, a section is unknown, or no row
            is of the section.
    """
    rows = _read_rows(path)
    names = sorted({row[CaseKeys.LABEL] for row in rows})
    are_numbers = all(name.isascii() and name.isdecimal() for name in names)
    classes = {name: int(name) if are_numbers else index for index, name in enumerate(names)}
    kept = [row for row in rows if row.pop(SECTION, "training") == section]
    entries = [{**row, CaseKeys.LABEL: classes[row[CaseKeys.LABEL]]} for row in kept]
    if not entries:
        raise DatalistError(f"no row is of the section {section!r}", file=path)
    return entries


def _read_rows(path: Path) -> list[dict[str, str]]:
    """The cells of every row by their use."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DatalistError(f"cannot be read: {error}", file=path) from error
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
        elif use in REQUIRED:
            raise ValueError(f"no column is called {' or '.join(known)}")
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

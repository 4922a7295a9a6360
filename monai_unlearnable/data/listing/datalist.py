# SPDX-License-Identifier: Apache-2.0
"""Cases, and the JSON files and tables that list them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from monai_unlearnable.data.dicom import is_annotation
from monai_unlearnable.data.formats import stem
from monai_unlearnable.data.listing.names import section_of
from monai_unlearnable.data.listing.tables import (
    COLUMNS,
    NOT_UTF8,
    SECTION,
    SECTIONS,
    TABLE_SUFFIXES,
    read_class_names,
    read_table,
)
from monai_unlearnable.errors import DatalistError
from monai_unlearnable.utils.enums import CaseKeys
from monai_unlearnable.utils.files import leads_outside

__all__ = ["Case", "DATALIST_NAMES", "Datalist", "Found", "WAY_OUT", "label_file", "split_tasks"]

DATALIST_NAMES = ("datalist.json", "dataset.json")
WAY_OUT = "list the cases in datalist.json"  # where the names of files and folders do not tell


@dataclass(frozen=True)
class Case:
    """One sample, its files relative to ``root``.

    Args:
        case_id: name of the case.
        root: folder of the dataset.
        images: one or more image files or folders of DICOM series, one a channel group.
        label: label map, if there is one.
        target: class of the whole image, counted from 0, if it has one; a class for each of ``tasks``, if it has those.
        tasks: names of the tasks, in sorted order, where an image has several labels; else empty.
        class_names: names of the classes of each label by their numbers, where folders or a table tell them; those of a
            label whose classes are given as numbers are empty, and so is all where no label has names.
    """

    case_id: str
    root: Path
    images: tuple[str, ...]
    label: str | None = None
    target: int | tuple[int, ...] | None = None
    tasks: tuple[str, ...] = ()
    class_names: tuple[tuple[str, ...], ...] = field(default=(), compare=False, repr=False)

    @property
    def classes(self) -> int | dict[str, int] | None:
        """The class of the whole image as lists hold it: with several tasks, that of each by its name."""
        return dict(zip(self.tasks, self.target, strict=True)) if isinstance(self.target, tuple) else self.target

    @property
    def files(self) -> tuple[str, ...]:
        """Its images, and its label map if there is one."""
        return self.images if self.label is None else (*self.images, self.label)

    def to_dict(self) -> dict[str, Any]:
        """The dictionary that MONAI pipelines take: ``image`` a path or list of paths, ``label`` a path or a class.

        With several tasks it is an array of their classes, (tasks,).
        """
        paths = [str(self.root / name) for name in self.images]
        item: dict[str, Any] = {CaseKeys.IMAGE: paths if len(paths) > 1 else paths[0], CaseKeys.CASE_ID: self.case_id}
        if self.label is not None:
            item[CaseKeys.LABEL] = str(self.root / self.label)
        elif self.target is not None:
            item[CaseKeys.LABEL] = np.array(self.target) if self.tasks else self.target
        return item


@dataclass(frozen=True)
class Found:
    """Cases, and what told them.

    Args:
        cases: the cases, in order.
        source: a phrase such as "folders images/ and labels/".
        reasons: reasons why other files and folders are no cases, by name.
        datalist: the file that lists the cases, if there is one.
    """

    cases: Sequence[Case]
    source: str
    reasons: Mapping[str, str] = field(default_factory=dict)
    datalist: Path | None = None


def label_file(root: Path, name: str) -> str:
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


class Datalist:
    """The lists of cases in a JSON file or table, by section.

    JSON files are those of the Medical Segmentation Decathlon and of MONAI: an object of lists, of which ``train`` or
    ``training`` is the section ``training``, or one list, which is ``training`` too. An entry has an ``image``, or a
    list of images that are the channels of one case, and a ``label``: a file, or the class as a number, or the class of
    each of several tasks by its name.

    Args:
        path: path of the file.

    Raises:
        DatalistError: naming the file, when it is no list of cases.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_table = path.suffix.lower() in TABLE_SUFFIXES
        self._content: dict[str, Any] = {} if self._is_table else _read(path)

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections of a JSON file; for a table, those that it may have."""
        if self._is_table:
            return tuple(dict.fromkeys(SECTIONS.values()))
        return tuple(name for name, entries in self._content.items() if _is_section(name, entries))

    def find(self, root: Path, section: str) -> Found:
        """The cases of one section of a dataset.

        Raises:
            DatalistError: naming the file, when it has no such section, an entry is malformed, or a file lies outside
                the dataset.
        """
        entries = self._entries(root, section)
        others = (other for other in self.sections if other != section)
        reasons = {name: f"of the section {other!r}" for other in others for name in self._names(root, other)}
        names = read_class_names(self.path) if self._is_table else ()
        cases = [replace(_case(root, self.path, entry), class_names=names) for entry in entries]
        self._refuse_other_tasks(root, cases, section)
        return Found(cases, f"{self.path.name}, section {section!r}", reasons, self.path)

    def _entries(self, root: Path, section: str) -> list[Any]:
        if self._is_table:
            return read_table(self.path, section, lambda name: section_of(_inside(root, name, self.path)))
        if not self._content.get(section):
            found = "is empty" if section in self.sections else "is missing"
            lists = ", ".join(repr(name) for name in self.sections) or "none"
            reason = f"holds no list {section!r} of cases: it {found}; the lists in it are {lists}"
            raise DatalistError(reason, file=self.path)
        if section not in self.sections:
            raise DatalistError(f"{section!r} is no list", file=self.path)
        for entry in self._content[section]:
            _refuse_other_section(self.path, entry, section)
        return list(self._content[section])

    def _names(self, root: Path, section: str) -> Iterator[str]:
        """The files that a section lists, as far as its entries are well-formed."""
        return (name for case in self._cases(root, section) for name in case.files)

    def _cases(self, root: Path, section: str) -> Iterator[Case]:
        """The cases of a section, as far as its entries are well-formed."""
        try:
            for entry in self._entries(root, section):
                yield _case(root, self.path, entry)
        except DatalistError:
            return

    def _refuse_other_tasks(self, root: Path, cases: Sequence[Case], section: str) -> None:
        """Refuse cases whose tasks are not those of the first one, in other sections too."""
        others = (case for other in self.sections if other != section for case in self._cases(root, other))
        for case in itertools.chain(cases, others):
            if case.tasks != cases[0].tasks and case.target is not None and cases[0].target is not None:
                found, known = (
                    f"the tasks {', '.join(one.tasks)}" if one.tasks else "one label" for one in (case, cases[0])
                )
                reason = f"an entry has {found}, where {cases[0].case_id} has {known}; all need the same"
                raise DatalistError(reason, case=case.case_id, file=self.path)


def _is_section(name: str, entries: Any) -> bool:
    """Whether a member of a JSON file is a list of cases: nnU-Net's files have others."""
    return isinstance(entries, list) and (name in SECTIONS or all(isinstance(entry, dict) for entry in entries))


def _refuse_other_section(path: Path, entry: Any, section: str) -> None:
    """Refuse an entry that says it is of another section than its list, as tables say it."""
    fields = entry if isinstance(entry, dict) else {}
    for name in COLUMNS[SECTION]:
        found = SECTIONS.get(str(fields.get(name)).strip().lower(), section)
        if section in SECTIONS.values() and found != section:
            reason = f"an entry of the list {section!r} has the {name} {found!r}: {fields.get(CaseKeys.IMAGE)}"
            raise DatalistError(f"{reason}; move it to a list {found!r}", file=path)


def _read(path: Path) -> dict[str, Any]:
    """The content of a JSON file, by section."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeError as error:
        raise DatalistError(NOT_UTF8, file=path) from error
    except OSError as error:
        raise DatalistError(f"cannot be read: {error.strerror or error}", file=path) from error
    except (ValueError, RecursionError) as error:
        raise DatalistError(f"cannot be read as JSON: {error}", file=path) from error
    if isinstance(content, list):
        content = {"training": content}
    if not isinstance(content, dict):
        raise DatalistError("holds neither an object of lists nor a list of cases", file=path)
    found: dict[str, Any] = {}
    for name, entries in content.items():
        section = str(SECTIONS.get(name.strip().lower(), name)) if isinstance(entries, list) else name
        if section in found:
            raise DatalistError(f"two lists are the section {section!r}; keep one of them", file=path)
        found[section] = entries
    return found


def _case(root: Path, path: Path, entry: Any) -> Case:
    fields: dict[str, Any] = entry if isinstance(entry, dict) else {}
    found: Any = fields.get(CaseKeys.IMAGE)
    label: Any = fields.get(CaseKeys.LABEL)
    names = _images(found)
    are_names = names and all(isinstance(name, str) for name in names)
    if not are_names or not (label is None or isinstance(label, str) or _is_class(label) or _has_tasks(label)):
        reason = f"an entry names no image file, or neither label file nor class: {entry!r}"
        known = '{"image": FILE, "label": FILE or class, or {TASK: class, ...}}'
        raise DatalistError(f"{reason}; entries are {known}", file=path)
    images = tuple(_inside(root, name, path) for name in names)
    case_id = str(fields.get(CaseKeys.CASE_ID, stem(images[0])))
    images = images if len(images) > 1 else _channel_files(root, images[0])
    if isinstance(label, dict):
        tasks, classes = split_tasks(label)
        if len(tasks) > 1:
            return Case(case_id, root, images, target=classes, tasks=tasks)
        label = classes[0]  # a single task is a label like any other
    if _is_class(label):
        return Case(case_id, root, images, target=label)
    return Case(case_id, root, images, None if label is None else label_file(root, _inside(root, label, path)))


def _images(found: Any) -> Sequence[Any]:
    """The images of an entry: one, a list of channels, or channels by the names of their modalities."""
    if isinstance(found, dict):
        return list(found.values())
    return [found] if isinstance(found, str) else found if isinstance(found, list) else []


def _channel_files(root: Path, name: str) -> tuple[str, ...]:
    """The files of an image: lists of nnU-Net, version 1, name ``a.nii.gz`` where there are ``a_0000.nii.gz``, ..."""
    if (root / name).exists():
        return (name,)
    channels = (f"{stem(name)}_{number:04}{name[len(stem(name)) :]}" for number in itertools.count())
    return tuple(itertools.takewhile(lambda channel: (root / channel).exists(), channels)) or (name,)


def _is_class(label: Any) -> bool:
    return isinstance(label, int) and not isinstance(label, bool) and label >= 0


def _has_tasks(label: Any) -> bool:
    """Whether a label holds the class of each of its tasks, by name."""
    return isinstance(label, dict) and bool(label) and all(label) and all(map(_is_class, label.values()))


def split_tasks(label: Mapping[str, int]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The names of tasks in sorted order, and the class of each, so that lists may name them in any order."""
    tasks = tuple(sorted(label))
    return tasks, tuple(int(label[task]) for task in tasks)


def _inside(root: Path, name: str, path: Path) -> str:
    """A name relative to the dataset; lists of Windows have backslashes, other lists whole paths."""
    if "\\" in name and not (root / name).exists():
        name = name.replace("\\", "/")
    known = (folder for folder in (root, root.absolute(), root.resolve()) if Path(name).is_relative_to(folder))
    folder = next(known, None) if Path(name).is_absolute() else None
    relative = name if folder is None else str(Path(name).relative_to(folder))
    if leads_outside(relative):
        raise DatalistError(f"{name!r} lies outside the dataset folder", file=path)
    return PurePath(relative).as_posix()

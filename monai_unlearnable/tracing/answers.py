# SPDX-License-Identifier: Apache-2.0
"""Answers that a model wrote to a folder: label maps, a mask for each class, or a table of probabilities."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monai_unlearnable.data import LabelGeometry, read_label, read_scan
from monai_unlearnable.data.formats import stem
from monai_unlearnable.data.scan import Scan
from monai_unlearnable.errors import InputError
from monai_unlearnable.tracing.probes import FIRST_CHANNEL, Query
from monai_unlearnable.tracing.statistics import Answer
from monai_unlearnable.utils.values import check_wholes

__all__ = ["TABLE", "AnswerFormat", "read_answers"]

TABLE = ".csv"


@dataclass(frozen=True)
class AnswerFormat:
    """What stands for the classes in the answers.

    Args:
        classes: for each class, background first: the value in a label map; or, where a probe gets a folder of masks,
            the name of the mask's file without its ending, and None for the background. Other values count as
            background. None where images have one class: their answers are a table, whose columns are the classes in
            their order.
    """

    classes: tuple[int | str | None, ...] | None

    def __post_init__(self) -> None:
        if self.classes is not None and not self.are_masks:
            check_wholes("answer_classes", self.classes, 0)

    @property
    def are_masks(self) -> bool:
        """Whether a probe gets a folder with a mask for each class."""
        return any(isinstance(kind, str) for kind in self.classes or ())


def read_answers(folder: Path, queries: Sequence[Query], form: AnswerFormat) -> list[Answer | None]:
    """The answers to queries; None where there is no file for one.

    ``probe0001.nii.gz``, of any format that scans have, answers the query ``probe0001``; so does
    ``probe0001_0000.nii.gz``, and the row that begins with such a name in the only ``.csv`` of the folder.

    Raises:
        InputError: naming the file, when it cannot be read, or the folder, when it does not exist.
    """
    if not folder.is_dir():
        raise InputError("the folder of the answers does not exist", file=folder)
    tables = sorted(folder.glob(f"*{TABLE}"))
    if len(tables) > 1:
        raise InputError(f"{len(tables)} tables of answers; one is needed", file=folder)
    if tables:
        rows = _rows(tables[0])
        return [rows.get(query.name) for query in queries]
    if form.classes is None:
        raise InputError(f"there is no table of answers (*{TABLE}); images with one class need one", file=folder)
    files = {_bare(path.name): path for path in sorted(folder.iterdir())}
    return [_read(files.get(query.name), query, form) for query in queries]


def _bare(name: str) -> str:
    """The name of a probe in that of a file."""
    return stem(name).removesuffix(FIRST_CHANNEL)


def _read(path: Path | None, query: Query, form: AnswerFormat) -> Answer | None:
    if path is None:
        return None
    image = read_scan(query.files[0])
    if form.are_masks:
        return _from_masks(path, image, query, form)
    stored = read_label(path, [image], query.name, LabelGeometry.IGNORE)[0]
    return _from_values(stored, form)


def _from_values(stored: np.ndarray, form: AnswerFormat) -> Answer:
    answer = np.zeros(stored.shape, np.int64)
    for index, value in enumerate(form.classes or ()):
        if index:
            answer[stored == value] = index
    return answer


def _from_masks(path: Path, image: Scan, query: Query, form: AnswerFormat) -> Answer | None:
    if not path.is_dir():
        raise InputError("the answer is no folder of masks", case=query.name, file=path)
    masks = {stem(file.name): file for file in sorted(path.iterdir())}
    answer = np.zeros(image.spatial_shape, np.int64)
    for index, name in enumerate(form.classes or ()):
        if name is None:
            continue
        if name not in masks:
            raise InputError(f"there is no mask called {name}", case=query.name, file=path)
        answer[read_label(masks[str(name)], [image], query.name, LabelGeometry.IGNORE)[0] > 0] = index
    return answer


def _rows(table: Path) -> dict[str, Answer]:
    """Probabilities of each probe."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputError(f"the answers cannot be read: {error}", file=table) from error
    answers: dict[str, Answer] = {}
    for number, (name, *cells) in enumerate(rows, 1):
        try:
            answers[_bare(Path(name).name)] = np.array([float(cell) for cell in cells])
        except ValueError as error:
            if number > 1:  # the first may be a header
                raise InputError(f"line {number}: {error}", file=table) from error
    return answers

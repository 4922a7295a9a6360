# SPDX-License-Identifier: Apache-2.0
"""The content of a dataset folder: its cases, where they come from, and what is passed over."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from monai_unlearnable.data.dicom import volume_at
from monai_unlearnable.data.formats import data_files, output_name, stem
from monai_unlearnable.data.listing.datalist import DATALIST_NAMES, Case, Datalist, Found
from monai_unlearnable.data.listing.layouts import find_layout, has_label_folders
from monai_unlearnable.data.listing.names import LABEL, role_of
from monai_unlearnable.data.listing.tables import TABLE_NAME
from monai_unlearnable.data.listing.tree import NOT_READ, Tree, folders_above, in_order, parent
from monai_unlearnable.errors import DatalistError, LabelError
from monai_unlearnable.utils.files import reading

__all__ = ["Listing", "PassedOver", "list_dataset", "load_cases"]


@dataclass(frozen=True)
class PassedOver:
    """A file or folder in a dataset that is part of no case.

    Args:
        name: name relative to the dataset; that of a folder ends with a slash.
        reason: why it is passed over.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True)
class Listing:
    """What a dataset folder holds.

    Args:
        root: folder of the dataset.
        cases: its cases, in a fixed order.
        source: what told the cases, such as "folders image/ and mask/".
        passed_over: all else in the folder, each with the reason, in order of names.
    """

    root: Path
    cases: tuple[Case, ...]
    source: str
    passed_over: tuple[PassedOver, ...]


def load_cases(
    dataset_dir: str | Path, datalist: str | Path | None = None, section: str = "training", require_labels: bool = True
) -> list[Case]:
    """The cases of a dataset in a fixed order; see :func:`list_dataset`."""
    return list(list_dataset(dataset_dir, datalist, section, require_labels).cases)


def list_dataset(
    dataset_dir: str | Path, datalist: str | Path | None = None, section: str = "training", require_labels: bool = True
) -> Listing:
    """Find the cases of a dataset, and all that is none.

    Args:
        dataset_dir: folder that file names are relative to.
        datalist: JSON file (:class:`~monai_unlearnable.data.listing.datalist.Datalist`), or table of classes
            (:func:`~monai_unlearnable.data.listing.tables.read_table`), relative to the working directory or the
            dataset; by default ``datalist.json`` or ``dataset.json`` in the folder. Without one, or if it lists no
            cases, folder names tell, or ``labels.csv`` where there are no label maps.
        section: section of the dataset to take.
        require_labels: whether a case without a label is an error.

    Raises:
        DatalistError: when nothing is found, a datalist or table is broken, a case id occurs twice, a file lies
            outside the folder, or a label bears the name of an image.
        LabelError: naming the case whose label is missing.
    """
    root = Path(dataset_dir)
    with reading(root, DatalistError):
        if root.is_file():
            raise DatalistError("a dataset is a folder, and this is a file; give the folder that holds it", file=root)
        if not root.is_dir():
            raise DatalistError("the dataset folder does not exist", file=root)
        tree = Tree.walk(root)
        found = _find(tree, datalist, section)
        _check(found.cases, require_labels, tree)
    return Listing(root, tuple(found.cases), found.source, tuple(_passed_over(tree, found)))


def _find(tree: Tree, datalist: str | Path | None, section: str) -> Found:
    root = tree.root
    if (path := _datalist_path(root, datalist)) is not None:
        listed = Datalist(path)
        if datalist is not None or listed.sections:  # nnU-Net's dataset.json lists no cases
            return listed.find(root, section)
    table = root / TABLE_NAME
    if table.is_file() and not has_label_folders(tree):
        return Datalist(table).find(root, section)
    for name in tree.others:
        if PurePosixPath(name).name in DATALIST_NAMES and "/" in name:
            reason = f"{name} is the list of a dataset of its own; give the folder {parent(name)} as the dataset"
            raise DatalistError(reason, file=root)
    found = find_layout(tree, section)
    if found is None or not found.cases:
        raise DatalistError(f"no cases found in section {section!r}: {_content(tree)}; {EXPECTED}", file=root)
    return found


EXPECTED = (
    f"expected are {' or '.join((*DATALIST_NAMES, TABLE_NAME))}, folders such as images/ and labels/, files such as "
    "a.nii.gz and a_seg.nii.gz, DICOM series with labels that refer to them, or a folder for each class"
)


def _content(tree: Tree) -> str:
    """What lies in a dataset, in short."""
    scans, others = [*tree.files, *tree.dicom], list(tree.others)
    told = f"{len(scans)} files or series" + (f" such as {', '.join(scans[:3])}" if scans else "")
    remarks = (f" ({name} {reason})" for folder in tree.dicom for name, reason in tree.remarks(folder).items())
    told += next(remarks, "")
    if not others:
        return told
    unread = next((f" ({reason})" for reason in tree.others.values() if NOT_READ in reason), "")
    return f"{told}, and {len(others)} other files such as {', '.join(others[:3])}{unread}"


def _datalist_path(root: Path, datalist: str | Path | None) -> Path | None:
    """The datalist that was given, relative to the working directory or the dataset, or else the one in the dataset."""
    if datalist is None:
        return next((root / name for name in DATALIST_NAMES if (root / name).is_file()), None)
    return root / datalist if not Path(datalist).exists() and (root / datalist).exists() else Path(datalist)


def _passed_over(tree: Tree, found: Found) -> Iterator[PassedOver]:
    """All that is part of no case, but for the file that lists the cases."""
    used = {name for case in found.cases for name in case.files}
    used |= {file.relative_to(tree.root).as_posix() for name in used for file in data_files(tree.root / name)}
    reasons = {**tree.others, **found.reasons}
    names = {*tree.files, *tree.others} - used
    for folder, files in tree.dicom.items():
        if folder not in used and not used.issuperset(files):
            remarks = tree.remarks(folder)
            reasons = {**remarks, **reasons}
            names |= remarks.keys() - used
            for name, parts in tree.volumes(folder).items():
                if name not in used and not remarks.keys() >= {*parts}:  # else each is named, with its fault
                    names |= {*parts} - used if used.intersection(parts) else {name}
    usual = f"not among the cases of {found.source}"
    for name in in_order(names):
        if tree.root / name != found.datalist:
            yield PassedOver(name, reasons.get(name, usual))


NO_LABEL = "the case has no label; add it, move the image elsewhere, or list the cases, or classes, in datalist.json"


def _unread_label(tree: Tree) -> str:
    """A file among the labels that is of no format that is read, for errors about missing labels."""
    for name, reason in tree.others.items():
        if NOT_READ in reason and any(role_of(folder) == LABEL for folder in parent(name).split("/")):
            return f" ({name}: {reason})"
    return ""


def _check(cases: Sequence[Case], require_labels: bool, tree: Tree) -> None:
    _refuse_twins(cases)
    _refuse_shared(cases)
    # A series is published as a whole folder, in which nothing else can be.
    series = {name for case in cases for name in case.images if os.path.isdir(f"{case.root}/{name}")}
    outputs = {output_name(name) for case in cases for name in case.images}
    seen: dict[str, str] = {}
    for case in cases:
        for scan_id, name in {case.case_id: case.images[0], **{stem(name): name for name in case.images}}.items():
            if scan_id in seen:
                reason = f"the case or file is listed twice: {seen[scan_id]} and {name} have one name; rename one"
                if seen[scan_id] == name:
                    reason = f"{name} is listed twice; remove one of the entries"
                raise DatalistError(reason, case=scan_id, file=case.root)
            seen[scan_id] = name
        for name in case.files:
            if name in ("", ".") or not series.isdisjoint(folders_above(name)):
                reason = "lies inside the folder of a series, or is the folder of the dataset; give each one of its own"
                raise DatalistError(reason, case=case.case_id, file=case.root / name)
            if not os.path.exists(f"{case.root}/{name}") and volume_at(case.root / name) is None:
                reason = "the file does not exist; names in lists are relative to the dataset folder"
                if os.path.islink(f"{case.root}/{name}"):
                    reason = "a link that leads nowhere; fetch what it stands for (git annex get, datalad get)"
                raise DatalistError(reason, case=case.case_id, file=case.root / name)
        if case.label in outputs:
            reason = "both an image and a label would be published under this name"
            raise DatalistError(reason, case=case.case_id, file=case.root / case.label)
        if require_labels and case.label is None and case.target is None:
            raise LabelError(NO_LABEL + _unread_label(tree), case=case.case_id, file=case.root / case.images[0])


def _refuse_shared(cases: Sequence[Case]) -> None:
    """Refuse headers that name the same data file: the voxels of one would replace those of the other."""
    seen: dict[Path, str] = {}
    for case in cases:
        for name in dict.fromkeys(case.files):
            for file in data_files(case.root / name):
                first = seen.setdefault(file, name)
                if first != name:
                    reason = f"{first} and {name} name the same data file {file.relative_to(case.root).as_posix()}"
                    raise DatalistError(f"{reason}; give each one of its own", case=case.case_id, file=case.root / name)


def _refuse_twins(cases: Sequence[Case]) -> None:
    """Refuse files whose published names differ only in case: on many systems one would replace the other."""
    seen: dict[str, str] = {}
    for name in dict.fromkeys(name for case in cases for name in case.files):
        first = seen.setdefault(output_name(name).lower(), name)
        if output_name(first) != output_name(name):
            reason = f"{first} and {name} differ only in upper and lower case; rename one of them"
            raise DatalistError(reason, file=cases[0].root)

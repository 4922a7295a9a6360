# SPDX-License-Identifier: Apache-2.0
"""DICOM studies as an archive gives them: series in folders, and the labels that refer to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pydicom import Dataset, dcmread

from monai_unlearnable.data.dicom import is_annotation
from monai_unlearnable.data.dicom.detection import lacks_mark
from monai_unlearnable.data.formats import stem
from monai_unlearnable.data.listing.datalist import WAY_OUT, Case, Found
from monai_unlearnable.data.listing.tree import Tree, parent
from monai_unlearnable.data.scan import naming
from monai_unlearnable.errors import DatalistError

__all__ = ["from_studies"]

REFERENCES = ["ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence"]


@dataclass
class _Studies:
    """Series and labels of a dataset.

    Args:
        series: names of the volumes of each series, by its UID.
        files: DICOM files of each series.
        told: description of each volume, by its name.
        labels: paths of DICOM labels, by name.
        reasons: reasons why files are no images, by name.
    """

    series: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, list[Path]] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    labels: dict[str, Path] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, tree: Tree, names: Sequence[str]) -> _Studies:
        found, taken = cls(), {*names}
        for folder in tree.dicom:
            content = tree.survey(folder)
            for volume in content.volumes:
                name = volume.path.relative_to(tree.root).as_posix()
                if name in taken:
                    found.series.setdefault(volume.series, []).append(name)
                    found.files.setdefault(volume.series, []).extend(volume.files)
                    found.told[name] = volume.description
            for path, reason in content.passed_over:
                name = path.relative_to(tree.root).as_posix()
                found.reasons[name] = reason
                if is_annotation(path):
                    found.labels[name] = path
        return found

    @cached_property
    def instances(self) -> dict[str, str]:
        """UIDs of series by those of their instances."""
        headers = ((uid, file) for uid, files in self.files.items() for file in files)
        return {str(_read(file, ["SOPInstanceUID"]).get("SOPInstanceUID")): uid for uid, file in headers}

    def series_of(self, path: Path) -> str | None:
        """The series that a label refers to, by its UID or else those of its instances."""
        known = self.series.keys() & set(_uids(_read(path, REFERENCES), "SeriesInstanceUID"))
        if not known:
            known = {self.instances.get(uid, "") for uid in _uids(_read(path), "ReferencedSOPInstanceUID")} - {""}
        return min(known, default=None)


def from_studies(tree: Tree, names: Sequence[str]) -> Found | None:
    """Cases of the series that a DICOM label refers to, or None where there is no such label.

    Where the series has several volumes, such as echoes, they are the channels of one case.

    Raises:
        DatalistError: when several labels refer to one series, or a label lies in the folder of its series.
        ScanError: naming folder or file, when it cannot be read.
    """
    found = _Studies.of(tree, names)
    if not found.labels:
        return None
    label_of: dict[str, str] = {}
    for name, path in found.labels.items():
        found.reasons[name] = "a label of no series in the dataset"
        uid = found.series_of(path)
        if uid is not None and (first := label_of.setdefault(uid, name)) != name:
            reason = f"{first} and {name} are both labels of {found.series[uid][0]}; keep one, or {WAY_OUT}"
            raise DatalistError(reason, file=tree.root)
    if not label_of:
        reason = f"none of the DICOM labels refers to a series that is there: {', '.join([*found.labels][:3])}"
        raise DatalistError(f"{reason}; {WAY_OUT}", file=tree.root)
    cases = [_case(tree.root, uid, images, label_of[uid]) for uid, images in found.series.items() if uid in label_of]
    alone = (name for uid, images in found.series.items() if uid not in label_of for name in images)
    reasons = found.reasons | {name: f"no label refers to it: {found.told[name]}" for name in alone}
    return Found(cases, "DICOM labels and the series that they refer to", reasons)


def _case(root: Path, uid: str, images: Sequence[str], label: str) -> Case:
    if parent(label) in images:
        reason = f"the label {label} lies in the folder of its series; move it to a folder of its own"
        raise DatalistError(reason, file=root / label)
    case_id = images[0] if len(images) == 1 else f"{parent(images[0])}/{uid}".lstrip("/")
    return Case(stem(case_id), root, tuple(images), label)


def _read(path: Path, tags: list[str] | None = None) -> Dataset:
    with naming(path):
        return dcmread(path, force=lacks_mark(path), stop_before_pixels=True, specific_tags=tags)


def _uids(dataset: Dataset, name: str) -> Iterator[str]:
    """The values of an element, wherever it lies in the sequences of a dataset."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _uids(item, name)
        elif element.keyword == name:
            yield str(element.value)

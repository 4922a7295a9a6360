# SPDX-License-Identifier: Apache-2.0
"""DICOM studies as an archive gives them: series in folders, and the labels that refer to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom import Dataset, dcmread

from monai_unlearnable.data.datalist import Case, Found
from monai_unlearnable.data.dicom import is_annotation, survey
from monai_unlearnable.data.dicom.detection import lacks_mark
from monai_unlearnable.data.tree import Tree
from monai_unlearnable.errors import DatalistError

__all__ = ["from_studies"]

TAGS = [
    *("ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence", "SourceImageSequence"),
    *("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"),
]


def from_studies(tree: Tree, names: Sequence[str]) -> Found | None:
    """Cases of the series that a DICOM label refers to, or None where there is no such label.

    Where the series has several volumes, such as echoes, they are the channels of one case.

    Raises:
        DatalistError: when several labels refer to one series.
        ScanError: naming folder or file, when the system does not let it be read.
    """
    root, taken = tree.root, {*names}
    series: dict[str, list[str]] = {}
    told: dict[str, str] = {}
    labels: dict[str, set[str]] = {}
    reasons: dict[str, str] = {}
    for folder in tree.dicom:
        found = survey(root / folder)
        for volume in found.volumes:
            name = volume.path.relative_to(root).as_posix()
            if name in taken:
                series.setdefault(volume.series, []).append(name)
                told[name] = volume.description
        for path, reason in found.passed_over:
            name = path.relative_to(root).as_posix()
            reasons[name] = reason
            if is_annotation(path):
                labels[name] = referenced_series(path)
    if not labels:
        return None
    label_of: dict[str, str] = {}
    for name, uids in labels.items():
        hits = [uid for uid in series if uid in uids]
        reasons[name] = "a label of no series in the dataset"
        for uid in hits[:1]:
            if (first := label_of.setdefault(uid, name)) != name:
                reason = f"{first} and {name} are both labels of {series[uid][0]}; keep one, or list the cases"
                raise DatalistError(f"{reason} in datalist.json", file=root)
    cases = []
    for uid, images in series.items():
        if uid in label_of:
            case_id = images[0] if len(images) == 1 else images[0].rpartition("/")[0] + f"/{uid}"
            cases.append(Case(case_id, root, tuple(images), label_of[uid]))
        else:
            reasons |= {name: f"no label refers to it: {told[name]}" for name in images}
    if not cases:
        known = ", ".join(sorted(set().union(*labels.values()))[:3])
        raise DatalistError(f"the DICOM labels refer to series that are not there: {known}", file=root)
    return Found(cases, "DICOM labels and the series that they refer to", reasons)


def referenced_series(path: Path) -> set[str]:
    """UIDs of the series that a DICOM segmentation or structure set refers to."""
    dataset = dcmread(path, force=lacks_mark(path), stop_before_pixels=True, specific_tags=TAGS)
    return _series_in(dataset)


def _series_in(dataset: Dataset) -> set[str]:
    items = list(dataset.get("ReferencedSeriesSequence", ()))
    for frame in dataset.get("ReferencedFrameOfReferenceSequence", ()):
        for study in frame.get("RTReferencedStudySequence", ()):
            items += study.get("RTReferencedSeriesSequence", ())
    return {str(item.SeriesInstanceUID) for item in items if item.get("SeriesInstanceUID")}

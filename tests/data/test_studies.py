# SPDX-License-Identifier: Apache-2.0
"""DICOM studies as they lie: every series is a case, or is named as passed over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import RTStructureSetStorage

from monai_unlearnable.data import list_dataset, read_case
from monai_unlearnable.errors import DatalistError
from monai_unlearnable.intensity import PercentileWindow
from tests import dicom
from tests.data.test_volumes import SHAPE, add

LABEL = np.ones(SHAPE, np.uint8)


def series(root: Path, folder: str, number: int, prefix: str = "IM", **tags: object) -> Path:
    uid = {"SeriesInstanceUID": f"1.2.{number}", "SeriesNumber": number}
    add(root / folder, prefix, number, **{**uid, **tags})
    return root / folder


def refer(path: Path, number: int) -> Path:
    """A structure set that refers to a series."""
    ds = dicom.make_slice(np.zeros((2, 2), np.uint8), SOPClassUID=RTStructureSetStorage, Modality="RTSTRUCT")
    ds.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    for name in ("PixelData", "Rows", "Columns"):
        del ds[name]
    item, study, frame = Dataset(), Dataset(), Dataset()
    item.SeriesInstanceUID = f"1.2.{number}"
    study.RTReferencedSeriesSequence = [item]
    frame.RTReferencedStudySequence = [study]
    ds.ReferencedFrameOfReferenceSequence = [frame]
    return dicom.save(ds, path)


def test_labels_find_their_series_at_any_depth(tmp_path: Path) -> None:
    a = series(tmp_path, "A/2001/AX T1", 1)
    series(tmp_path, "A/2001/scout", 2, SeriesDescription="localizer")
    series(tmp_path, "B/2002/CT", 3)
    dicom.write_seg(a, tmp_path / "A/2001/SEG 900/1.dcm", LABEL)
    refer(tmp_path / "B/2002/RTSTRUCT/rs", 3)
    refer(tmp_path / "other/rs.dcm", 9)
    (tmp_path / "DICOMDIR").write_bytes(b"")
    (tmp_path / "A/notes.txt").write_bytes(b"")
    found = list_dataset(tmp_path)
    assert [(case.images, case.label) for case in found.cases] == [
        (("A/2001/AX T1",), "A/2001/SEG 900/1.dcm"),
        (("B/2002/CT",), "B/2002/RTSTRUCT/rs"),
    ]
    assert found.source == "DICOM labels and the series that they refer to"
    reasons = {item.name: item.reason for item in found.passed_over}
    assert list(reasons) == ["A/2001/scout", "A/notes.txt", "DICOMDIR", "other/rs.dcm"]
    assert reasons["A/2001/scout"].startswith("no label refers to it: series 2, localizer")
    assert reasons["other/rs.dcm"] == "a label of no series in the dataset"
    label = read_case(found.cases[0], PercentileWindow()).label
    assert label is not None and label.all()


def test_labels_that_name_instances_alone(tmp_path: Path) -> None:
    def forget(seg: Dataset) -> None:
        del seg.ReferencedSeriesSequence

    for number in (1, 2):
        series(tmp_path, f"A/{number}", number)
    dicom.write_seg(tmp_path / "A/2", tmp_path / "A/seg/1.dcm", LABEL, change=forget)
    assert [case.files for case in list_dataset(tmp_path).cases] == [("A/2", "A/seg/1.dcm")]


def test_a_whole_study_in_one_folder(tmp_path: Path) -> None:
    series(tmp_path, "study", 1, "a")
    series(tmp_path, "study", 2, "b")
    dicom.write_seg(series(tmp_path / "alone", "x", 1), tmp_path / "study/seg.dcm", LABEL)
    (case,) = list_dataset(tmp_path / "study").cases
    assert (case.images, case.label) == (("series1",), "seg.dcm")
    assert [item.name for item in list_dataset(tmp_path / "study").passed_over] == ["series2"]


def test_echoes_of_a_labeled_series_are_channels(tmp_path: Path) -> None:
    for echo, seed in ((1, 1), (2, 5)):
        series(tmp_path, "P/mr", seed, f"e{echo}_", SeriesInstanceUID="1.2.3", SeriesNumber=3, EchoNumbers=echo)
    refer(tmp_path / "P/rs/1.dcm", 3)
    (case,) = list_dataset(tmp_path).cases
    assert case.images == ("P/mr/series3-echo1", "P/mr/series3-echo2")


@pytest.mark.parametrize("one_label", [True, False], ids=["channels", "cases"])
def test_volumes_of_a_folder_are_channels_or_cases_as_labels_say(tmp_path: Path, one_label: bool) -> None:
    """One label for the folder makes its volumes channels; a label for each makes them cases."""
    for number in (1, 2):
        series(tmp_path, "images/P", number, f"s{number}_")
    names = ["labels/P.nii.gz"] if one_label else ["labels/P/series1.nii.gz", "labels/P/series2.nii.gz"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    images = [case.images for case in list_dataset(tmp_path).cases]
    both = ("images/P/series1", "images/P/series2")
    assert images == [both] if one_label else [(name,) for name in both]


def test_series_beside_files_of_labels(tmp_path: Path) -> None:
    for number, name in enumerate(("P1", "P2"), 1):
        series(tmp_path, f"{name}/ct", number)
        (tmp_path / name / "seg.nii.gz").write_bytes(b"")
    assert [case.files for case in list_dataset(tmp_path).cases] == [
        ("P1/ct", "P1/seg.nii.gz"),
        ("P2/ct", "P2/seg.nii.gz"),
    ]


def test_slices_with_a_label_each_are_pictures(tmp_path: Path) -> None:
    add(tmp_path / "images", "s", 1)
    for index in range(SHAPE[2]):
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "images" / f"s{index}").rename(tmp_path / "images" / f"s{index}.dcm")
        (tmp_path / "labels" / f"s{index}.png").write_bytes(b"")
    assert len(list_dataset(tmp_path).cases) == SHAPE[2]


def test_what_cannot_be_told_is_refused(tmp_path: Path) -> None:
    for name, number in (("P1", 1), ("P2", 2)):
        series(tmp_path / "unlabeled", f"{name}/ct", number)
    with pytest.raises(DatalistError, match="P1, P2 look like patients, not like classes"):
        list_dataset(tmp_path / "unlabeled")
    series(tmp_path / "two", "A/ct", 1)
    for name in ("rs1", "rs2"):
        refer(tmp_path / "two/A" / name / "1.dcm", 1)
    with pytest.raises(DatalistError, match=r"A/rs1/1.dcm and A/rs2/1.dcm are both labels of A/ct; keep one"):
        list_dataset(tmp_path / "two")
    series(tmp_path / "away", "A/ct", 1)
    refer(tmp_path / "away/A/rs/1.dcm", 7)
    with pytest.raises(DatalistError, match=r"none of the DICOM labels refers to a series that is there: A/rs/1\.dcm"):
        list_dataset(tmp_path / "away")
    series(tmp_path / "inside", "A/ct", 1)
    refer(tmp_path / "inside/A/ct/rs", 1)
    with pytest.raises(DatalistError, match="the label A/ct/rs lies in the folder of its series; move it"):
        list_dataset(tmp_path / "inside")
    series(tmp_path / "itself", "", 1)
    refer(tmp_path / "itself/rs/1.dcm", 1)
    with pytest.raises(DatalistError, match="the folder of the dataset is itself a DICOM series; give"):
        list_dataset(tmp_path / "itself")

# SPDX-License-Identifier: Apache-2.0
"""Folders as archives export them: several series, echoes and time points in one, and reports among them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.uid import BasicTextSRStorage, MediaStorageDirectoryStorage, UltrasoundImageStorage

from monai_unlearnable.data import read_scan, write_scan
from monai_unlearnable.data.dicom import is_image, survey, volumes
from monai_unlearnable.errors import ScanError
from tests import dicom
from tests.helpers import random_image

SHAPE = (6, 5, 4)


def add(folder: Path, prefix: str, seed: int, change: Callable[[int, Any], object] | None = None, **tags: Any) -> Any:
    """Put a series into a folder that may hold others; its voxels."""
    voxels = random_image(SHAPE, "int16", seed)
    names = [f"{prefix}{index}" for index in range(SHAPE[2])]

    def own(index: int, ds: Any) -> None:
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.9.{seed}.{index}"
        if change is not None:
            change(index, ds)

    dicom.write_series(folder, voxels, names=names, change=own, **tags)
    return voxels


def test_series_in_one_folder_are_volumes_of_their_own(tmp_path: Path) -> None:
    first = add(tmp_path, "a", 1, SeriesInstanceUID="1.5", SeriesNumber=3, SeriesDescription="t2 tse")
    second = add(tmp_path, "b", 2, SeriesInstanceUID="1.4", SeriesNumber=12)
    found = volumes(tmp_path)
    assert [volume.path for volume in found] == [tmp_path / "series12", tmp_path / "series3"]
    assert found[1].description == "series 3, t2 tse, 4 of 6 x 5"
    assert [file.name for file in found[1].files] == ["a0", "a1", "a2", "a3"]
    for volume, voxels in zip(found, (second, first), strict=True):
        assert np.array_equal(read_scan(volume.path).voxels[0], voxels)
    with pytest.raises(ScanError, match=r"the folder holds 2 volumes: series12 \(.*name one as"):
        read_scan(tmp_path)
    with pytest.raises(ScanError, match="unknown file type"):
        read_scan(tmp_path / "series4")


def test_a_volume_is_written_as_a_folder_of_its_name(tmp_path: Path) -> None:
    for seed in (1, 2):
        add(tmp_path / "study", "ab"[seed - 1], seed, SeriesInstanceUID=f"1.{seed}", SeriesNumber=seed)
    scan = read_scan(tmp_path / "study/series2")
    write_scan(scan, scan.voxels + np.int16(1), tmp_path / "out/study/series2")
    again = read_scan(tmp_path / "out/study/series2")
    assert np.array_equal(again.voxels, scan.voxels + 1) and np.array_equal(again.affine, scan.affine)
    assert sorted(path.name for path in (tmp_path / "out/study/series2").iterdir()) == ["b0", "b1", "b2", "b3"]


PARTS: dict[str, tuple[Callable[[int, int, Any], object], str]] = {
    "echo": (lambda part, index, ds: setattr(ds, "EchoTime", str(20 + 60 * part)), "echo"),
    "time": (lambda part, index, ds: setattr(ds, "TemporalPositionIdentifier", part + 1), "time"),
    "type": (lambda part, index, ds: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "FW"[part]]), "type"),
    "diffusion": (lambda part, index, ds: setattr(ds, "DiffusionBValue", 1000.0 * part), "diffusion"),
    "acquisition": (
        lambda part, index, ds: (
            setattr(ds, "AcquisitionNumber", part + 1),
            setattr(ds, "ContentTime", f"12000{index}"),
        ),
        "time",
    ),
    "nothing but numbers": (lambda part, index, ds: setattr(ds, "InstanceNumber", 4 * part + index), "time"),
}


@pytest.mark.parametrize("name", PARTS)
def test_echoes_and_times_of_a_series_are_volumes(name: str, tmp_path: Path) -> None:
    change, part = PARTS[name]
    stored = [add(tmp_path, "ab"[i], i, lambda index, ds, i=i: change(i, index, ds), SeriesNumber=7) for i in (0, 1)]
    found = volumes(tmp_path)
    assert [volume.name for volume in found] == [f"series7-{part}1", f"series7-{part}2"]
    assert [volume.description.split(", ")[-2] for volume in found] == [f"{part} 1", f"{part} 2"]
    for volume, voxels in zip(found, stored, strict=True):
        assert np.array_equal(read_scan(volume.path).voxels[0], voxels)


def test_each_echo_of_each_time_is_a_volume(tmp_path: Path) -> None:
    for time in (1, 2):
        for echo in (1, 2):
            tags = {"EchoNumbers": echo, "TemporalPositionIdentifier": time, "SeriesNumber": 1}
            add(tmp_path, f"{time}{echo}", 10 * time + echo, **tags)
    add(tmp_path, "x", 99, SeriesInstanceUID="1.7", SeriesNumber=2)
    assert [volume.name for volume in volumes(tmp_path)] == [
        "series1-echo1-time1",
        "series1-echo1-time2",
        "series1-echo2-time1",
        "series1-echo2-time2",
        "series2",
    ]


def test_a_localizer_of_several_orientations_and_numbers_that_series_share(tmp_path: Path) -> None:
    add(tmp_path, "a", 1, SeriesNumber=1, SeriesInstanceUID="1.1", orientation=(1, 0, 0, 0, 1, 0))
    add(tmp_path, "b", 2, SeriesNumber=1, SeriesInstanceUID="1.1", orientation=(1, 0, 0, 0, 0, -1))
    add(tmp_path, "c", 3, SeriesNumber=1, SeriesInstanceUID="1.2")
    assert [volume.name for volume in volumes(tmp_path)] == ["series1_1-part1", "series1_1-part2", "series1_2"]


def test_what_is_no_image_is_passed_over_with_the_reason(tmp_path: Path) -> None:
    add(tmp_path, "a", 1)
    for name, kind in {"report": BasicTextSRStorage, "DICOMDIR": MediaStorageDirectoryStorage}.items():
        ds = dcmread(tmp_path / "a0", stop_before_pixels=True)
        del ds.Rows
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = kind
        dcmwrite(tmp_path / name, ds)
        assert not is_image(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    found = survey(tmp_path)
    assert [(path.name, reason) for path, reason in found.passed_over] == [
        ("DICOMDIR", "is a directory of DICOM files, which are found without it"),
        ("notes.txt", "is not a DICOM file"),
        ("report", "is Basic Text SR, not an image"),
    ]
    (volume,) = found.volumes
    assert volume.path == tmp_path and len(volume.files) == 4
    assert len(read_scan(tmp_path).remarks) == 3


def test_a_damaged_file_is_no_reason_to_lose_the_other_volumes(tmp_path: Path) -> None:
    for seed in (1, 2):
        add(tmp_path, "ab"[seed - 1], seed, SeriesInstanceUID=f"1.{seed}", SeriesNumber=seed)
    shutil.copyfile(tmp_path / "a0", tmp_path / "copy")
    (tmp_path / "cut").write_bytes((tmp_path / "a1").read_bytes()[:300])
    found = survey(tmp_path)
    assert [volume.name for volume in found.volumes] == ["series1", "series2"]
    assert {path.name for path, _ in found.passed_over} == {"copy", "cut"}
    assert dict(found.faults)[tmp_path / "copy"] == "is the same instance as a0"


def test_pictures_without_a_position_are_by_themselves(tmp_path: Path) -> None:
    for number in range(2):
        ds = dicom.make_slice(random_image((6, 5), "uint8", number), number=number, Modality="US")
        ds.SOPClassUID = UltrasoundImageStorage
        ds.ImagePositionPatient = None
        dicom.save(ds, tmp_path / f"IM{number}")
    assert [volume.path.name for volume in volumes(tmp_path)] == ["IM0", "IM1"]
    assert read_scan(tmp_path / "IM1").voxels.shape == (1, 5, 6)


def test_trees_of_a_disc(tmp_path: Path) -> None:
    add(tmp_path / "PAT0/STU0/SER0", "IM", 1)
    shutil.copyfile(tmp_path / "PAT0/STU0/SER0/IM0", tmp_path / "DICOMDIR")
    assert read_scan(tmp_path / "PAT0/STU0/SER0").spatial_shape == SHAPE


def test_a_folder_that_changes_is_looked_at_again(tmp_path: Path) -> None:
    add(tmp_path, "a", 1, SeriesNumber=1)
    assert [volume.path for volume in volumes(tmp_path)] == [tmp_path]
    add(tmp_path, "b", 2, SeriesInstanceUID="1.9", SeriesNumber=2)
    assert [volume.name for volume in volumes(tmp_path)] == ["series1", "series2"]

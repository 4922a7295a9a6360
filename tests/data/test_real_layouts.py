# SPDX-License-Identifier: Apache-2.0
"""Real scans, laid out as people lay out theirs: pairs are found, and some are protected, verified and restored."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import monai_unlearnable as mu
from monai_unlearnable.data import list_dataset
from tests import dicom
from tests.helpers import raw_bytes, stored_voxels

pytestmark = pytest.mark.data
SETS = {
    "hippocampus": ("hippocampus/images", "hippocampus/labels", ".nii.gz"),
    "left_atrium": ("left_atrium/images", "left_atrium/labels", ".nii.gz"),
    "nuclei": ("nuclei/images", "nuclei/masks", ".png"),
}
# Names of image and label, given the name of a case and the suffix.
LAYOUTS = {
    "folders": ("image/{}{}", "Mask/{}{}"),
    "decathlon": ("imagesTr/{}{}", "labelsTr/{}{}"),
    "nnunet": ("imagesTr/{}_0000{}", "labelsTr/{}{}"),
    "sections": ("train/Scans/{}{}", "train/Ground Truth/{}{}"),
    "suffixes": ("{}{}", "{}_seg{}"),
    "parallel": ("img/{}_image{}", "seg/{}-label{}"),
    "patients": ("{0}/t1{1}", "{0}/seg{1}"),
    "brats": ("HGG/{0}/{0}_t1{1}", "HGG/{0}/{0}_seg{1}"),
    "bids": ("sub-{0}/anat/sub-{0}_T1w{1}", "derivatives/manual/sub-{0}/anat/sub-{0}_T1w_dseg{1}"),
}


def lay_out(source: Path, root: Path, kind: str, layout: str, count: int, name: str = "{}") -> list[tuple[str, str]]:
    """Links to the first cases of a set under the names of a layout; these names."""
    images, labels, suffix = SETS[kind]
    files = sorted(path.name for path in (source / images).iterdir() if path.name.endswith(suffix))[:count]
    found = []
    for number, file in enumerate(files, 1):
        case = name.format(f"{number:03}")
        names = [pattern.format(case, suffix) for pattern in LAYOUTS[layout]]
        for target, folder in zip(names, (images, labels), strict=True):
            (root / target).parent.mkdir(parents=True, exist_ok=True)
            (root / target).symlink_to(source / folder / file)
        found.append((names[0], names[1]))
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", SETS)
def test_every_set_in_every_layout(kind: str, layout: str, real_data: Path, tmp_path: Path) -> None:
    expected = lay_out(real_data, tmp_path, kind, layout, 1000)
    found = list_dataset(tmp_path)
    assert sorted(case.files for case in found.cases) == sorted(expected)
    assert len(expected) >= 60 and not found.passed_over


@pytest.mark.parametrize("pattern", ["{}", "Training/{}"])
def test_classes(pattern: str, real_data: Path, tmp_path: Path) -> None:
    (tmp_path / pattern.format("")).mkdir(exist_ok=True)
    for folder in (real_data / "brain_tumor_mri").iterdir():
        if folder.is_dir():
            (tmp_path / pattern.format(folder.name)).symlink_to(folder)
    assert [case.target for case in list_dataset(tmp_path).cases] == [i for i in range(4) for _ in range(300)]


def as_study(real_data: Path, root: Path) -> None:
    """Both studies as an archive gives them, with a segmentation of the one and nothing of the other."""
    label = np.zeros((512, 512, 22), np.uint8)
    label[150:300, 200:350, 5:15] = 1
    series = root / "P1/20010101 MR/601 T1"
    for source, target in (("mr_oblique_512x512x22", series), ("ct_philips_512x512x64", root / "P2/CT/2")):
        shutil.copytree(real_data / "dicom" / source, target)
    dicom.write_seg(series, root / "P1/20010101 MR/900 SEG/seg.dcm", label)


def as_patients(real_data: Path, root: Path) -> None:
    lay_out(real_data, root, "hippocampus", "brats", 4, "BraTS_{}")


def as_folders(real_data: Path, root: Path) -> None:
    lay_out(real_data, root, "nuclei", "folders", 4)


@pytest.mark.parametrize("layout", [as_study, as_patients, as_folders])
def test_protected_verified_and_restored(layout: Callable[[Path, Path], None], real_data: Path, tmp_path: Path) -> None:
    clean, out, back = tmp_path / "clean", tmp_path / "out", tmp_path / "back"
    layout(real_data, clean)
    found = list_dataset(clean)
    mu.protect("lattice", clean, out)
    mu.verify(out, clean=clean)
    mu.restore(out, back)
    for case in found.cases:
        for name in case.files:
            for file in sorted((clean / name).iterdir()) if (clean / name).is_dir() else [clean / name]:
                again = back / file.relative_to(clean)
                if file.suffix == ".png":  # compressed anew
                    assert np.array_equal(stored_voxels(again), stored_voxels(file))
                else:
                    assert raw_bytes(again) == raw_bytes(file)
    if layout is as_study:
        assert [item.name for item in found.passed_over] == ["P2/CT/2"]

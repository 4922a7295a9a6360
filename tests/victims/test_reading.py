# SPDX-License-Identifier: Apache-2.0
"""Exploiters read a DICOM series as they read its NIfTI twin."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.data import MetaTensor

from monai_unlearnable.data import read_scan
from monai_unlearnable.victims import Segmentation
from monai_unlearnable.victims.tasks import LoadImages
from tests import dicom
from tests.helpers import random_image, two_classes


@pytest.mark.parametrize("channels", [1, 2])
def test_series_and_nifti_are_read_alike(tmp_path: Path, channels: int) -> None:
    folders, files = [], []
    for index in range(channels):
        voxels = random_image((9, 8, 7), "int16", index)
        folders.append(str(dicom.write_series(tmp_path / str(index), voxels, RescaleSlope="2", RescaleIntercept="-9")))
        affine = read_scan(folders[-1]).affine
        files.append(str(tmp_path / f"{index}.nii.gz"))
        nib.Nifti1Image((2 * voxels - 9).astype(np.int16), affine).to_filename(files[-1])
    load = LoadImages("image")
    first, second = (load({"image": names[0] if channels == 1 else names})["image"] for names in (folders, files))
    assert isinstance(first, MetaTensor) and first.shape == second.shape == (channels, 9, 8, 7)
    assert np.array_equal(first, second) and np.allclose(first.affine, second.affine, atol=1e-4)


def test_single_files_and_labels(tmp_path: Path) -> None:
    image = random_image((9, 8), "uint16")
    path = dicom.save(dicom.make_slice(image.T), tmp_path / "a.dcm")
    assert np.array_equal(LoadImages("image")({"image": path})["image"][0], image)
    series = dicom.write_series(tmp_path / "s", random_image((9, 8, 7)))
    label = tmp_path / "s.nii.gz"
    dicom.write_label(series, label, two_classes((9, 8, 7)))
    item = {"image": str(tmp_path / "s"), "label": str(label)}
    for transform in Segmentation((0, 1, 2)).loading():
        item = transform(item)
    assert item["image"].shape == item["label"].shape and np.array_equal(item["label"][0], two_classes((9, 8, 7)))

# SPDX-License-Identifier: Apache-2.0
"""Datasets in other layouts than ours: images are protected, labels are copied, and all keep their names."""

from __future__ import annotations

from pathlib import Path

import pytest

import monai_unlearnable as mu
from monai_unlearnable.data import list_dataset
from tests.helpers import SHAPES, random_image, raw_bytes, tree, two_classes, write_nifti

LAYOUTS = {
    "image and mask": (("image/{}.nii.gz",), "Mask/{}.nii.gz"),
    "patients": (("{0}/{0}_flair.nii.gz", "{0}/{0}_t1.nii.gz"), "{0}/{0}_seg.nii.gz"),
    "train tree": (("train/img/{}.nii.gz",), "train/ground truth/{}_label.nii.gz"),
    "bids": (("{0}/anat/{0}_T1w.nii.gz",), "derivatives/x/{0}/anat/{0}_T1w_dseg.nii.gz"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_are_protected_and_labels_copied(layout: str, tmp_path: Path) -> None:
    clean, out, back = tmp_path / "clean", tmp_path / "out", tmp_path / "back"
    images, label = LAYOUTS[layout]
    names = [image.format(case) for case in ("sub-1", "sub-2") for image in images]
    labels = [label.format(case) for case in ("sub-1", "sub-2")]
    for seed, name in enumerate(names):
        write_nifti(clean / name, random_image(SHAPES[3], "int16", seed))
    for name in labels:
        write_nifti(clean / name, two_classes(SHAPES[3]))
    mu.protect("lattice", clean, out)
    mu.verify(out, clean=clean)
    mu.restore(out, back)
    assert tree(out / "protected").keys() == tree(back).keys() == {*names, *labels, "datalist.json"}
    for name in names:
        assert raw_bytes(out / "protected" / name) != raw_bytes(clean / name) == raw_bytes(back / name)
    for name in labels:
        assert (clean / name).read_bytes() == (out / "protected" / name).read_bytes() == (back / name).read_bytes()
    found = [(case.images, case.label) for case in list_dataset(clean).cases]
    assert [(case.images, case.label) for case in list_dataset(out / "protected").cases] == found

# SPDX-License-Identifier: Apache-2.0
"""The voxels that a page holds, read as its script reads them."""

from __future__ import annotations

import base64
import dataclasses
import json
import zlib

import nibabel as nib
import numpy as np
import pytest

from monai_unlearnable.intensity import IntensityWindow, StorageQuantization
from monai_unlearnable.report.html import render_page
from monai_unlearnable.report.viewer import LEVELS, view_scan

from .samples import Page, results, scan

WINDOW = IntensityWindow((0.0,), (200.0,))


def unpack(viewed):
    """The header, and arrays (C, z, y, x)."""
    header = json.loads(viewed.header)
    content, arrays = zlib.decompress(base64.b64decode(viewed.voxels)), {}
    for entry in header["arrays"]:
        count, width = entry["count"], entry["width"]
        planes = [np.frombuffer(content[place * count : (place + 1) * count], np.uint8) for place in range(width)]
        numbers = sum(plane.astype(int) << 8 * place for place, plane in enumerate(planes))
        arrays[entry["name"]] = (numbers + entry["least"]).reshape(-1, *header["size"][::-1])
        content = content[count * width :]
    assert not content
    return header, arrays


def intensities(header, levels):
    low, high = header["units"]
    return low + (header["bottom"] + header["step"] * levels) * (high - low)


def test_voxels_of_the_file_are_told_exactly():
    clean, protected = scan((1, 9, 8, 7), (1, 2, 3))
    label = np.zeros((9, 8, 7), np.uint8)
    label[2:4, 3:5, 1:3] = 2
    header, arrays = unpack(view_scan("a", clean, protected, label, WINDOW))
    assert np.allclose(intensities(header, arrays["scan"])[0].T, clean.voxels[0])
    assert np.allclose(intensities(header, arrays["scan"] + arrays["change"])[0].T, protected.voxels[0])
    assert np.array_equal(arrays["label"][0].T, label)
    assert header["spacing"] == [1, 2, 3]
    assert {plane["name"]: plane["index"] for plane in header["planes"]} == {"axial": 2, "coronal": 4, "sagittal": 3}


@pytest.mark.parametrize("axes", ["RAS", "LPS", "ASL"])
def test_voxels_are_upright_however_they_are_stored(axes):
    clean, protected = scan((1, 9, 8, 7))
    turn = nib.orientations.ornt_transform(*(nib.orientations.axcodes2ornt(codes) for codes in ("RAS", axes)))
    images = [nib.Nifti1Image(one.voxels[0], np.eye(4)).as_reoriented(turn) for one in (clean, protected)]
    turned = [
        dataclasses.replace(clean, voxels=np.asarray(image.dataobj)[None], affine=image.affine) for image in images
    ]
    assert view_scan("a", *turned, None, WINDOW) == view_scan("a", clean, protected, None, WINDOW)


def test_sides_are_named_where_the_file_tells_them_alone():
    clean, protected = scan((1, 9, 8, 7))
    header, _ = unpack(view_scan("a", clean, protected, None, WINDOW))
    assert header["planes"][0]["letters"] == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    unplaced = [dataclasses.replace(one, has_geometry=False) for one in (clean, protected)]
    header, _ = unpack(view_scan("a", *unplaced, None, WINDOW))
    assert not any(plane["letters"] for plane in header["planes"])


def test_color_picture_has_one_plane_and_three_channels():
    clean, protected = scan((3, 12, 10))
    window = IntensityWindow((0.0,) * 3, (200.0,) * 3)
    header, arrays = unpack(view_scan("a", clean, protected, None, window))
    assert (header["channels"], header["size"], len(header["planes"])) == (3, [12, 10, 1], 1)
    found = 200 * (header["bottom"] + header["step"] * arrays["scan"][:, 0])
    assert np.allclose(found.transpose(0, 2, 1), clean.voxels)


def test_fractions_and_far_outliers_stay_within_the_levels():
    clean, _ = scan((1, 9, 8, 7))
    voxels = clean.voxels.astype(np.float32) + 0.3
    voxels[0, 0, 0, 0], voxels[0, 1, 1, 1] = 1e9, np.nan
    floats = dataclasses.replace(clean, voxels=voxels, quantization=StorageQuantization("<f4"))
    header, arrays = unpack(view_scan("a", floats, floats, None, WINDOW))
    assert arrays["scan"].max() == LEVELS
    known = np.isfinite(voxels[0]) & (voxels[0] < 400)
    error = np.abs(intensities(header, arrays["scan"])[0].T - voxels[0])[known]
    assert error.max() < 0.1  # of a window of 200
    assert not arrays["change"].any()


def test_large_scan_is_cropped_around_its_label_to_the_size_that_is_given():
    clean, protected = scan((1, 60, 50, 40))
    label = np.zeros((60, 50, 40), np.uint8)
    label[45:50, 5:9, 30:33] = 1
    viewed = view_scan("a", clean, protected, label, WINDOW, most_letters=60_000)
    header, arrays = unpack(viewed)
    assert 30_000 < len(viewed.voxels) <= 60_000
    assert np.count_nonzero(arrays["label"]) == np.count_nonzero(label)
    assert "of 60 × 50 × 40 voxels" in header["remark"]


def test_without_original_only_the_protected_scan_is_told():
    _, protected = scan((1, 9, 8, 7))
    viewed = view_scan("a", None, protected, None, WINDOW)
    header, arrays = unpack(viewed)
    assert list(arrays) == ["scan"]
    assert np.allclose(intensities(header, arrays["scan"])[0].T, protected.voxels[0])
    assert "there is no original" in render_page(results(), {}, viewed=[viewed])


def test_page_says_whose_scans_it_holds_and_names_cannot_break_it():
    evil = "</script><script>alert(1)</script>"
    viewed = view_scan(evil, *scan((1, 9, 8, 7)), None, WINDOW)
    text = render_page(results(), {}, viewed=[viewed])
    assert "<strong>Keep this page to yourself.</strong> It holds 1 of the owner's scans" in text
    assert not any("alert" in script for script in Page(text).scripts)
    assert [attrs["data-header"] for tag, attrs in Page(text).tags if "data-header" in attrs] == [viewed.header]
    assert "Keep this page" not in render_page(results(), {})

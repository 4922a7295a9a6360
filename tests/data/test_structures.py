# SPDX-License-Identifier: Apache-2.0
"""Structure sets (RTSTRUCT) as labels: contours filled on the slices of their series, or refused with one reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from monai_unlearnable.data import inspect_cases, load_cases, read_case, read_label, read_scan
from monai_unlearnable.data.dicom.contours import fill
from monai_unlearnable.errors import LabelError
from monai_unlearnable.intensity import PercentileWindow
from monai_unlearnable.masks import Everywhere
from monai_unlearnable.perturbers import RandomNoise
from monai_unlearnable.publishing.restore import restore
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.victims import Segmentation
from tests import dicom
from tests.helpers import BUDGET, protect, random_image, tree

SHAPE = (20, 16, 6)


def body() -> NDArray:
    """An ellipse with a hole in it, on some of the slices."""
    x, y, z = np.indices(SHAPE)
    radius = ((x - 9.5) / 8) ** 2 + ((y - 7.5) / 6) ** 2
    return (radius < 1) & (radius > 0.1) & (z > 0) & (z < 5)


def organ() -> NDArray:
    """A part of the body."""
    x, y, z = np.indices(SHAPE)
    return (abs(x - 4) < 2) & (abs(y - 7) < 3) & (z > 1) & (z < 4)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return dicom.write_series(tmp_path / "images/a", random_image(SHAPE))


def read(path: Path, series: Path) -> NDArray:
    return read_label(path, [read_scan(series)], "a")[0]


def remarks(root: Path) -> str:
    (case,) = load_cases(root)
    return "\n".join(read_case(case, PercentileWindow()).remarks)


def test_contours_are_filled_with_their_holes(series: Path, tmp_path: Path) -> None:
    path = dicom.write_structures(series, tmp_path / "labels/a.dcm", {3: dicom.contours_of(body())})
    assert np.array_equal(read(path, series), 3 * body())
    (case,) = load_cases(tmp_path)
    assert case.label == "labels/a.dcm"
    item = case.to_dict()
    for transform in Segmentation((0, 3)).loading():
        item = transform(item)
    assert np.array_equal(item["label"][0], body())


def test_of_overlapping_structures_the_smallest_counts(series: Path, tmp_path: Path) -> None:
    for numbers in ((1, 2), (2, 1)):
        structures = {numbers[0]: dicom.contours_of(body()), numbers[1]: dicom.contours_of(organ())}
        path = dicom.write_structures(series, tmp_path / "labels/a.dcm", structures)
        assert np.array_equal(read(path, series), np.where(organ(), numbers[1], numbers[0] * body()))
        overlap = int((organ() & body()).sum())
        assert f"segments 1 (part 1) and 2 (part 2) overlap in {overlap} voxels" in remarks(tmp_path)


def test_contours_through_pixel_centers_hold_these(series: Path, tmp_path: Path) -> None:
    corners = np.array([[2, 3], [9, 3], [9, 8], [2, 8.0]])
    path = dicom.write_structures(series, tmp_path / "a.dcm", {1: [(2, corners), (2, corners)]})  # one of them twice
    expected = np.zeros(SHAPE, bool)
    expected[2:10, 3:9, 2] = True
    assert np.array_equal(read(path, series), expected)


def test_holes_by_a_channel(series: Path, tmp_path: Path) -> None:
    outer = [[1.5, 1.5], [12.5, 1.5], [12.5, 12.5], [1.5, 12.5], [1.5, 1.5]]
    inner = [[4.5, 4.5], [4.5, 8.5], [8.5, 8.5], [8.5, 4.5], [4.5, 4.5]]
    path = dicom.write_structures(series, tmp_path / "a.dcm", {1: [(0, np.array(outer + inner))]})
    expected = np.zeros(SHAPE, bool)
    expected[2:13, 2:13, 0] = True
    expected[5:9, 5:9, 0] = False
    assert np.array_equal(read(path, series), expected)


def test_contours_reach_beyond_the_image(series: Path, tmp_path: Path) -> None:
    corners = np.array([[-5, -5], [4.5, -5], [4.5, 40], [-5, 40.0]])
    path = dicom.write_structures(series, tmp_path / "a.dcm", {1: [(1, corners)]})
    assert read(path, series).sum() == 5 * SHAPE[1] and read(path, series)[:5, :, 1].all()


def test_polygons_are_filled_as_by_others() -> None:
    rng, (rows, columns) = np.random.default_rng(0), (40, 50)
    centers = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2)
    for _ in range(30):
        angles = np.sort(rng.random(9)) * 2 * np.pi
        outer = [25, 20] + rng.uniform(3, 22, (9, 1)) * np.stack([np.cos(angles), np.sin(angles)], 1)
        inner = [25, 20] + 0.5 * (outer[::-1] - [25, 20])
        expected = Polygon(outer).contains_points(centers) ^ Polygon(inner).contains_points(centers)
        assert np.array_equal(fill([outer, inner], (rows, columns)).ravel(), expected)


def with_points(ds: Any) -> None:
    """A point and an open contour beside the closed ones, and a structure without any."""
    for kind, count in (("POINT", 1), ("OPEN_PLANAR", 4)):
        contour = Dataset()
        contour.ContourGeometricType, contour.ContourData = kind, [0.0, 0.0, 0.0] * count
        ds.ROIContourSequence[0].ContourSequence.append(contour)
    described, item = Dataset(), Dataset()
    described.ROINumber, described.ROIName, item.ReferencedROINumber = 8, "couch", 8
    ds.StructureSetROISequence.append(described)
    ds.ROIContourSequence.append(item)


def test_what_has_no_inside_is_passed_over_with_a_remark(series: Path, tmp_path: Path) -> None:
    structures = {1: dicom.contours_of(organ())}
    path = dicom.write_structures(series, tmp_path / "labels/a.dcm", structures, change=with_points)
    assert np.array_equal(read(path, series), organ())
    assert "passed over: part 1 (OPEN_PLANAR, POINT), couch (no contours)" in remarks(tmp_path)


def test_structure_zero_is_no_background(series: Path, tmp_path: Path) -> None:
    structures = {0: dicom.contours_of(organ()), 4: dicom.contours_of(body() & ~organ())}
    path = dicom.write_structures(series, tmp_path / "labels/a.dcm", structures)
    assert np.array_equal(read(path, series), np.where(organ(), 5, 4 * body()))
    assert "structure 0 (part 0) has the label value 5" in remarks(tmp_path)


@pytest.mark.parametrize("kind", ["contours", "segments"])
def test_slices_of_an_uneven_grid_are_found(tmp_path: Path, kind: str) -> None:
    normal = np.cross(dicom.OBLIQUE[:3], dicom.OBLIQUE[3:])

    def move(index: int, ds: Any) -> None:
        """Gaps that grow, and a tilted gantry."""
        place = dicom.ORIGIN + index * (1 + 0.3 * index) * normal + 0.2 * index * np.array(dicom.OBLIQUE[:3])
        ds.ImagePositionPatient = place.round(6).tolist()

    series = dicom.write_series(tmp_path / "images/a", random_image(SHAPE), change=move)
    if kind == "contours":
        path = dicom.write_structures(series, tmp_path / "a.dcm", {1: dicom.contours_of(organ())})
    else:
        path = dicom.write_seg(series, tmp_path / "a.dcm", organ().astype(np.uint8))
    assert np.array_equal(read(path, series), organ())


def test_numbers_that_mean_several_things_are_named(tmp_path: Path) -> None:
    for number, name in enumerate(("Liver", "liver_", "Spleen")):
        uid = f"1.2.3.{20 + number}"

        def change(index: int, ds: Any, uid: str = uid) -> None:
            ds.SeriesInstanceUID = uid
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{index + 1}"

        def call(ds: Any, name: str = name) -> None:
            ds.StructureSetROISequence[0].ROIName = name

        series = dicom.write_series(tmp_path / f"images/{number}", random_image(SHAPE, seed=number), change=change)
        contours = dicom.contours_of(organ())
        dicom.write_structures(series, tmp_path / f"labels/{number}.dcm", {1: contours}, change=call)
    summary = inspect_cases(load_cases(tmp_path), PercentileWindow())
    assert summary.class_names == {1: ("Liver", "Spleen")}
    assert summary.label_remarks() == [
        "label value 1 is called 'Liver' and 'Spleen'; it must mean the same in all cases"
    ]
    assert not inspect_cases(load_cases(tmp_path)[:2], PercentileWindow()).label_remarks()


def other_series(ds: Any) -> None:
    referenced = ds.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    referenced.SeriesInstanceUID = "1.2.3.99"
    del referenced.ContourImageSequence
    for contour in ds.ROIContourSequence[0].ContourSequence:
        del contour.ContourImageSequence


def moved(distance: float) -> Callable[[Any], None]:
    def change(ds: Any) -> None:
        shift = distance * np.cross(dicom.OBLIQUE[:3], dicom.OBLIQUE[3:])
        for contour in ds.ROIContourSequence[0].ContourSequence:
            places = np.reshape(contour.ContourData, (-1, 3)).astype(float) + shift
            contour.ContourData = places.round(5).ravel().tolist()

    return change


def undescribed(ds: Any) -> None:
    ds.ROIContourSequence[0].ReferencedROINumber = 7


def cut(ds: Any) -> None:
    ds.ROIContourSequence[0].ContourSequence[0].ContourData = [1.0, 2.0]


def only_points(ds: Any) -> None:
    for contour in ds.ROIContourSequence[0].ContourSequence:
        contour.ContourGeometricType = "POINT"


REFUSED = {
    "other series": (other_series, r"is of another series: it refers to 1\.2\.3\.99"),
    "between slices": (
        moved(1.2),
        r"structure 1 \(part 1\) has a contour that lies up to 1\.2 mm from the nearest slice",
    ),
    "beyond": (moved(40), r"has a contour that lies up to .* mm from the nearest slice; slices are 2\.5 mm apart"),
    "undescribed": (undescribed, "contours are of structure 7, which is not described"),
    "cut": (cut, "has contours whose points are no triples of numbers"),
    "only points": (only_points, r"holds no closed contours: part 1 \(POINT\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_with_the_reason(series: Path, tmp_path: Path, name: str) -> None:
    change, reason = REFUSED[name]
    path = dicom.write_structures(series, tmp_path / "a.dcm", {1: dicom.contours_of(organ())}, change=change)
    with pytest.raises(LabelError, match=reason) as caught:
        read(path, series)
    assert (caught.value.case, caught.value.file) == ("a", path)


def test_published_structures_fit_the_published_series(series: Path, tmp_path: Path) -> None:
    clean = tmp_path / "clean"
    clean.mkdir()
    (tmp_path / "images").rename(clean / "images")
    structures = {1: dicom.contours_of(body()), 2: dicom.contours_of(organ())}
    dicom.write_structures(clean / "images/a", clean / "labels/a.dcm", structures)
    protect(clean, tmp_path / "out", RandomNoise(BUDGET.epsilon, Everywhere()))
    verify(tmp_path / "out", clean)
    published = tmp_path / "out/protected"
    instances = {str(dcmread(path).SOPInstanceUID) for path in dicom.slices_of(published / "images/a")}
    old, new = dcmread(clean / "labels/a.dcm"), dcmread(published / "labels/a.dcm")
    named = {str(e.value) for e in new.iterall() if e.keyword == "ReferencedSOPInstanceUID"} - {old.StudyInstanceUID}
    assert named == instances and new.SOPInstanceUID != old.SOPInstanceUID
    expected = np.where(organ(), 2, body())
    assert np.array_equal(read(published / "labels/a.dcm", published / "images/a"), expected)
    restore(tmp_path / "out", tmp_path / "back")
    assert {k: v for k, v in tree(tmp_path / "back").items() if k != "datalist.json"} == tree(clean)

# SPDX-License-Identifier: Apache-2.0
"""DICOM segmentations as labels: on the grid of their series, or refused with one reason."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from monai_unlearnable.data import load_cases, read_case, read_label, read_scan
from monai_unlearnable.data.dicom import is_annotation, rename
from monai_unlearnable.errors import DatalistError, LabelError, ScanError
from monai_unlearnable.intensity import PercentileWindow
from monai_unlearnable.transforms import LoadScand
from monai_unlearnable.victims import Segmentation
from tests import dicom
from tests.helpers import random_image, two_classes, write_datalist, write_nifti

SHAPE = (6, 5, 8)  # 30 pixels a frame, which is no whole number of bytes


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return dicom.write_series(tmp_path / "images/a", random_image(SHAPE))


def sparse() -> NDArray:
    """Segments 3 and 7 on slices 1, 3 and 6, among them none at equal distances."""
    label = np.zeros(SHAPE, np.uint8)
    for index in (1, 3, 6):
        label[1:3, 2:4, index], label[4, index % 5, index] = 3, 7
    return label


def read(path: Path, *series: Path) -> NDArray:
    return read_label(path, [read_scan(folder) for folder in series], "a")[0]


@pytest.mark.parametrize(
    ("kind", "syntax"),
    [
        *[(kind, syntax) for kind in ("BINARY", "LABELMAP") for syntax in dicom.NATIVE[:2]],
        *[("LABELMAP", syntax) for syntax in (RLELossless, JPEGLSLossless)],
    ],
)
def test_segments_lie_where_highdicom_puts_them(series: Path, tmp_path: Path, kind: str, syntax: str) -> None:
    numbers = [1, 2] if kind == "BINARY" else [3, 7]
    label = sparse()
    if kind == "BINARY":
        label = np.select([label == 3, label == 7], [1, 2]).astype(np.uint8)
    seg = dicom.write_seg(series, tmp_path / "a.dcm", label, kind, syntax, numbers)
    found = read(seg, series)
    assert np.array_equal(found, label) and found.dtype.kind in "iu"
    assert np.array_equal(found, dicom.read_seg(seg, series))


@given(data=st.data())
def test_any_label_map_comes_back(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    root = tmp_path_factory.mktemp("any")
    label = data.draw(arrays(np.uint8, SHAPE, elements=st.integers(0, 3)).filter(np.any))
    kind = data.draw(st.sampled_from(["BINARY", "LABELMAP"]))
    series = dicom.write_series(root / "s", random_image(SHAPE))
    assert np.array_equal(read(dicom.write_seg(series, root / "a.dcm", label, kind, numbers=[1, 2, 3]), series), label)


def test_any_lossless_syntax_is_read(tmp_path: Path) -> None:
    label = two_classes((40, 36, 3))
    series = dicom.write_series(tmp_path / "s", random_image(label.shape))
    seg = dicom.write_seg(series, tmp_path / "a.dcm", label, "LABELMAP", JPEG2000Lossless)
    assert np.array_equal(read(seg, series), label)


def test_tiled_segmentations_are_refused(series: Path, tmp_path: Path) -> None:
    def tiled(seg: Any) -> None:
        del seg.PerFrameFunctionalGroupsSequence

    seg = dicom.write_seg(series, tmp_path / "a.dcm", two_classes(SHAPE), change=tiled)
    with pytest.raises(LabelError, match=r"8 frames, but 0 descriptions of frames"):
        read(seg, series)


def shuffle(seg: Any) -> None:
    """The frames in another order, with whole bytes a frame."""
    pixels, order = seg.pixel_array, np.random.default_rng(1).permutation(int(seg.NumberOfFrames))
    seg.PixelData = np.packbits(pixels[order], axis=None, bitorder="little").tobytes()
    frames = list(seg.PerFrameFunctionalGroupsSequence)
    seg.PerFrameFunctionalGroupsSequence = [frames[index] for index in order]


def without(*names: str) -> Callable[[Any], None]:
    """Take sequences out of the descriptions of all frames."""

    def change(seg: Any) -> None:
        for groups in (*seg.PerFrameFunctionalGroupsSequence, *seg.SharedFunctionalGroupsSequence):
            for name in names:
                groups.pop(name, None)

    return change


def without_references(seg: Any) -> None:
    without("DerivationImageSequence")(seg)
    del seg.ReferencedSeriesSequence, seg.SourceImageSequence


@pytest.mark.parametrize(
    "change",
    [
        shuffle,
        without("DerivationImageSequence"),
        without("PlanePositionSequence"),
        without("PlaneOrientationSequence", "PixelMeasuresSequence"),
        without_references,
    ],
)
def test_frames_find_their_slices(series: Path, tmp_path: Path, change: Callable) -> None:
    label = np.minimum(sparse(), 1)
    label[0, 0, 6] = 2
    seg = dicom.write_seg(series, tmp_path / "a.dcm", label, change=change)
    assert np.array_equal(read(seg, series), label)


def frame(index: int, group: str, **tags: Any) -> Callable[[Any], None]:
    """Set tags in the description of one frame."""

    def change(seg: Any) -> None:
        for name, value in tags.items():
            setattr(seg.PerFrameFunctionalGroupsSequence[index][group].value[0], name, value)

    return change


def shared(group: str, **tags: Any) -> Callable[[Any], None]:
    def change(seg: Any) -> None:
        for name, value in tags.items():
            setattr(seg.SharedFunctionalGroupsSequence[0][group].value[0], name, value)

    return change


def move(*shift: float) -> Callable[[Any], None]:
    def change(seg: Any) -> None:
        places = [groups.PlanePositionSequence[0] for groups in seg.PerFrameFunctionalGroupsSequence]
        for place in {id(place): place for place in places}.values():  # frames of one slice share theirs
            place.ImagePositionPatient = (np.asarray(place.ImagePositionPatient, float) + shift).round(4).tolist()

    return change


def elsewhere(seg: Any) -> None:
    without_references(seg)
    seg.FrameOfReferenceUID = "1.2.3.99"


def of_other(seg: Any) -> None:
    without("DerivationImageSequence")(seg)
    del seg.SourceImageSequence
    seg.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3.99"
    for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence:
        item.ReferencedSOPInstanceUID += ".9"


def short(seg: Any) -> None:
    seg.PixelData = seg.PixelData[:-8]


NORMAL = np.cross(dicom.OBLIQUE[:3], dicom.OBLIQUE[3:])
REFUSED: dict[str, tuple[Callable[[Any], object], str]] = {
    "other series": (of_other, r"is of another series: it refers to 1\.2\.3\.99, the image is 1\.2\.3\.2"),
    "other space": (elsewhere, r"refers to no image, and its frame of reference 1\.2\.3\.99 is not that"),
    "shifted": (move(0.5, 0, 0), r"frame 1 lies up to 0\.5 mm from the nearest slice: it is on another grid"),
    "between slices": (move(*(1.2 * NORMAL)), r"frame 1 lies up to 1\.2 mm from the nearest slice"),
    "beyond": (move(*(20 * NORMAL)), r"frame \d lies where the series has no slice"),
    "spacing": (shared("PixelMeasuresSequence", PixelSpacing=[0.9, 0.8]), "it is on another grid"),
    "flipped": (
        shared("PlaneOrientationSequence", ImageOrientationPatient=[-0.96, -0.28, 0.0, -0.224, 0.768, 0.6]),
        "it is on another grid",
    ),
    "size": (lambda seg: setattr(seg, "Rows", 6), r"frames of 6 x 6 pixels lie on no slice of 6 x 5"),
    "contradiction": (
        move(*(2.5 * NORMAL)),
        r"frame 1 lies on 1\.2\.826\.0\.1\.\d by its position, and refers to another slice",
    ),
    "nowhere": (
        without("DerivationImageSequence", "PlanePositionSequence"),
        "frame 1 has no position, and does not refer to one slice",
    ),
    "unknown segment": (
        frame(1, "SegmentIdentificationSequence", ReferencedSegmentNumber=5),
        r"frame 2 holds segment 5, which is not described; described are 1 \(part 1\), 2 \(part 2\)",
    ),
    "no segment": (without("SegmentIdentificationSequence"), "frame 1 does not say of which segment it is"),
    "kind": (lambda seg: setattr(seg, "SegmentationType", "SURFACE"), "SURFACE segments are not supported; BINARY, FR"),
    "truncated": (short, "truncated: 15 bytes of pixels expected, 8 found"),
    "descriptions": (
        lambda seg: seg.PerFrameFunctionalGroupsSequence.pop(),
        r"4 frames, but 3 descriptions of frames",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_with_the_reason(series: Path, tmp_path: Path, name: str) -> None:
    change, reason = REFUSED[name]
    label = np.zeros(SHAPE, np.uint8)
    label[1:3, 2:4, 2:4], label[4, 0, 2:4] = 1, 2
    seg = dicom.write_seg(series, tmp_path / "a.dcm", label, change=change)
    with pytest.raises(LabelError, match=reason) as caught:
        read(seg, series)
    assert (caught.value.case, caught.value.file) == ("a", seg)


@pytest.mark.parametrize("smallest", [1, 2])
def test_of_overlapping_segments_the_smallest_counts(series: Path, tmp_path: Path, smallest: int) -> None:
    segments = [two_classes(SHAPE) > 0, two_classes(SHAPE) == 2]
    ordered = segments if smallest == 2 else segments[::-1]
    seg = dicom.write_seg(series, tmp_path / "a.dcm", np.stack(ordered, -1).astype(np.uint8), numbers=[1, 2])
    expected = np.where(segments[1], smallest, np.where(segments[0], 3 - smallest, 0))
    assert np.array_equal(read(seg, series), expected)
    (tmp_path / "labels").mkdir()
    seg.rename(tmp_path / "labels/a.dcm")
    (case,) = load_cases(tmp_path)
    overlap = int(segments[1].sum())
    remark = f"segments 1 (part 1) and 2 (part 2) overlap in {overlap} voxels; a voxel counts for the smallest segment"
    assert any(remark in own for own in read_case(case, PercentileWindow()).remarks)


@pytest.mark.parametrize("syntax", [dicom.NATIVE[1], RLELossless])
def test_half_of_a_voxel_belongs_to_a_fractional_segment(series: Path, tmp_path: Path, syntax: str) -> None:
    fractions = np.zeros(SHAPE, np.float32)
    fractions[1:3, 1:4, 2:5], fractions[3, 1:4, 2:5], fractions[4, 1:4, 2:5] = 1, 0.5, 0.49
    seg = dicom.write_seg(series, tmp_path / "a.dcm", fractions, "FRACTIONAL", syntax, [1], max_fractional_value=100)
    assert np.array_equal(read(seg, series), fractions >= 0.5)


def test_segments_that_touch_do_not_overlap(series: Path, tmp_path: Path) -> None:
    seg = tmp_path / "a.dcm"
    apart = np.stack([two_classes(SHAPE) == 1, two_classes(SHAPE) == 2], -1).astype(np.uint8)
    assert np.array_equal(read(dicom.write_seg(series, seg, apart, numbers=[1, 2]), series), two_classes(SHAPE))


def test_a_segmentation_of_one_of_several_images(series: Path, tmp_path: Path) -> None:
    def rename_all(index: int, ds: Any) -> None:
        ds.SeriesInstanceUID = "1.2.3.20"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.20.{index + 1}"

    other = dicom.write_series(tmp_path / "images/b", random_image(SHAPE, seed=1), change=rename_all)
    seg = dicom.write_seg(other, tmp_path / "a.dcm", two_classes(SHAPE))
    assert np.array_equal(read(seg, series, other), two_classes(SHAPE))
    with pytest.raises(LabelError, match="is of another series"):
        read(seg, series)


def test_a_segmentation_of_a_radiograph(tmp_path: Path) -> None:
    label = two_classes(SHAPE[:2])
    image = dicom.save(dicom.make_slice(random_image(SHAPE[:2]).T), tmp_path / "images/a.dcm")
    seg = dicom.write_seg(image, tmp_path / "labels/a.dcm", label[..., None])
    assert np.array_equal(read(seg, image), label)
    (case,) = load_cases(tmp_path)
    assert np.array_equal(read_case(case, PercentileWindow()).label[0], label)


def test_segmentations_and_images_are_told_apart(series: Path, tmp_path: Path) -> None:
    seg = dicom.write_seg(series, tmp_path / "a.dcm", two_classes(SHAPE))
    assert is_annotation(seg) and not is_annotation(next(series.iterdir())) and not is_annotation(series)
    with pytest.raises(ScanError, match=r"a\.dcm: a segmentation is a label, not an image"):
        read_scan(seg)
    image = write_nifti(tmp_path / "a.nii.gz", random_image(SHAPE))
    with pytest.raises(
        LabelError, match=r"a\.dcm: the label cannot be used: a DICOM segmentation or structure set needs a"
    ):
        read(seg, image)


@pytest.mark.parametrize("place", ["labels/a.dcm", "labels/a/IM1", "labels/a/seg.dcm"])
def test_segmentations_stand_where_labels_can(series: Path, tmp_path: Path, place: str) -> None:
    dicom.write_seg(series, tmp_path / place, two_classes(SHAPE))
    (case,) = load_cases(tmp_path)
    assert (case.images, case.label) == (("images/a",), place)
    assert np.array_equal(read_case(case, PercentileWindow()).label[0], two_classes(SHAPE))
    named = place if place.endswith("labels/a.dcm") else "labels/a"
    write_datalist(tmp_path, [{"image": "images/a", "label": named}])
    assert [case.label for case in load_cases(tmp_path)] == [place]


def test_the_folder_of_a_segmentation_holds_nothing_else(series: Path, tmp_path: Path) -> None:
    seg = dicom.write_seg(series, tmp_path / "labels/a/1.dcm", two_classes(SHAPE))
    (tmp_path / "labels/a/.DS_Store").write_text("x")
    assert load_cases(tmp_path)[0].label == "labels/a/1.dcm"
    shutil.copyfile(seg, seg.with_name("2.dcm"))
    with pytest.raises(DatalistError, match="the folder of a DICOM segmentation holds 2 files"):
        load_cases(tmp_path)


def test_pipelines_and_victims_read_segmentations(series: Path, tmp_path: Path) -> None:
    dicom.write_seg(series, tmp_path / "labels/a.dcm", two_classes(SHAPE))
    item = load_cases(tmp_path)[0].to_dict()
    ours, theirs = LoadScand(["image", "label"])(item), item
    for transform in Segmentation((0, 1, 2)).loading():
        theirs = transform(theirs)
    for data in (ours, theirs):
        assert np.array_equal(data["label"][0], two_classes(SHAPE))
        assert np.array_equal(data["label"].affine, data["image"].affine)
        assert np.array_equal(data["image"][0], random_image(SHAPE))


@pytest.mark.parametrize("syntax", [*dicom.NATIVE[:2], DeflatedExplicitVRLittleEndian])
def test_references_are_renamed_and_all_else_is_kept(series: Path, tmp_path: Path, syntax: str) -> None:
    def change(seg: Any) -> None:
        seg.DigitalSignaturesSequence = [Dataset()]
        seg.private_block(0x0019, "MAKER", create=True).add_new(1, "LO", "mine")
        seg.file_meta.TransferSyntaxUID = syntax

    path = dicom.write_seg(series, tmp_path / "a.dcm", two_classes(SHAPE), change=change)
    content = path.read_bytes()
    assert rename(content, {"1.2.3.99": "1.2.3.98"}) == content
    renamed = {"1.2.3.2": "2.25.2"} | {f"1.2.826.0.1.{n}": f"2.25.{n}" for n in range(1, 9)}
    (tmp_path / "b.dcm").write_bytes(rename(content, renamed))
    old, new = dcmread(path), dcmread(tmp_path / "b.dcm")
    assert rename(content, renamed) == (tmp_path / "b.dcm").read_bytes()
    assert new.SOPInstanceUID == new.file_meta.MediaStorageSOPInstanceUID != old.SOPInstanceUID
    assert new.SOPInstanceUID.startswith("2.25.")
    text = str(old)
    for first, second in sorted(renamed.items(), key=lambda pair: -len(pair[0])):
        text = text.replace(f" {first}\n", f" {second}\n")
    own = ("(FFFA,FFFA)", "(0002,0000)", "(0002,0003)", "(0008,0018)")  # signatures, length, instance UIDs
    lines = [[s for s in t.splitlines() if s.strip(" -") and s[:11] not in own] for t in (text, str(new))]
    assert lines[0] == lines[1] and str(old) != text and new.PixelData == old.PixelData
    assert "DigitalSignaturesSequence" in old and "DigitalSignaturesSequence" not in new

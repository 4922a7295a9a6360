# SPDX-License-Identifier: Apache-2.0
"""DICOM series: put in order, refused with one reason, and written so that nothing else changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from monai_unlearnable.data import load_cases, read_case, read_label, read_scan, write_scan
from monai_unlearnable.data.formats import original_headers, with_headers
from monai_unlearnable.errors import DatalistError, LabelError, NoiseError, ScanError
from monai_unlearnable.intensity import PercentileWindow, StorageQuantization
from monai_unlearnable.utils.files import read_content
from tests import dicom
from tests.helpers import random_image, write_datalist, write_nifti

SHAPE = (6, 5, 4)


def image(dtype: str = "int16") -> NDArray:
    return random_image(SHAPE, dtype)


def each(**tags: Any) -> Callable[[int, Any], None]:
    """Set tags of the third slice along the normal."""

    def change(index: int, ds: Any) -> None:
        if index == 2:
            for name, value in tags.items():
                setattr(ds, name, value)

    return change


def move(index: int, ds: Any, *shift: float) -> None:
    ds.ImagePositionPatient = (np.asarray(ds.ImagePositionPatient, float) + shift).round(6).tolist()


def stretch(index: int, ds: Any) -> None:
    move(index, ds, 0, 0, 1.5 * (index == 2))


def shear(index: int, ds: Any) -> None:
    move(index, ds, 0, 0.5 * index, 0)


def drop(name: str) -> Callable[[int, Any], None]:
    return lambda index, ds: index != 2 or delattr(ds, name)


AXIAL = (1, 0, 0, 0, 1, 0)
SEVERAL = r"the folder holds 2 volumes: 002\.dcm \(.*\); series_1.* \(.*3 of 6 x 5\); name one as .*/NAME, or give each"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "same position": (
        {"change": lambda index, ds: move(index, ds, 0, 0, -2.5 * (index == 2))},
        r"00[23]\.dcm: lies at the same position as 00[23]\.dcm",
    ),
    "mixed series": ({"change": each(SeriesInstanceUID="1.9")}, SEVERAL),
    "mixed orientation": ({"change": each(ImageOrientationPatient=[1, 0, 0, 0, 0, 1])}, SEVERAL),
    "mixed spacing": ({"change": each(PixelSpacing=[1, 1])}, SEVERAL),
    "no position": ({"change": drop("ImagePositionPatient")}, r"002\.dcm: has no ImagePositionPatient or Image"),
    "no pixels": ({"change": drop("BitsStored")}, r"002\.dcm: cannot be read: .*BitsStored"),
    "no uid": ({"change": drop("SeriesInstanceUID")}, r"002\.dcm: SeriesInstanceUID is missing"),
    "same instance": ({"change": each(SOPInstanceUID="1.2.826.0.1.2")}, r"00[23]\.dcm: is the same instance as 00[12]"),
    "frames": ({"change": each(NumberOfFrames=2)}, SEVERAL),
    "color": ({"change": each(PhotometricInterpretation="PALETTE COLOR")}, SEVERAL),
    "samples": ({"change": each(SamplesPerPixel=3)}, SEVERAL),
    "table": ({"change": each(ModalityLUTSequence=[])}, "a lookup table for physical values is not supported"),
    "high bit": ({"bits": 12, "change": each(HighBit=15)}, r"12 bits up to bit 15 of 16 are not supported"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_series_are_refused_with_the_file_and_the_reason(name: str, tmp_path: Path) -> None:
    options, reason = REFUSED[name]
    dicom.write_series(tmp_path, image(), orientation=AXIAL, **options)
    with pytest.raises(ScanError, match=reason) as caught:
        read_scan(tmp_path)
    assert str(tmp_path) in str(caught.value) and caught.value.file is not None


def cut(share: float) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (cut(0.99), r"002\.dcm: truncated: 60 bytes of pixels expected, [0-9]+ found"),
    "cut header": (cut(0.5), r"002\.dcm: (the file holds no image|cannot be read)"),
    "empty": (cut(0), r"002\.dcm: (not a DICOM file|cannot be read)"),
    "text": (lambda path: path.write_text("no image"), r"002\.dcm: (not a DICOM file|cannot be read)"),
    "folder": (lambda path: (path.parent / "below").mkdir(), "below: the folder of a series must not hold folders"),
    "without pixels": (lambda path: _without_pixels(path), r"002\.dcm: the file holds no image, or was cut"),
}


def _without_pixels(path: Path) -> None:
    ds = dcmread(path)
    del ds.PixelData
    dcmwrite(path, ds)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_with_the_file_and_the_reason(name: str, tmp_path: Path) -> None:
    damage, reason = BROKEN[name]
    dicom.write_series(tmp_path, image())
    damage(tmp_path / "002.dcm")
    with pytest.raises(ScanError, match=reason):
        read_scan(tmp_path)


@pytest.mark.parametrize("syntax", dicom.LOSSLESS, ids=lambda syntax: syntax.keyword)
def test_broken_streams_are_refused(syntax: str, tmp_path: Path) -> None:
    path = dicom.save(dicom.make_slice(random_image((40, 36))), tmp_path / "a.dcm", syntax)
    cut(0.7)(path)
    with pytest.raises(ScanError, match=r"a\.dcm: the file holds no image, or was cut: PixelData is missing"):
        read_scan(path)


WRONG_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "palette": (
        lambda path: dicom.save(dicom.make_slice(image()[:, :, 0], PhotometricInterpretation="PALETTE COLOR"), path),
        "another entry of the palette, and can be any color; convert the file to RGB or MONOCHROME2",
    ),
    "samples": (
        lambda path: dicom.save(dicom.make_slice(image()[:, :, 0], PhotometricInterpretation="RGB"), path),
        "RGB pixels of 1 value are not supported; MONOCHROME1, MONOCHROME2, RGB, YBR_FULL, YBR_FULL_422 are",
    ),
    "frames without description": (
        lambda path: dicom.write_enhanced(path, FRAMES, change=lambda ds: ds.PerFrameFunctionalGroupsSequence.pop()),
        "4 frames, but 3 descriptions of frames",
    ),
    "some positions": (
        lambda path: dicom.write_enhanced(path, FRAMES, change_frame=lambda index, groups: index or groups.clear()),
        "frame 1 has no position or orientation, and others do",
    ),
    "frames cut": (
        lambda path: dicom.write_enhanced(path, FRAMES, change=lambda ds: dicom.put_pixels(ds, FRAMES[:3])),
        "truncated: 240 bytes of pixels expected, 180 found",
    ),
    "floats": (
        lambda path: dicom.save(_with_floats(), path),
        "pixels that are floating-point numbers are not supported; use integers and RescaleSlope",
    ),
}
FRAMES = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def _with_floats() -> Any:
    ds = dicom.make_slice(image()[:, :, 0].T)
    del ds.PixelData
    ds.FloatPixelData = np.zeros((5, 6), np.float32).tobytes()
    return ds


@pytest.mark.parametrize("name", WRONG_FILES)
def test_files_are_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    write, reason = WRONG_FILES[name]
    write(tmp_path / "a.dcm")
    with pytest.raises(ScanError, match=rf"a\.dcm: .*{reason}"):
        read_scan(tmp_path / "a.dcm")


def test_each_slice_has_its_own_slope_padding_and_bits(tmp_path: Path) -> None:
    def change(index: int, ds: Any) -> None:
        ds.RescaleSlope, ds.RescaleIntercept, ds.PixelPaddingValue = f"{1 + index / 2}", f"{-index}", -index
        ds.BitsStored, ds.HighBit = 12 + index, 11 + index

    voxels = image()
    scan = read_scan(dicom.write_series(tmp_path, voxels, 12, change=change))
    assert scan.quantization == StorageQuantization(
        "<i2", (1, 1.5, 2, 2.5), (0, -1, -2, -3), (12, 13, 14, 15), (0, -1, -2, -3), (0, -1, -2, -3)
    )
    slices = np.arange(4)
    assert np.allclose(scan.physical(np.float64)[0], voxels * (1 + slices / 2) - slices)


def test_frames_of_several_orientations_are_slices_in_their_order(tmp_path: Path) -> None:
    def turn(index: int, groups: Dataset) -> None:
        groups.PlaneOrientationSequence = [Dataset()]
        groups.PlaneOrientationSequence[0].ImageOrientationPatient = (
            [1, 0, 0, 0, 1, 0] if index % 2 else [0, 1, 0, 0, 0, 1]
        )

    scan = read_scan(dicom.write_enhanced(tmp_path / "a.dcm", FRAMES, change_frame=turn))
    assert np.array_equal(scan.voxels[0].T, FRAMES)
    assert "frames are of several orientations or pixel sizes, and taken in their order as slices" in scan.remarks[0]


def test_enhanced_files_say_that_they_are_derived(tmp_path: Path) -> None:
    scan = read_scan(dicom.write_enhanced(tmp_path / "a.dcm", FRAMES))
    write_scan(scan, scan.voxels + np.int16(1), tmp_path / "b.dcm")
    old, new = dcmread(tmp_path / "a.dcm"), dcmread(tmp_path / "b.dcm")
    (item,) = new.SharedFunctionalGroupsSequence[0].MRImageFrameTypeSequence
    assert list(item.FrameType) == ["DERIVED", "PRIMARY", "M"] and new.ImageType[0] == "DERIVED"
    assert new.SOPInstanceUID != old.SOPInstanceUID and new.SeriesInstanceUID != old.SeriesInstanceUID
    assert new.PerFrameFunctionalGroupsSequence == old.PerFrameFunctionalGroupsSequence
    assert np.array_equal(new.pixel_array, FRAMES + 1)


def test_segmentations_of_an_enhanced_file_lie_on_its_slices(tmp_path: Path) -> None:
    def complete(ds: Any) -> None:
        for name in dicom.PERSON:
            ds.setdefault(name, None)
        ds.DimensionOrganizationSequence = [Dataset()]
        ds.DimensionOrganizationSequence[0].DimensionOrganizationUID = "1.2.3.4"

    source = dcmread(dicom.write_enhanced(tmp_path / "a.dcm", FRAMES, places=(2, 0, 3, 1), change=complete))
    kind = hd.seg.SegmentAlgorithmTypeValues.MANUAL
    part = hd.seg.SegmentDescription(1, "a", codes.SCT.Tissue, codes.SCT.Liver, kind)
    maker = ("1.2.3.7", 7, "1.2.3.8", 1, "maker", "model", "1", "0")
    hd.seg.Segmentation([source], (FRAMES % 7 == 0).astype(np.uint8), "BINARY", [part], *maker).save_as(
        tmp_path / "b.dcm"
    )
    scan = read_scan(tmp_path / "a.dcm")
    assert np.array_equal(read_label(tmp_path / "b.dcm", [scan]) != 0, scan.voxels % 7 == 0)


def test_legacy_enhanced_files_are_the_series_that_they_were_made_from(tmp_path: Path) -> None:
    series = dicom.write_series(tmp_path / "s", image())
    enhanced = hd.legacy.LegacyConvertedEnhancedCTImage(dicom.sources_of(series), "1.2.3.9", 1, "1.2.3.9.1", 1)
    enhanced.save_as(tmp_path / "a.dcm")
    one, several = read_scan(tmp_path / "a.dcm"), read_scan(series)
    assert np.array_equal(one.voxels, several.voxels) and np.allclose(one.affine, several.affine, atol=1e-5)


def test_empty_elements_are_as_if_missing(tmp_path: Path) -> None:
    empty = dict.fromkeys(("RescaleSlope", "RescaleIntercept", "PixelPaddingRangeLimit", "PixelPaddingValue"))
    ds = dicom.make_slice(image()[:, :, 0].T, NumberOfFrames=None, **empty)
    assert read_scan(dicom.save(ds, tmp_path / "a.dcm")).quantization == StorageQuantization("<i2")


def test_missing_and_empty(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="the folder holds no DICOM file of an image"):
        read_scan(tmp_path)
    with pytest.raises(ScanError, match=r"x\.dcm: the file does not exist"):
        read_scan(tmp_path / "x.dcm")


def test_other_files_are_passed_over_with_a_remark(tmp_path: Path) -> None:
    dicom.write_series(tmp_path, image())
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".DS_Store").write_text("x")
    scan = read_scan(tmp_path)
    assert scan.remarks == (f"{tmp_path / 'notes.txt'} is not a DICOM file and is not published",)


def test_remark_on_what_names_the_patient(tmp_path: Path) -> None:
    ds = dicom.make_slice(image()[:, :, 0].T, PatientName="Doe^Jane", PatientBirthDate="", PatientID="7")
    (remark,) = read_scan(dicom.save(ds, tmp_path / "a.dcm")).remarks
    assert remark == "headers are published as they are, with PatientID, PatientName; de-identify first"


@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 5)] * 2),
    digits=st.integers(5, 8),
    count=st.integers(2, 5),
)
def test_any_geometry_is_that_of_gdcm(tmp_path: Path, angles, spacing, digits: int, count: int) -> None:
    a, b, c = angles
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tip = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    axes = (turn @ tip @ turn.T * np.sign(c or 1)).round(digits)
    folder = tmp_path / f"{hash((angles, spacing, digits, count))}"
    dicom.write_series(
        folder,
        random_image((5, 4, count)),
        orientation=[*axes[:, 0], *axes[:, 1]],
        PixelSpacing=[round(spacing[0], 4), round(spacing[1], 4)],
    )
    scan = read_scan(folder)
    assert np.allclose(scan.affine, dicom.sitk_affine(dicom.read_with_sitk(folder)), atol=1e-4)
    assert np.array_equal(scan.voxels[0].T, dicom.sitk_values(folder))


def test_positions_rounded_by_the_scanner_are_even(tmp_path: Path) -> None:
    dicom.write_series(
        tmp_path, image(), orientation=AXIAL, change=lambda index, ds: move(index, ds, 0, 0, 0.1 * (index % 2))
    )
    assert read_scan(tmp_path).spatial_shape == SHAPE


UNEVEN: dict[str, tuple[Any, str]] = {
    "stretched": (
        stretch,
        r"slices lie 1 to 4 mm apart, farthest between 003\.dcm and 002\.dcm: check that none is",
    ),
    "tilted": (shear, r"slices are shifted in their plane, as by a gantry tilt of 11\.3 degrees"),
}


@pytest.mark.parametrize("name", UNEVEN)
def test_slices_that_are_no_even_grid_are_read_with_a_remark(name: str, tmp_path: Path) -> None:
    change, remark = UNEVEN[name]
    voxels = image()
    scan = read_scan(dicom.write_series(tmp_path, voxels, orientation=AXIAL, change=change))
    assert np.array_equal(scan.voxels[0], voxels)
    assert re.search(remark, scan.remarks[0]) and str(tmp_path) in scan.remarks[0]
    first, last = (dcmread(tmp_path / f"{number:03}.dcm").ImagePositionPatient for number in (4, 1))
    corners = scan.affine @ [[0, 0], [0, 0], [0, 3], [1, 1]]
    assert np.allclose(corners[:3].T * [-1, -1, 1], [first, last])


def test_a_missing_slice_is_remarked_on(tmp_path: Path) -> None:
    dicom.write_series(tmp_path, image())
    (tmp_path / "002.dcm").unlink()
    (remark,) = read_scan(tmp_path).remarks
    assert "slices lie 2.5 to 5 mm apart, farthest between 003.dcm and 001.dcm: check that none is missing" in remark


def test_a_single_slice_is_2d(tmp_path: Path) -> None:
    dicom.write_series(tmp_path, image()[:, :, :1])
    scan = read_scan(tmp_path)
    assert scan.spatial_shape == SHAPE[:2] and isinstance(read_content(tmp_path), dict)


@pytest.mark.parametrize(("dtype", "bounds"), [("int16", (-2048, 2047)), ("uint16", (0, 4095))])
def test_bits_stored_limit_the_quantization(tmp_path: Path, dtype: str, bounds: tuple[int, int]) -> None:
    voxels = np.tile(np.array(bounds, dtype), 60).reshape(SHAPE)
    dicom.write_series(tmp_path, voxels, 12, RescaleSlope="2", RescaleIntercept="-1024")
    quantization = read_scan(tmp_path).quantization
    assert quantization.bounds == bounds and (quantization.slope, quantization.inter, quantization.bits) == (
        2,
        -1024,
        12,
    )


@pytest.mark.parametrize(
    ("dtype", "tags", "ends"),
    [
        ("int16", {"PixelPaddingValue": -2000}, (-2000, -2000)),
        ("int16", {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1500}, (-2000, -1500)),
        ("uint16", {"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 4000}, (4000, 4095)),
    ],
)
def test_padding_is_part_of_the_quantization(tmp_path: Path, dtype: str, tags: dict[str, int], ends: tuple) -> None:
    quantization = read_scan(dicom.write_series(tmp_path, image(dtype), **tags)).quantization
    assert (quantization.padding_low, quantization.padding_high) == ends


def test_padding_of_the_other_sign_is_understood(tmp_path: Path) -> None:
    def change(index: int, ds: Any) -> None:
        ds.add_new("PixelPaddingValue", "US", 65535)

    quantization = read_scan(dicom.write_series(tmp_path, image(), change=change)).quantization
    assert (quantization.padding_low, quantization.padding_high) == (-1, -1)


@given(st.data())
def test_bits_that_hold_no_number_come_back(tmp_path: Path, data: st.DataObject) -> None:
    signed = data.draw(st.booleans())
    words = np.array(data.draw(st.lists(st.integers(0, 65535), min_size=12, max_size=12)), "<u2").reshape(3, 4)
    ds = dicom.make_slice(words.astype("<i2") if signed else words)
    ds.BitsStored, ds.HighBit = 12, 11
    dcmwrite(tmp_path / "a.dcm", ds)
    scan = read_scan(tmp_path / "a.dcm")
    new = np.array(data.draw(st.lists(st.integers(0, 4095), min_size=12, max_size=12)), "<i2").reshape(1, 4, 3)
    new = (new - 2048 * signed).astype(scan.voxels.dtype)
    write_scan(scan, new, tmp_path / "b.dcm")
    assert np.array_equal(read_scan(tmp_path / "b.dcm").voxels, new)
    if not signed:
        high = np.frombuffer(dcmread(tmp_path / "b.dcm").PixelData, "<u2") & 0xF000
        assert np.array_equal(high, words.ravel() & 0xF000)
    back = with_headers(read_scan(tmp_path / "b.dcm"), original_headers(scan))
    write_scan(back, scan.voxels, tmp_path / "c.dcm")
    assert (tmp_path / "c.dcm").read_bytes() == (tmp_path / "a.dcm").read_bytes()


def write_changed(path: Path, **tags: Any) -> tuple[Dataset, Dataset]:
    """A file and the same with other voxels."""
    ds = dicom.make_slice(image()[:, :, 0].T, **tags)
    scan = read_scan(dicom.save(ds, path / "a.dcm"))
    write_scan(scan, scan.voxels + np.int16(7), path / "b.dcm")
    return dcmread(path / "a.dcm"), dcmread(path / "b.dcm")


@pytest.mark.parametrize("rows", [1, 7])
def test_an_odd_number_of_bytes_stays_in_rle(rows: int, tmp_path: Path) -> None:
    pixels = random_image((9, rows), "uint8").T
    scan = read_scan(dicom.save(dicom.make_slice(pixels), tmp_path / "a.dcm", RLELossless))
    write_scan(scan, scan.voxels ^ 1, tmp_path / "b.dcm")  # GDCM, where it is installed, would end the process
    written = dcmread(tmp_path / "b.dcm")
    assert written.file_meta.TransferSyntaxUID == RLELossless
    assert np.array_equal(read_scan(tmp_path / "b.dcm").voxels, scan.voxels ^ 1)


def test_what_the_header_says_of_new_pixels(tmp_path: Path) -> None:
    earlier = Dataset()
    earlier.ReferencedSOPClassUID = earlier.ReferencedSOPInstanceUID = "1.5"
    old, new = write_changed(
        tmp_path,
        ImageType=["ORIGINAL", "SECONDARY"],
        DerivationDescription="filtered",
        SourceImageSequence=[earlier],
        SmallestImagePixelValue=-5,
        LargestImagePixelValue=9,
        LargestPixelValueInSeries=9,
        DigitalSignaturesSequence=[Dataset()],
        IconImageSequence=[Dataset()],
    )
    assert list(new.ImageType) == ["DERIVED", "SECONDARY"]
    assert new.DerivationDescription == "filtered; Pixel values changed within a bound (monai_unlearnable)"
    assert [item.ReferencedSOPInstanceUID for item in new.SourceImageSequence] == ["1.5", old.SOPInstanceUID]
    pixels = new.pixel_array
    assert (new.SmallestImagePixelValue, new.LargestImagePixelValue) == (pixels.min(), pixels.max())
    assert new.LargestPixelValueInSeries == pixels.max() and "SmallestPixelValueInSeries" not in new
    assert "DigitalSignaturesSequence" not in new and "IconImageSequence" not in new
    assert new.SOPInstanceUID == new.file_meta.MediaStorageSOPInstanceUID != old.SOPInstanceUID
    assert new.SOPInstanceUID.startswith("2.25.") and new.SOPInstanceUID.is_valid and new.SeriesInstanceUID.is_valid


@pytest.mark.parametrize(("dtype", "vr"), [("uint32", "US"), ("int32", "SS")])
def test_extremes_that_16_bits_cannot_hold_are_left_out(tmp_path: Path, dtype: str, vr: str) -> None:
    pixels = np.arange(12, dtype=dtype).reshape(3, 4)
    ds = dicom.make_slice(pixels)
    for name in ("SmallestImagePixelValue", "LargestImagePixelValue", "LargestPixelValueInSeries"):
        ds.add_new(name, vr, 11)
    scan = read_scan(dicom.save(ds, tmp_path / "a.dcm"))
    voxels = scan.voxels.copy()
    voxels[0, 0, 0] = 40000 if vr == "SS" else 70000
    write_scan(scan, voxels, tmp_path / "b.dcm")
    new = dcmread(tmp_path / "b.dcm")
    smallest = new["SmallestImagePixelValue"]
    assert (smallest.VR, smallest.value) == (vr, 1)
    assert "LargestImagePixelValue" not in new and "LargestPixelValueInSeries" not in new
    write_scan(scan, scan.voxels + 1, tmp_path / "c.dcm")
    assert dcmread(tmp_path / "c.dcm").LargestImagePixelValue == 12


def test_uids_follow_from_the_source_and_the_voxels(tmp_path: Path) -> None:
    clean = read_scan(dicom.write_series(tmp_path / "clean", image()))
    one, other = clean.voxels.copy(), clean.voxels.copy()
    one[0, 0, 0, 1], other[0, 0, 0, 1] = 5, 6
    for name, voxels in (("a", one), ("b", one), ("c", other)):
        write_scan(clean, voxels, tmp_path / name)
    assert read_content(tmp_path / "a") == read_content(tmp_path / "b")
    a, c, old = ([dcmread(p) for p in dicom.slices_of(tmp_path / name)] for name in ("a", "c", "clean"))
    assert len({ds.SeriesInstanceUID for ds in a}) == len({ds.SeriesInstanceUID for ds in c}) == 1
    assert len({ds[0].SeriesInstanceUID for ds in (a, c, old)}) == 3
    assert len({ds.SOPInstanceUID for ds in (*a, *old)}) == 8  # unchanged slices too are of a new series
    assert len({ds.SOPInstanceUID for ds in (*a, *c)}) == 5


def test_headers_of_other_files_are_refused(tmp_path: Path) -> None:
    scan = read_scan(dicom.write_series(tmp_path / "a", image()))
    fewer = read_scan(dicom.write_series(tmp_path / "b", image()[:, :, :3]))
    smaller = read_scan(dicom.write_series(tmp_path / "c", image("uint8")))
    for other in (original_headers(fewer), original_headers(smaller), original_headers(scan)[:-9]):
        with pytest.raises(NoiseError, match="the stored headers do not fit"):
            with_headers(scan, other)


def test_implicit_and_explicit_slices_may_mix(tmp_path: Path) -> None:
    for index, syntax in enumerate((ExplicitVRLittleEndian, ImplicitVRLittleEndian)):
        ds = dicom.make_slice(image()[:, :, index].T, number=index, ImagePositionPatient=[0, 0, index])
        dicom.save(ds, tmp_path / f"{index}.dcm", syntax)
    assert np.array_equal(read_scan(tmp_path).voxels[0], image()[:, :, :2])


def write_tree(root: Path) -> Path:
    """``images/`` with two series and a file, ``labels/`` with a NIfTI file for each."""
    for name in ("a", "deep/b"):
        dicom.write_series(root / "images" / name, image(), names=("1", "2", "3", "4"))
        dicom.write_label(root / "images" / name, root / "labels" / f"{name}.nii.gz", np.ones(SHAPE, np.uint8))
    dicom.save(dicom.make_slice(image()[:, :, 0].T), root / "images" / "c.dcm")
    write_nifti(root / "labels" / "c.nii.gz", np.ones(SHAPE[:2], np.uint8))
    return root


def test_folders_of_images_hold_series_and_files(tmp_path: Path) -> None:
    cases = load_cases(write_tree(tmp_path))
    assert [(c.case_id, c.images, c.label) for c in cases] == [
        ("images/a", ("images/a",), "labels/a.nii.gz"),
        ("images/c", ("images/c.dcm",), "labels/c.nii.gz"),
        ("images/deep/b", ("images/deep/b",), "labels/deep/b.nii.gz"),
    ]
    for case in cases:
        label = read_case(case, PercentileWindow()).label
        assert label is not None and label.all()
    with pytest.raises(LabelError, match=r"the label has shape \(6, 5, 4\), the image \(6, 5\)"):
        read_label(tmp_path / "labels/a.nii.gz", [read_scan(tmp_path / "images/c.dcm")])


@pytest.mark.parametrize("fault", ["position", "cut", "empty"])
def test_a_series_that_cannot_be_read_is_a_case_all_the_same(tmp_path: Path, fault: str) -> None:
    """Left out, its patient would go unprotected without a word."""
    root = write_tree(tmp_path)
    for path in dicom.slices_of(root / "images/a"):
        if fault == "position":
            ds = dcmread(path)
            del ds.ImagePositionPatient
            dicom.save(ds, path)
        else:
            path.write_bytes(b"" if fault == "empty" else path.read_bytes()[:400])
        path.rename(path.with_suffix(".dcm"))
    case = next(case for case in load_cases(root) if case.label == "labels/a.nii.gz")
    assert case.images == ("images/a",)
    with pytest.raises(ScanError, match=r"images/a/1\.dcm: .*(has no ImagePosition|is missing|not a DICOM file)"):
        read_case(case, PercentileWindow())


def test_where_no_case_is_found_the_first_fault_is_told(tmp_path: Path) -> None:
    path = dicom.save(dicom.make_slice(image()[:, :, 0].T), tmp_path / "scans of a/1.dcm")
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(DatalistError, match=r"no cases found .*scans of a/1\.dcm .*(was cut|is missing)"):
        load_cases(tmp_path)


@pytest.mark.parametrize("axis", range(3))
def test_labels_whose_axes_were_flipped_are_refused(tmp_path: Path, axis: int) -> None:
    case = load_cases(write_tree(tmp_path))[0]
    label = nib.load(tmp_path / str(case.label))
    flipped = nib.as_closest_canonical(label).slicer[tuple(slice(None, None, -1 if axis == a else 1) for a in range(3))]
    nib.Nifti1Image(flipped.dataobj, flipped.affine).to_filename(tmp_path / str(case.label))
    with pytest.raises(LabelError, match=r"images/a, .*a\.nii\.gz: the label lies up to .* mm from the image"):
        read_case(case, PercentileWindow())


def test_class_folders_and_datalists_name_series(tmp_path: Path) -> None:
    for name in ("cyst/1", "cyst/2", "tumor/1"):
        dicom.write_series(tmp_path / "classes" / name, image())
    dicom.save(dicom.make_slice(image()[:, :, 0].T), tmp_path / "classes/tumor/2.dcm")
    found = [(c.images, c.target) for c in load_cases(tmp_path / "classes")]
    assert found == [(("cyst/1",), 0), (("cyst/2",), 0), (("tumor/1",), 1), (("tumor/2.dcm",), 1)]
    write_tree(tmp_path / "list")
    write_datalist(tmp_path / "list", [{"image": ["images/a", "images/deep/b"], "label": "labels/a.nii.gz"}])
    (case,) = load_cases(tmp_path / "list")
    assert case.images == ("images/a", "images/deep/b")

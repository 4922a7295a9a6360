# SPDX-License-Identifier: Apache-2.0
"""One contract for every reader: a file written with other voxels is the same file otherwise."""

from __future__ import annotations

import bz2
import gzip
import io
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from pydicom import Dataset, dcmread, dcmwrite

from monai_unlearnable.data import find_format, output_name, read_scan, write_scan
from monai_unlearnable.data.formats import files_of, original_headers, read_label_scan, with_headers
from monai_unlearnable.errors import ScanError
from monai_unlearnable.utils.files import read_content
from tests import dicom
from tests.helpers import OBLIQUE, nifti_header, raw_bytes, stored_voxels, write_nifti
from tests.volumes import VOLUMES, by_last_axis, by_sitk, reference

RNG = np.random.default_rng(0)


def voxels(shape: tuple[int, ...], dtype: str) -> NDArray:
    return (RNG.random(shape) * 200).astype(dtype)


def nifti(
    shape: tuple[int, ...], dtype: str, suffix: str = ".nii", cls: type = nib.Nifti1Image, **slope: float
) -> Callable:
    return lambda folder: write_nifti(folder / f"scan{suffix}", voxels(shape, dtype), cls=cls, **slope)


def nifti_with(change: Callable[[nib.Nifti1Image], None], endianness: str = "<") -> Callable:
    def make(folder: Path) -> Path:
        header = nib.Nifti1Header(endianness=endianness)
        header.set_data_dtype(np.dtype("i2").newbyteorder(endianness))
        image = nib.Nifti1Image(voxels((5, 6, 7), "int16"), OBLIQUE, header)
        change(image)
        image.to_filename(folder / "scan.nii.gz")
        return folder / "scan.nii.gz"

    return make


def add_extension(image: nib.Nifti1Image) -> None:
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"kept to the byte"))


def nifti_colors(names: str) -> Callable:
    def make(folder: Path) -> Path:
        colors = voxels((5, 6, 7, len(names)), "uint8").view([(name, "u1") for name in names])[..., 0]
        nib.Nifti1Image(colors, OBLIQUE).to_filename(folder / "scan.nii.gz")
        return folder / "scan.nii.gz"

    return make


def set_nan_slope(image: nib.Nifti1Image) -> None:
    image.header["scl_slope"] = image.header["scl_inter"] = np.nan


def picture(suffix: str, dtype: str = "uint8", channels: int = 1, **options: object) -> Callable:
    def make(folder: Path) -> Path:
        shape = (9, 13) if channels == 1 else (9, 13, channels)
        Image.fromarray(voxels(shape, dtype)).save(folder / f"scan{suffix}", **options)
        return folder / f"scan{suffix}"

    return make


def tiff(dtype: str, channels: int = 1, **options: object) -> Callable:
    def make(folder: Path) -> Path:
        shape = (21, 19) if channels == 1 else (21, 19, channels)
        pixels = voxels(shape, dtype) - (np.array(100, dtype) if dtype.startswith("int") else np.array(0, dtype))
        pixels = np.moveaxis(pixels, -1, 0) if options.get("planarconfig") == "separate" else pixels
        tifffile.imwrite(folder / "scan.tif", pixels, description="a slide", metadata=None, **options)
        return folder / "scan.tif"

    return make


def deep_png(channels: int) -> Callable:
    """A PNG of 16 bits a sample, with a remark."""

    def make(folder: Path) -> Path:
        content = imagecodecs.png_encode((RNG.random((9, 13, channels)) * 65535).astype(np.uint16))
        text = b"tEXtComment\0kept"
        chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
        (folder / "scan.png").write_bytes(content[:33] + chunk + content[33:])
        return folder / "scan.png"

    return make


def text_chunks() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Patient", "anonymous")
    info.add_itxt("Comment", "größer", zip=True)
    return info


def series(
    dtype: str = "int16", bits: int | None = None, shape: tuple[int, ...] = (6, 5, 4), **options: object
) -> Callable:
    def make(folder: Path) -> Path:
        low = -100 if dtype[0] == "i" else 0
        return dicom.write_series(folder / "series", (voxels(shape, "int64") + low).astype(dtype), bits, **options)

    return make


def single(
    dtype: str = "uint16", shape: tuple[int, ...] = (7, 9), syntax: str = dicom.NATIVE[1], **tags: object
) -> Callable:
    def make(folder: Path) -> Path:
        return dicom.save(dicom.make_slice(voxels(shape, dtype), **tags), folder / "scan.dcm", syntax)

    return make


def enhanced(shape: tuple[int, ...] = (4, 5, 6), dtype: str = "uint16", **options: object) -> Callable:
    return lambda folder: dicom.write_enhanced(folder / "scan.dcm", voxels(shape, dtype), **options)


def scaled(index: int, groups: Dataset) -> None:
    groups.PixelValueTransformationSequence = [Dataset()]
    item = groups.PixelValueTransformationSequence[0]
    item.RescaleSlope, item.RescaleIntercept, item.RescaleType = f"{1 + index / 8}", f"{-index}", "US"


def timed(index: int, groups: Dataset) -> None:
    groups.FrameContentSequence[0].TemporalPositionIndex = 2 - index // 4


def colored(shape: tuple[int, ...] = (1, 7, 6, 3), syntax: str = dicom.NATIVE[1], **options: object) -> Callable:
    return lambda folder: dicom.save(dicom.make_color(voxels(shape, "uint8"), **options), folder / "scan.dcm", syntax)


def pairs_of_colors(folder: Path) -> Path:
    ds = dicom.make_color(voxels((1, 4, 6, 3), "uint8"), "YBR_FULL_422")
    dicom.put_pixels(ds, voxels((1, 4, 3, 4), "uint8"))
    return dicom.save(ds, folder / "scan.dcm")


def by_slice(index: int, ds: Dataset) -> None:
    ds.RescaleSlope, ds.RescaleIntercept = f"{1.25 + index / 8}", f"{-index}"


def with_more_bits(index: int, ds: Dataset) -> None:
    ds.BitsStored, ds.HighBit = 12 + index, 11 + index


def without_preamble(folder: Path) -> Path:
    path = single()(folder)
    path.write_bytes(path.read_bytes()[132:])
    return path


def without_meta(folder: Path) -> Path:
    path = single(syntax=dicom.NATIVE[0])(folder)
    ds = dcmread(path)
    del ds.file_meta, ds.preamble
    dcmwrite(path, ds, implicit_vr=True, little_endian=True, enforce_file_format=False)
    return path


def cut_off(count: int) -> Callable:
    """An odd number of pixel bytes, as careless writers leave them: without a byte that pads, or with more."""

    def make(folder: Path) -> Path:
        path = single("uint8")(folder)
        content, size = path.read_bytes(), 7 * 9
        start = content.rindex(b"\xe0\x7f\x10\x00OB\0\0")
        path.write_bytes(
            content[: start + 8] + (size + count).to_bytes(4, "little") + content[start + 12 :][:size] + b"x" * count
        )
        return path

    return make


def followed_by(tail: bytes, syntax: str = dicom.NATIVE[1]) -> Callable:
    """Bytes after the last element, as archives on tape leave them."""

    def make(folder: Path) -> Path:
        path = single(shape=(40, 36), syntax=syntax)(folder)
        path.write_bytes(path.read_bytes() + tail)
        return path

    return make


def with_items_of_unknown_length(ds: Dataset) -> None:
    for element in ds.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True


def against_the_syntax(folder: Path) -> Path:
    """Elements without value representation, where the transfer syntax says that they have one."""
    path = single(syntax=dicom.NATIVE[0])(folder)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"1.2.840.10008.1.2\0\0\0", b"1.2.840.10008.1.2.1\0"))
    return path


def named(name: str) -> Callable:
    return lambda folder: single()(folder).rename(folder / name)


# Add a reader here: functions that write a file into a folder and return its path.
FILES: dict[str, Callable[[Path], Path]] = {
    **{f"nifti-{dtype}": nifti((5, 6, 7), dtype) for dtype in ("u1", "i2", "u2", "i4", "f4", "f8")},
    "nifti-int8": nifti((5, 6, 7), "i1", ".nii.gz"),
    "nifti-uint32": nifti((5, 6, 7), "u4", ".nii.gz"),
    "nifti-gz": nifti((5, 6, 7), "i2", ".nii.gz"),
    "nifti-suffix-upper": nifti((5, 6, 7), "i2", ".NII"),
    "nifti2": nifti((5, 6, 7), "i2", cls=nib.Nifti2Image),
    "nifti2-gz": nifti((5, 6, 7), "f4", ".nii.gz", cls=nib.Nifti2Image),
    "nifti-slope": nifti((5, 6, 7), "i2", slope=0.37, inter=-1024.0),
    "nifti-negative-slope": nifti((5, 6, 7), "u2", slope=-2.0, inter=3.0),
    "nifti-float-slope": nifti((5, 6, 7), "f4", slope=0.1, inter=1.0),
    "nifti-2d": nifti((8, 6), "u1"),
    "nifti-2d-flat": nifti((8, 6, 1), "i2"),
    "nifti-2d-channels": nifti((8, 6, 1, 3), "i2"),
    "nifti-4d": nifti((5, 6, 7, 2), "i2", ".nii.gz"),
    "nifti-5d-vector": nifti((5, 6, 7, 1, 3), "f4"),
    "nifti-big-endian": nifti_with(lambda image: None, ">"),
    "nifti-extension": nifti_with(add_extension),
    "nifti-nan-slope": nifti_with(set_nan_slope),
    **{f"nifti-{dtype}": nifti((5, 6, 7), dtype) for dtype in ("int64", "uint64")},
    "nifti-gz-suffix-upper": nifti((5, 6, 7), "i2", ".NII.GZ"),
    "nifti-6d": nifti((5, 6, 7, 2, 3), "i2"),
    "nifti-rgb": nifti_colors("RGB"),
    "nifti-rgba": nifti_colors("RGBA"),
    **VOLUMES,
    "png-grey": picture(".png"),
    "png-grey16": picture(".png", "uint16"),
    "png-rgb": picture(".png", channels=3),
    "png-rgba": picture(".png", channels=4),
    "png-grey-alpha": picture(".png", channels=2),
    "png-text-dpi": picture(".png", pnginfo=text_chunks(), dpi=(300, 300)),
    "tiff-8": picture(".tif"),
    "tiff-16": picture(".tiff", "uint16"),
    "tiff-float": picture(".tif", "float32"),
    "tiff-int32": picture(".tif", "int32"),
    "tiff-rgb-dpi": picture(".tif", channels=3, dpi=(72, 72), description="a slide"),
    "tiff-lzw": picture(".tif", compression="tiff_lzw"),
    "tiff-deflate16": picture(".tif", "uint16", compression="tiff_adobe_deflate"),
    **{
        f"tiff-{'little' if order == '<' else 'big'}-{dtype}": tiff(dtype, byteorder=order)
        for order in "<>"
        for dtype in ("int8", "int16", "uint32", "int64", "float64")
    },
    **{f"tiff-big-{dtype}": tiff(dtype, byteorder=">", compression="lzw") for dtype in ("uint16", "float32", "int32")},
    "tiff-big-deflate-predictor": tiff("int16", byteorder=">", compression="deflate", predictor=True, rowsperstrip=2),
    "tiff-deep-rgb": tiff("uint16", 3, compression="zstd", photometric="rgb"),
    "tiff-deep-rgba": tiff("uint16", 4, photometric="rgb", extrasamples=["unassalpha"], compression="packbits"),
    "tiff-planes": tiff("int16", 3, planarconfig="separate", photometric="rgb"),
    "tiff-tiles": tiff("int16", tile=(16, 16), compression="deflate", predictor=True),
    "bigtiff": tiff("int16", bigtiff=True, compression="lzw"),
    "png-deep-rgb": deep_png(3),
    "png-deep-rgba": deep_png(4),
    "png-deep-gray-alpha": deep_png(2),
    "bmp-grey": picture(".bmp"),
    "bmp-rgb": picture(".BMP", channels=3),
    "webp": picture(".webp", channels=3, quality=80),
    "webp-alpha": picture(".webp", channels=4, lossless=True),
    "jpeg-grey": picture(".jpg", quality=90, dpi=(150, 150)),
    "jpeg-rgb": picture(".jpeg", channels=3),
    **{f"dicom-{dtype}": series(dtype) for dtype in ("uint8", "int8", "int16", "uint16", "int32", "uint32")},
    **{f"dicom-12-bits-{dtype}": series(dtype, 12) for dtype in ("int16", "uint16")},
    **{
        f"dicom-{syntax.keyword}": series("int16", 12, (40, 36, 3), syntax=syntax)
        for syntax in (*dicom.NATIVE, *dicom.LOSSLESS)
    },
    **{f"dicom-{syntax.keyword}": series("uint8", None, (40, 36, 3), syntax=syntax) for syntax in dicom.DECODED},
    "dicom-rescale-by-slice": series(change=by_slice),
    "dicom-padding-by-slice": series(change=lambda index, ds: setattr(ds, "PixelPaddingValue", -100 - index)),
    "dicom-bits-by-slice": series(
        "uint16",
        12,
        change=lambda index, ds: (setattr(ds, "BitsStored", 12 + index), setattr(ds, "HighBit", 11 + index)),
    ),
    "dicom-deflated": series("int16", 12, syntax=dicom.DEFLATED),
    "dicom-big-endian-bytes": series("uint8", syntax=dicom.NATIVE[2]),
    "dicom-enhanced": enhanced(),
    "dicom-enhanced-unordered": enhanced(places=(2, 0, 3, 1)),
    "dicom-enhanced-one-frame": enhanced((1, 5, 6)),
    "dicom-enhanced-12-bits": enhanced(dtype="int16", bits=12, syntax=dicom.NATIVE[2]),
    "dicom-enhanced-rescale": enhanced(change_frame=scaled, places=(3, 2, 1, 0)),
    "dicom-enhanced-times": enhanced((8, 5, 6), change_frame=timed, places=(0, 1, 2, 3) * 2),
    **{
        f"dicom-enhanced-{syntax.keyword}": enhanced((3, 40, 36), bits=12, syntax=syntax, places=(2, 1, 0))
        for syntax in (*dicom.LOSSLESS, dicom.DEFLATED)
    },
    "dicom-loop": lambda folder: dicom.save(
        dicom.make_slice(voxels((7, 6), "uint8"), NumberOfFrames=1, ImagePositionPatient=None), folder / "scan.dcm"
    ),
    "dicom-color": colored(),
    "dicom-color-by-plane": colored(by_plane=True),
    "dicom-color-ybr": colored(kind="YBR_FULL"),
    "dicom-color-odd": colored((1, 3, 3, 3), syntax=dicom.NATIVE[2]),
    "dicom-color-loop": colored((3, 7, 6, 3)),
    "dicom-color-loop-by-plane": colored((3, 7, 6, 3), by_plane=True),
    "dicom-color-pairs": pairs_of_colors,
    **{f"dicom-color-{syntax.keyword}": colored((1, 40, 36, 3), syntax=syntax) for syntax in dicom.LOSSLESS},
    "dicom-color-loop-rle": colored((3, 40, 36, 3), syntax=dicom.LOSSLESS[0]),
    "dicom-color-jpeg": colored((1, 40, 36, 3), syntax=dicom.DECODED[1]),
    "dicom-without-preamble": without_preamble,
    "dicom-without-meta": without_meta,
    "dicom-odd-unpadded": cut_off(0),
    "dicom-odd-more": cut_off(4),
    "dicom-followed-by-zeros": followed_by(b"\0" * 100),
    "dicom-followed-by-zeros-rle": followed_by(b"\0" * 100, dicom.LOSSLESS[0]),
    "dicom-followed-by-padding": followed_by(b"\xfc\xff\xfc\xffOB\0\0\4\0\0\0\1\2\3\4"),
    "dicom-enhanced-items-of-unknown-length": enhanced(change=with_items_of_unknown_length),
    "dicom-enhanced-JPEGLosslessSV1": enhanced((3, 40, 36), syntax=dicom.DECODED[0], places=(2, 0, 1)),
    "dicom-ima": named("scan.ima"),
    "dicom-without-suffix": named("IM000001"),
    "dicom-rescale": series(RescaleSlope="0.37", RescaleIntercept="-1024"),
    "dicom-padding": series(PixelPaddingValue=-100, PixelPaddingRangeLimit=-90),
    "dicom-one-slice": series(shape=(6, 5, 1)),
    "dicom-monochrome1": series("uint16", PhotometricInterpretation="MONOCHROME1"),
    "dicom-names-without-suffix": series(names=("a", "IM2", "c.ima", "d.dcm")),
    "dicom-file": single(),
    "dicom-file-odd": single("uint8"),
    "dicom-file-j2k": single(shape=(40, 36), syntax=dicom.LOSSLESS[2]),
    "dicom-file-unplaced": single(ImagePositionPatient=None, ImageOrientationPatient=None, PixelSpacing=None),
}


@pytest.fixture(params=FILES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return FILES[request.param](tmp_path)


def changed(original: NDArray) -> NDArray:
    """Other voxels: everything moved by one, which wraps where it must."""
    with np.errstate(over="ignore"):
        return (original + np.ones((), original.dtype)).astype(original.dtype)


def target_of(path: Path) -> Path:
    return path.parent / "out" / output_name(path.name)


VOLUME_NAMES = [name for name in FILES if name.startswith("nifti") or name in VOLUMES]


@pytest.mark.parametrize("name", VOLUME_NAMES)
def test_volumes_are_read_as_reference_reads_them(name: str, tmp_path: Path) -> None:
    path = FILES[name](tmp_path)
    scan = read_scan(path)
    voxels, affine = reference(path)
    assert np.array_equal(scan.voxels, voxels) and scan.quantization.dtype == scan.voxels.dtype.str
    assert np.allclose(scan.affine, affine, atol=1e-6)
    if name.startswith("nifti") and "rgb" not in name:
        physical = by_last_axis(np.asanyarray(nib.load(path).dataobj))
        assert np.allclose(scan.physical(np.float64), physical, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in FILES if name not in VOLUME_NAMES])
def test_reads_what_reference_reads(name: str, tmp_path: Path) -> None:
    path = FILES[name](tmp_path)
    scan = read_scan(path)
    is_dicom = dicom.is_dicom(path)
    expected = None if is_dicom else stored_voxels(path)
    if is_dicom and not dicom.read_by_gdcm(path):
        assert np.allclose(scan.physical(np.float64), dicom.pydicom_values(path))
        assert np.allclose(scan.affine, dicom.pydicom_affine(path), atol=1e-5)
    elif is_dicom:
        image = dicom.read_with_sitk(path)
        assert np.allclose(scan.physical(np.float64)[0].T, dicom.sitk_values(path))
        columns = [0, 1, 2, 3] if scan.voxels.ndim == 4 else [0, 1, 3]  # a slice alone has no distance to the next
        assert np.allclose(scan.affine[:, columns], dicom.sitk_affine(image)[:, columns], atol=1e-5)
    else:
        colors = expected.reshape(*expected.shape[:2], -1)[..., : len(scan.voxels)]
        assert np.array_equal(scan.voxels, colors.T)
    assert scan.quantization.dtype == scan.voxels.dtype.str


def test_written_voxels_come_back_and_the_original_is_not_touched(path: Path) -> None:
    before = read_content(path)
    scan = read_scan(path)
    new = changed(scan.voxels)
    write_scan(scan, new, target_of(path))
    assert read_content(path) == before
    again = read_scan(target_of(path))
    assert again.voxels.tobytes() == new.tobytes() and again.voxels.dtype == scan.voxels.dtype
    assert again.quantization == scan.quantization and np.array_equal(again.affine, scan.affine)
    assert again.digest() != scan.digest()


def test_same_voxels_same_bytes_and_same_digest(path: Path) -> None:
    scan = read_scan(path)
    target = target_of(path)
    first = find_format(path).encode(scan, changed(scan.voxels), target)
    again = find_format(path).encode(read_scan(path), np.asfortranarray(changed(scan.voxels)), target)
    assert first == again
    write_scan(scan, scan.voxels, target)
    assert read_scan(target).digest() == scan.digest()


@pytest.mark.parametrize("name", VOLUMES)
def test_all_bytes_of_a_volume_but_voxels_are_kept(name: str, tmp_path: Path) -> None:
    path = FILES[name](tmp_path)
    scan = read_scan(path)
    write_scan(scan, changed(scan.voxels), target_of(path))
    old, new = files_of(path), files_of(target_of(path))
    assert [file.relative_to(path.parent) for file in old] == [file.relative_to(new[0].parent) for file in new]
    before, after = (b"".join(map(unpacked, files)) for files in (old, new))
    differing = np.flatnonzero(np.frombuffer(before, "u1") != np.frombuffer(after, "u1"))
    assert len(before) == len(after) and len(differing) and differing[-1] - differing[0] < scan.voxels.nbytes
    write_scan(read_scan(target_of(path)), scan.voxels, tmp_path / "back" / path.name)
    for first, second in zip(old, files_of(tmp_path / "back" / path.name), strict=True):
        assert unpacked(first) == unpacked(second)
        if unpacked(first) == first.read_bytes():
            assert first.read_bytes() == second.read_bytes()


def unpacked(path: Path) -> bytes:
    """The content of a file, its compressed part decompressed, and without the size of that."""
    content = path.read_bytes()
    end = re.match(rb"NRRD.*?\n\n|ObjectType.*?LOCAL\r?\n", content, re.DOTALL)
    start = end.end() if end else 0
    header, packed = re.sub(rb"CompressedDataSize = \d+", b"", content[:start]), content[start:]
    for magic, decompress in ((b"\x1f\x8b", gzip.decompress), (b"BZh", bz2.decompress), (b"\x78", zlib.decompress)):
        is_zlib = magic != b"\x78" or b"CompressedData = True" in header or path.suffix == ".zraw"
        if packed.startswith(magic) and is_zlib:
            return header + decompress(packed)
    return re.sub(rb"CompressedDataSize = \d+", b"", content) if path.suffix == ".mhd" else content


NIFTI = [name for name in FILES if name.startswith("nifti")]


@pytest.mark.parametrize("name", NIFTI)
def test_nifti_header_is_kept(name: str, tmp_path: Path) -> None:
    path = FILES[name](tmp_path)
    scan = read_scan(path)
    write_scan(scan, changed(scan.voxels), target_of(path))
    (first, offset), (second, _) = nifti_header(path), nifti_header(target_of(path))
    assert type(first) is type(second) and first.endianness == second.endianness
    for field in first:
        assert first[field].tobytes() == second[field].tobytes(), field
    extensions = [nib.load(p).header.extensions for p in (path, target_of(path))]
    assert [e.get_content() for e in extensions[0]] == [e.get_content() for e in extensions[1]]
    assert raw_bytes(path)[:offset] == raw_bytes(target_of(path))[:offset]


@pytest.mark.parametrize("name", NIFTI)
def test_nifti_with_its_own_voxels_is_the_same_file(name: str, tmp_path: Path) -> None:
    path = FILES[name](tmp_path)
    scan = read_scan(path)
    write_scan(scan, scan.voxels, target_of(path))
    assert raw_bytes(target_of(path)) == raw_bytes(path)


def test_nifti_bytes_after_the_voxels_are_kept(tmp_path: Path) -> None:
    path = FILES["nifti-i2"](tmp_path)
    path.write_bytes(path.read_bytes() + b"trailer")
    scan = read_scan(path)
    assert find_format(path).encode(scan, changed(scan.voxels), path).endswith(b"trailer")


@pytest.mark.parametrize("name", ["nifti-i2", "nifti-gz", "nifti-slope", "nifti-4d", "nifti-2d"])
def test_nifti_geometry_by_simpleitk(name: str, tmp_path: Path) -> None:
    path = FILES[name](tmp_path)
    scan = read_scan(path)
    write_scan(scan, changed(scan.voxels), target_of(path))
    first, second = sitk.ReadImage(str(path)), sitk.ReadImage(str(target_of(path)))
    for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetPixelIDTypeAsString"):
        assert getattr(first, what)() == getattr(second, what)(), what


MASK = np.arange(12, dtype=np.uint8).reshape(3, 4) % 4  # rows and columns


def mask_picture(mode: str, suffix: str = ".png", bits: int = 8, scale: int = 1) -> Callable:
    """A mask of values 0 to 3 in a picture of any mode; its palette has colors that do not follow the values."""

    def make(folder: Path) -> Path:
        values = MASK % 2 ** min(bits, 2)
        path = folder / f"mask{suffix}"
        if mode == "P":
            picture = Image.fromarray(values).convert("P")
            picture.putpalette([0, 0, 0, 200, 9, 9, 9, 70, 3, 100, 1, 2] + [0] * 756)
            picture.save(path, bits=bits) if suffix == ".png" else picture.save(path)
        elif bits < 8 and mode == "L":
            packed = np.packbits(np.unpackbits(values[..., None], axis=-1)[..., 8 - bits :].reshape(3, -1), axis=-1)
            path.write_bytes(png_of(packed.tobytes(), 4, 3, bits))
        else:
            Image.fromarray(values * np.uint8(scale)).convert(mode).save(path)
        return path

    return make


def png_of(rows: bytes, width: int, height: int, depth: int, color: int = 0) -> bytes:
    """A PNG of packed rows, without a filter."""
    stride = len(rows) // height
    data = b"".join(b"\0" + rows[start : start + stride] for start in range(0, len(rows), stride))
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    written = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


# Files of labels, most of which no image can be in; the values are those of MASK, or 0 and 1 or 0 and 255.
LABELS: dict[str, tuple[Callable[[Path], Path], NDArray]] = {
    "bitmap": (mask_picture("1", scale=255), MASK > 0),
    "gray-1-bit": (mask_picture("L", bits=1), MASK % 2),
    "gray-2-bits": (mask_picture("L", bits=2), MASK),
    "gray-4-bits": (mask_picture("L", bits=4), MASK),
    **{f"palette-{bits}-bits": (mask_picture("P", bits=bits), MASK % 2 ** min(bits, 2)) for bits in (1, 2, 4, 8)},
    "rgb": (mask_picture("RGB", scale=60), MASK * 60),
    "rgba": (mask_picture("RGBA", scale=60), MASK * 60),
    "gray-alpha": (mask_picture("LA", scale=60), MASK * 60),
    "tiff-palette": (mask_picture("P", ".tif"), MASK),
    "tiff-bitmap": (mask_picture("1", ".tif", scale=255), MASK > 0),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_in_pictures_are_read_as_the_values_that_are_stored(name: str, tmp_path: Path) -> None:
    make, values = LABELS[name]
    scan = read_label_scan(make(tmp_path), [])
    assert np.array_equal(scan.voxels, np.broadcast_to(values.T, scan.voxels.shape))


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "uint32", "int64", "uint64", "float64"])
def test_labels_of_any_width_are_read(dtype: str, tmp_path: Path) -> None:
    values = np.array([0, 1, 2**40 if dtype.endswith("64") else 77] * 20).reshape(3, 4, 5)
    image = nib.Nifti1Image(values.astype(dtype), np.eye(4), dtype=dtype)
    image.to_filename(tmp_path / "label.nii.gz")
    scan = read_label_scan(tmp_path / "label.nii.gz", [])
    assert np.array_equal(scan.voxels[0], values) and scan.voxels.dtype == dtype


def png_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    chunks, stream = [], io.BytesIO(content[8:])
    while size := stream.read(4):
        kind = stream.read(4)
        chunks.append((kind, stream.read(int.from_bytes(size, "big"))))
        stream.read(4)
    return chunks


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("png")])
def test_png_chunks_are_kept(name: str, tmp_path: Path) -> None:
    path = FILES[name](tmp_path)
    scan = read_scan(path)
    write_scan(scan, changed(scan.voxels), target_of(path))
    first, second = (png_chunks(p.read_bytes()) for p in (path, target_of(path)))
    assert [c for c in first if c[0] != b"IDAT"] == [c for c in second if c[0] != b"IDAT"]
    old, new = Image.open(path), Image.open(target_of(path))
    old.load(), new.load()
    assert (old.mode, old.info) == (new.mode, new.info)
    if old.mode in ("LA", "RGBA"):
        assert np.array_equal(np.asarray(old)[..., -1], np.asarray(new)[..., -1])


@pytest.mark.parametrize("tail", [b"\0", b"what a scanner left here", b"\0\0\0\4IDAT\1\2\3\4\5\6\7\x08"])
def test_bytes_after_the_end_of_a_png_are_kept(tail: bytes, tmp_path: Path) -> None:
    path = picture(".png")(tmp_path)
    end = path.read_bytes()[-12:]
    path.write_bytes(path.read_bytes() + tail)
    scan = read_scan(path)
    write_scan(scan, changed(scan.voxels), target_of(path))
    content = target_of(path).read_bytes()
    assert content.endswith(end + tail) and content.count(b"IEND") == 1
    assert np.array_equal(read_scan(target_of(path)).voxels, changed(scan.voxels))


def tiff_tags(path: Path) -> dict[int, object]:
    with tifffile.TiffFile(path) as file:
        return {tag.code: tag.value for tag in file.pages[0].tags}


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("tiff")])
def test_tiff_tags_are_kept(name: str, tmp_path: Path) -> None:
    path = FILES[name](tmp_path)
    scan = read_scan(path)
    write_scan(scan, changed(scan.voxels), target_of(path))
    place = {273, 278, 279, 324, 325}  # where the strips lie, and how they are cut
    first, second = (tiff_tags(p) for p in (path, target_of(path)))
    assert {k: v for k, v in first.items() if k not in place} == {k: v for k, v in second.items() if k not in place}


SPLICED = [
    name for name in FILES if name.startswith(("tiff-little", "tiff-big", "tiff-deep", "tiff-p", "tiff-t", "bigt"))
]


@pytest.mark.parametrize("name", SPLICED)
def test_pixels_are_spliced_into_tiff(name: str, tmp_path: Path) -> None:
    path = FILES[name](tmp_path)
    scan, content = read_scan(path), path.read_bytes()
    write_scan(scan, scan.voxels, target_of(path))
    assert target_of(path).read_bytes() == content
    new = changed(scan.voxels)
    write_scan(scan, new, target_of(path))
    with tifffile.TiffFile(path) as old, tifffile.TiffFile(target_of(path)) as written:
        assert old.byteorder == written.byteorder and old.pages[0].compression == written.pages[0].compression
        pixels = written.pages[0].asarray()
        pixels = np.moveaxis(pixels, 0, -1) if name == "tiff-planes" else pixels
        assert np.array_equal(pixels.reshape(*pixels.shape[:2], -1)[..., : len(new)].T, new)
        if "alpha" in name:
            assert np.array_equal(pixels[..., -1], old.pages[0].asarray()[..., -1])
        for start, size in zip(old.pages[0].dataoffsets, old.pages[0].databytecounts, strict=True):
            assert content[start : start + size] not in target_of(path).read_bytes(), "nothing of the original stays"
    write_scan(read_scan(target_of(path)), scan.voxels, tmp_path / "back.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "back.tif"), tifffile.imread(path))


@pytest.mark.parametrize(
    ("name", "written_as", "kind"),
    [
        *[
            (name, "JPEG", "JPEG")
            for name in ("a.png", "a.tif", "a.bmp", "a.webp", "a.nii", "a.mha", "a.dcm", "a.nii.gz")
        ],
        *[(name, "PNG", "PNG") for name in ("a.jpg", "a.tiff", "a.mgz", "a.NRRD")],
        ("a.jpg", "TIFF", "TIFF"),
        ("a.png", "WEBP", "WebP"),
        ("a.png", "GIF", "GIF"),
    ],
)
def test_content_of_another_kind_than_the_name_says_is_refused(
    name: str, written_as: str, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    Image.fromarray(voxels((9, 13), "uint8")).convert("L").save(path, written_as)
    suffix = ".nii.gz" if name.endswith("gz") and "nii" in name else path.suffix.lower()
    for read in (read_scan, lambda path: read_label_scan(path, [])):
        with pytest.raises(ScanError, match=rf"the file is {kind}, named \{suffix}; name it \."):
            read(path)


def test_volumes_under_wrong_names_are_refused(tmp_path: Path) -> None:
    nifti, mha = FILES["nifti-i2"](tmp_path), FILES["mha-i2"](tmp_path)
    (tmp_path / "a.mha").write_bytes(nifti.read_bytes())
    (tmp_path / "a.nii").write_bytes(mha.read_bytes())
    (tmp_path / "b.nii").write_bytes(gzip.compress(nifti.read_bytes()))
    (tmp_path / "c.nii.gz").write_bytes(nifti.read_bytes())
    (tmp_path / "d.png").write_bytes(b"")
    expected = {"a.mha": "is NIfTI, named", "a.nii": "is MetaImage, named", "b.nii": "is gzip, named"}
    for name, reason in {**expected, "c.nii.gz": "is NIfTI, named", "d.png": "is empty"}.items():
        with pytest.raises(ScanError, match=f"{name}: the file {reason}"):
            read_scan(tmp_path / name)


@pytest.mark.parametrize("channels", [1, 3])
def test_tiff_that_lost_pixels_is_refused_as_an_image_and_read_as_a_label(channels: int, tmp_path: Path) -> None:
    path = picture(".tif", channels=channels, compression="jpeg")(tmp_path)
    with pytest.raises(ScanError, match="jpeg compression in TIFF cannot hold exact pixels"):
        read_scan(path)
    assert read_label_scan(path, []).spatial_shape == (13, 9)


def test_data_files_are_no_scans_of_their_own(tmp_path: Path) -> None:
    path = FILES["pair"](tmp_path)
    with pytest.raises(ScanError, match=r"scan\.img: the file holds voxels without a header; name its header"):
        read_scan(path.with_suffix(".img"))


@pytest.mark.parametrize("suffix", [".webp", ".tif", ".png"])
def test_pictures_of_several_frames_are_refused(suffix: str, tmp_path: Path) -> None:
    frames = [Image.fromarray(voxels((9, 13, 3), "uint8")) for _ in range(3)]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(ScanError, match="several frames"):
        read_scan(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("reads", [read_scan, lambda path: read_label_scan(path, [])])
def test_tiff_that_a_tag_turns_is_refused(reads: Callable[[Path], object], tmp_path: Path) -> None:
    image = Image.fromarray(voxels((9, 13), "uint8"))
    image.save(tmp_path / "upright.tif", tiffinfo={274: 1})
    reads(tmp_path / "upright.tif")
    image.save(tmp_path / "turned.tif", tiffinfo={274: 6})
    with pytest.raises(ScanError, match=r"turned\.tif: the tag Orientation \(6\) turns or mirrors the image"):
        reads(tmp_path / "turned.tif")


@pytest.mark.parametrize("name", ["jpeg-grey", "jpeg-rgb", "bmp-grey", "bmp-rgb", "webp", "webp-alpha"])
def test_what_cannot_be_written_back_becomes_png_with_the_decoded_pixels(name: str, tmp_path: Path) -> None:
    path = FILES[name](tmp_path)
    scan = read_scan(path)
    write_scan(scan, scan.voxels, target_of(path))
    old, new = Image.open(path), Image.open(target_of(path))
    assert new.format == "PNG" and np.array_equal(np.asarray(old), np.asarray(new))
    if "dpi" in old.info:
        assert new.info["dpi"] == pytest.approx(old.info["dpi"], abs=0.1)


@given(
    shape=st.lists(st.integers(1, 6), min_size=2, max_size=4).filter(lambda s: s[0] > 1 and s[1] > 1),
    dtype=st.sampled_from(["<u1", "<i2", ">i2", "<u2", ">u4", "<i4", "<f4", ">f4", "<f8", ">f8"]),
    slope=st.sampled_from([1.0, 0.5, -3.0, 1e-3]) | st.floats(0.125, 100, width=32),
    inter=st.floats(-2000, 2000, width=32),
    orientation=st.permutations(range(3)),
    flips=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    cls=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
)
@example([3, 4, 5], ">f4", -3.0, 7.0, [2, 0, 1], (1.0, -1.0, 1.0), nib.Nifti1Image, ".nii.gz")
def test_any_nifti_round_trip(
    tmp_path: Path, shape: list[int], dtype: str, slope: float, inter: float, orientation, flips, cls: type, suffix: str
) -> None:
    path = tmp_path / f"any{suffix}"
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) * flips)[list(orientation)]
    header = cls.header_class(endianness="<" if dtype[0] == "<" else ">")
    header.set_data_dtype(dtype)
    image = cls(voxels(tuple(shape), dtype), affine, header)
    image.header.set_slope_inter(slope, inter)
    image.to_filename(path)
    scan = read_scan(path)
    new = changed(scan.voxels)
    write_scan(scan, new, target_of(path))
    again = read_scan(target_of(path))
    assert again.voxels.tobytes() == new.tobytes() and again.quantization == scan.quantization
    assert np.array_equal(nib.load(target_of(path)).affine, nib.load(path).affine)
    physical = np.asanyarray(nib.load(target_of(path)).dataobj)
    assert np.allclose(
        np.sort(again.physical(np.float64), axis=None), np.sort(physical, axis=None), rtol=1e-6, atol=1e-6
    )
    write_scan(scan, scan.voxels, target_of(path))
    assert raw_bytes(target_of(path)) == raw_bytes(path)


@given(
    shape=st.lists(st.integers(2, 6), min_size=2, max_size=3),
    dtype=st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]),
    channels=st.integers(1, 3),
    suffix=st.sampled_from([".mha", ".mhd", ".nrrd", ".nhdr"]),
    compress=st.booleans(),
)
def test_any_volume_round_trip(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], dtype: str, channels: int, suffix: str, compress: bool
) -> None:
    path = by_sitk(suffix, tuple(shape), dtype, channels, compress)(tmp_path_factory.mktemp("any"))
    scan = read_scan(path)
    stored, affine = reference(path)
    assert np.array_equal(scan.voxels, stored) and np.allclose(scan.affine, affine, atol=1e-6)
    new = changed(scan.voxels)
    write_scan(scan, new, target_of(path))
    assert np.array_equal(reference(target_of(path))[0], new)
    assert np.array_equal(reference(target_of(path))[1], affine)


@given(
    width=st.integers(1, 20),
    height=st.integers(1, 20),
    kind=st.sampled_from([("uint8", 1), ("uint8", 3), ("uint8", 4), ("uint16", 1)]),
    suffix=st.sampled_from([".png", ".tif"]),
)
def test_any_picture_round_trip(tmp_path: Path, width: int, height: int, kind: tuple[str, int], suffix: str) -> None:
    dtype, channels = kind
    shape = (height, width) if channels == 1 else (height, width, channels)
    path = tmp_path / f"any{suffix}"
    Image.fromarray(voxels(shape, dtype)).save(path)
    scan = read_scan(path)
    assert scan.spatial_shape == (width, height)
    new = changed(scan.voxels)
    write_scan(scan, new, target_of(path))
    assert read_scan(target_of(path)).voxels.tobytes() == new.tobytes()


DICOM = [name for name in FILES if name.startswith("dicom")]
DECODED = {f"dicom-{syntax.keyword}" for syntax in dicom.DECODED} | {
    "dicom-color-jpeg",
    "dicom-enhanced-JPEGLosslessSV1",
}
META = "FileMetaInformationGroupLength"
CHANGED = {
    *("SOPInstanceUID", "MediaStorageSOPInstanceUID", "SeriesInstanceUID", "ImageType"),
    *("DerivationDescription", "SourceImageSequence"),
}
ADDED = {"DerivationDescription", "SourceImageSequence"}
COLORS, IN_OTHER_COLORS = {"PhotometricInterpretation"}, ("dicom-color-jpeg", "dicom-color-pairs")


@pytest.mark.parametrize("name", DICOM)
def test_dicom_tags_are_kept(name: str, tmp_path: Path) -> None:
    path = FILES[name](tmp_path)
    scan = read_scan(path)
    write_scan(scan, changed(scan.voxels), target_of(path))
    decoded = name in DECODED
    for old, new in zip(dicom.slices_of(path), dicom.slices_of(target_of(path)), strict=True):
        first, second = dicom.elements(old), dicom.elements(new)
        differing = {key for key in first | second if first.get(key) != second.get(key)}
        assert old.name == new.name and dcmread(old, force=True).preamble == dcmread(new, force=True).preamble
        may = {"SharedFunctionalGroupsSequence"} if "enhanced" in name else COLORS if name in IN_OTHER_COLORS else set()
        assert differing - {"TransferSyntaxUID", META} - may == CHANGED & ({*first} | ADDED)
        if "TransferSyntaxUID" in first:
            syntax = "ExplicitVRLittleEndian" if decoded else first["TransferSyntaxUID"][1].keyword
            assert second["TransferSyntaxUID"][1].keyword == syntax
        assert list(first) == [key for key in second if key in first]


@pytest.mark.parametrize("name", DICOM)
def test_dicom_with_its_own_voxels_is_the_same_file(name: str, tmp_path: Path) -> None:
    path = FILES[name](tmp_path)
    scan = read_scan(path)
    write_scan(scan, scan.voxels, target_of(path))
    assert read_content(target_of(path)) == read_content(path)


@pytest.mark.parametrize("name", DICOM)
def test_dicom_originals_come_back_with_their_headers(name: str, tmp_path: Path) -> None:
    path = FILES[name](tmp_path)
    scan = read_scan(path)
    write_scan(scan, changed(scan.voxels), target_of(path))
    protected = with_headers(read_scan(target_of(path)), original_headers(scan))
    write_scan(protected, scan.voxels, tmp_path / "back" / path.name)
    assert read_content(tmp_path / "back" / path.name) == read_content(path)


@pytest.mark.parametrize("name", DICOM)
def test_dicom_geometry_by_simpleitk(name: str, tmp_path: Path) -> None:
    path = FILES[name](tmp_path)
    if not dicom.read_by_gdcm(path):
        pytest.skip("GDCM reads it otherwise")
    scan = read_scan(path)
    write_scan(scan, changed(scan.voxels), target_of(path))
    first, second = dicom.read_with_sitk(path), dicom.read_with_sitk(target_of(path))
    for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetPixelIDTypeAsString"):
        assert getattr(first, what)() == getattr(second, what)(), what
    assert np.allclose(read_scan(target_of(path)).physical(np.float64)[0].T, dicom.sitk_values(target_of(path)))

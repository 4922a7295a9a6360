# SPDX-License-Identifier: Apache-2.0
"""Made-up DICOM files, and readers of them that know nothing of the package under test."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sr.codedict import codes
from pydicom.uid import (
    JPEG2000,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    RTStructureSetStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)
from skimage.measure import find_contours

from tests.helpers import SHAPES, random_image, two_classes

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
LOSSLESS = (RLELossless, JPEGLSLossless, JPEG2000Lossless)
DEFLATED = DeflatedExplicitVRLittleEndian
DECODED = (JPEGLosslessSV1, JPEGBaseline8Bit, JPEG2000, JPEGLSNearLossless)  # written in Explicit VR Little Endian
OBLIQUE = (0.96, 0.28, 0.0, -0.224, 0.768, 0.6)
ORIGIN, SPACING = np.array([-31.0, 12.5, 7.25]), (0.8, 0.7, 2.5)
PRIVATE_GROUP = 0x0019
PADDING = -900


def make_slice(pixels: NDArray, bits: int | None = None, number: int = 0, **tags: Any) -> FileDataset:
    """One slice in Explicit VR Little Endian, with private elements and other things that careless writers drop."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion, meta.ImplementationClassUID = b"\0\1", "1.2.3.4"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, f"1.2.826.0.1.{number + 1}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, preamble=b"II*\0" + b"\0" * 124, file_meta=meta)
    ds.SpecificCharacterSet, ds.Modality, ds.ImageType = "ISO_IR 192", "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.3.1", "1.2.3.2", "1.2.3.3"
    ds.StudyDate, ds.StudyDescription, ds.InstanceNumber = "20010203", "Schädel", number + 1
    ds.ImagePositionPatient, ds.ImageOrientationPatient = ORIGIN.tolist(), [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [SPACING[1], SPACING[0]], SPACING[2]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated = 8 * pixels.itemsize
    ds.BitsStored = bits or ds.BitsAllocated
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(pixels.dtype.kind == "i")
    block = ds.private_block(PRIVATE_GROUP, "MAKER", create=True)
    block.add_new(0x01, "UN", b"\1\2\3\4")
    block.add_new(0x02, "SQ", [Dataset()])
    for name, value in tags.items():
        setattr(ds, name, value)
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    return ds


def save(ds: FileDataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write a slice in any of the transfer syntaxes above."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if syntax in (*LOSSLESS, JPEG2000, JPEGLSNearLossless):
        options = {"j2k_cr": [8]} if syntax == JPEG2000 else {"jls_error": 2} if syntax == JPEGLSNearLossless else {}
        plugin = "pydicom" if syntax == RLELossless else ""  # GDCM ends the process where the number of bytes is odd
        ds.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False, **options)
    elif syntax == JPEGBaseline8Bit:
        stream = io.BytesIO()
        Image.fromarray(ds.pixel_array).save(stream, "JPEG")
        ds.PixelData = encapsulate([stream.getvalue()])
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
        ds.LossyImageCompression = "01"
    elif syntax == ExplicitVRBigEndian and ds.BitsAllocated > 8:
        ds.PixelData = np.frombuffer(ds.PixelData, f"u{ds.BitsAllocated // 8}").byteswap().tobytes()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == JPEGLosslessSV1 else syntax
    dcmwrite(
        path,
        ds,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        enforce_file_format=True,
    )
    if syntax == JPEGLosslessSV1:
        _to_jpeg_lossless(path)
    return path


def _to_jpeg_lossless(path: Path) -> None:
    import gdcm

    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def write_series(
    folder: Path,
    voxels: NDArray,
    bits: int | None = None,
    syntax: str = ExplicitVRLittleEndian,
    orientation: Sequence[float] = OBLIQUE,
    names: Sequence[str] | None = None,
    change: Callable[[int, FileDataset], object] | None = None,
    **tags: Any,
) -> Path:
    """A folder with a file for each slice of voxels (x, y, z); names descend, so that they tell nothing of the order.

    Args:
        change: is given each slice, counted along the normal, before it is written.
    """
    normal = np.cross(orientation[:3], orientation[3:])
    count = voxels.shape[2]
    for index in range(count):
        ds = make_slice(voxels[:, :, index].T, bits, count - index, ImageOrientationPatient=list(orientation), **tags)
        ds.ImagePositionPatient = np.round(ORIGIN + index * SPACING[2] * normal, 6).tolist()
        if change is not None:
            change(index, ds)
        save(ds, folder / (names[index] if names else f"{count - index:03}.dcm"), syntax)
    return folder


def write_enhanced(
    path: Path,
    frames: NDArray,
    places: Sequence[int] | None = None,
    syntax: str = ExplicitVRLittleEndian,
    bits: int | None = None,
    change: Callable[[FileDataset], object] | None = None,
    change_frame: Callable[[int, Dataset], object] | None = None,
    orientation: Sequence[float] = OBLIQUE,
    **tags: Any,
) -> Path:
    """An enhanced MR file of frames (frames, rows, columns).

    Args:
        places: number of the slice, along the normal, that each frame lies on; by default they follow each other.
        change: is given the file before it is written.
        change_frame: is given the functional groups of each frame.
    """
    ds = make_slice(frames[0], bits, **tags)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        del ds[name]
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    ds.Modality, ds.NumberOfFrames = "MR", len(frames)
    shared, ds.PerFrameFunctionalGroupsSequence = Dataset(), []
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [Dataset()], [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = list(orientation)
    shared.PixelMeasuresSequence[0].PixelSpacing = [SPACING[1], SPACING[0]]
    shared.PixelMeasuresSequence[0].SliceThickness = SPACING[2]
    shared.MRImageFrameTypeSequence = [Dataset()]
    shared.MRImageFrameTypeSequence[0].FrameType = ["ORIGINAL", "PRIMARY", "M"]
    ds.SharedFunctionalGroupsSequence = [shared]
    normal = np.cross(orientation[:3], orientation[3:])
    for index, place in enumerate(range(len(frames)) if places is None else places):
        groups = Dataset()
        groups.PlanePositionSequence, groups.FrameContentSequence = [Dataset()], [Dataset()]
        groups.PlanePositionSequence[0].ImagePositionPatient = (ORIGIN + place * SPACING[2] * normal).round(6).tolist()
        if change_frame is not None:
            change_frame(index, groups)
        ds.PerFrameFunctionalGroupsSequence.append(groups)
    put_pixels(ds, frames)
    if change is not None:
        change(ds)
    return save(ds, path, syntax)


def put_pixels(ds: FileDataset, pixels: NDArray) -> None:
    """Give a file other pixels, in the order that they lie in."""
    data = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<"))).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"


def make_color(pixels: NDArray, kind: str = "RGB", by_plane: bool = False, **tags: Any) -> FileDataset:
    """Pictures (frames, rows, columns, 3) in color, an ultrasound loop where there are several."""
    ds = make_slice(pixels[0, :, :, 0], **tags)
    for name in ("ImagePositionPatient", "ImageOrientationPatient"):
        del ds[name]
    several = len(pixels) > 1
    ds.SOPClassUID = UltrasoundMultiFrameImageStorage if several else UltrasoundImageStorage
    ds.file_meta.MediaStorageSOPClassUID, ds.Modality = ds.SOPClassUID, "US"
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, kind, int(by_plane)
    if several:
        ds.NumberOfFrames = len(pixels)
    put_pixels(ds, np.moveaxis(pixels, -1, 1) if by_plane else pixels)
    return ds


def write_dataset(root: Path, first_seed: int = 0) -> Path:
    """Two labeled series: 12 bits with padding, and the same compressed."""
    for seed, (name, syntax) in enumerate({"a": NATIVE[0], "b": LOSSLESS[0]}.items(), first_seed):
        voxels = random_image(SHAPES[3], "int16", seed)
        voxels[:2] = PADDING
        write_series(
            root / "images" / name, voxels, 12, syntax, PixelPaddingValue=PADDING, PatientName=f"{name}^{name}"
        )
        write_label(root / "images" / name, root / "labels" / f"{name}.nii.gz", two_classes(SHAPES[3]))
    return root


def write_label(series: Path, path: Path, label: NDArray) -> Path:
    """A label map (x, y, z) on the grid of a series."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(label, sitk_affine(read_with_sitk(series))).to_filename(path)
    return path


# What highdicom wants of the images that a segmentation is of.
PERSON = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyTime"),
    *("ReferringPhysicianName",),
)


def sources_of(series: Path) -> list[FileDataset]:
    """The slices of a series as highdicom takes them."""
    sources = [dcmread(file) for file in slices_of(series)]
    for source in sources:
        for name in PERSON:
            source.setdefault(name, None)
    return sources


def write_seg(
    series: Path,
    path: Path,
    label: NDArray,
    kind: str = "BINARY",
    syntax: str = ExplicitVRLittleEndian,
    numbers: Sequence[int] | None = None,
    change: Callable[[FileDataset], object] | None = None,
    **options: Any,
) -> Path:
    """A label map (x, y, z) on the grid of a series, or segments (x, y, z, n), as a segmentation by highdicom.

    Args:
        numbers: of the segments that are described; by default those of the map.
        change: is given the segmentation before it is written.
        **options: further arguments of highdicom's segmentation.
    """
    sources = sources_of(series)
    normal = np.cross(sources[0].ImageOrientationPatient[:3], sources[0].ImageOrientationPatient[3:])
    by_position = sorted(range(len(sources)), key=lambda index: sources[index].ImagePositionPatient @ normal)
    planes = np.empty((len(sources), *np.swapaxes(label, 0, 1).shape[:2], *label.shape[3:]), label.dtype)
    planes[by_position] = np.moveaxis(np.swapaxes(label, 0, 1), 2, 0)
    numbers = numbers or sorted(set(np.unique(label).tolist()) - {0})
    seg = hd.seg.Segmentation(
        sources,
        planes,
        kind,
        [
            hd.seg.SegmentDescription(
                number, f"part {number}", codes.SCT.Tissue, codes.SCT.Liver, hd.seg.SegmentAlgorithmTypeValues.MANUAL
            )
            for number in numbers
        ],
        *("1.2.3.7", 7, "1.2.3.8", 1, "maker", "model", "1", "0"),
        transfer_syntax_uid=syntax,
        **options,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    if change is not None:
        change(seg)
    seg.save_as(path)
    return path


def read_seg(path: Path, series: Path) -> NDArray:
    """The label map (x, y, z) of a segmentation by highdicom, slices found by the instances they refer to."""
    sources = [dcmread(file, stop_before_pixels=True) for file in slices_of(series)]
    normal = np.cross(sources[0].ImageOrientationPatient[:3], sources[0].ImageOrientationPatient[3:])
    sources.sort(key=lambda source: source.ImagePositionPatient @ normal)
    planes = hd.seg.segread(path).get_pixels_by_source_instance(
        [source.SOPInstanceUID for source in sources],
        combine_segments=True,
        assert_missing_frames_are_empty=True,
        ignore_spatial_locations=True,
    )
    return np.asarray(planes).T


def read_with_sitk(path: Path) -> sitk.Image:
    """A series or a file, by GDCM."""
    if not path.is_dir():
        return sitk.ReadImage(str(path))
    return sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path)))


def sitk_values(path: Path) -> NDArray:
    """Physical values (z, y, x) or (y, x) by GDCM, which inverts MONOCHROME1."""
    values = sitk.GetArrayFromImage(read_with_sitk(path)).squeeze()
    inverted = dcmread(slices_of(path)[0]).PhotometricInterpretation == "MONOCHROME1"
    return np.iinfo(values.dtype).max - values if inverted else values


def sitk_affine(image: sitk.Image) -> NDArray:
    """From indices to mm in RAS+."""
    dims, affine = image.GetDimension(), np.eye(4)
    directions = np.asarray(image.GetDirection()).reshape(dims, dims) * image.GetSpacing()
    affine[:dims, :dims], affine[:dims, 3] = directions, image.GetOrigin()
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def is_dicom(path: Path) -> bool:
    """Whether a path is one that the functions of this module wrote."""
    return path.is_dir() or path.suffix in (".dcm", ".ima", "")


def read_by_gdcm(path: Path) -> bool:
    """Whether GDCM reads a file as this package does: it knows one gray frame a file, and no zeros after it."""
    if slices_of(path)[0].read_bytes().endswith(b"\0" * 100):
        return False
    ds = dcmread(slices_of(path)[0], force=True)
    is_gray = ds.SamplesPerPixel == 1 and "NumberOfFrames" not in ds
    return bool(is_gray and "TransferSyntaxUID" in ds.file_meta and ds.preamble)


def _by_pydicom(path: Path) -> tuple[Dataset, list[list[tuple[NDArray, Dataset]]]]:
    """The header of a file, and (pixels, functional groups) of the frames at each position, in the order of slices."""
    ds = dcmread(path, force=True)
    if "TransferSyntaxUID" not in ds.file_meta:
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    is_lossy = ds.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    ds.pixel_array_options(raw=not is_lossy)
    count = int(ds.get("NumberOfFrames", 1))
    frames = ds.pixel_array.reshape(count, ds.Rows, ds.Columns, ds.SamplesPerPixel)
    own = list(ds.get("PerFrameFunctionalGroupsSequence", [Dataset()] * count))
    slices: dict[float, list[tuple[NDArray, Dataset]]] = {}
    for number, (pixels, groups) in enumerate(zip(frames, own, strict=True)):
        place = float(number)
        if "PlanePositionSequence" in groups:
            directions = np.asarray(_directions(ds), float)
            place = round(np.asarray(_position(groups)) @ np.cross(directions[:3], directions[3:]), 3)
        slices.setdefault(place, []).append((pixels, groups))

    def in_time(frame: tuple[NDArray, Dataset]) -> int:
        return int(frame[1].FrameContentSequence[0].get("TemporalPositionIndex", 0)) if len(slices) < count else 0

    return ds, [sorted(slices[place], key=in_time) for place in sorted(slices)]


def _directions(ds: Dataset) -> Any:
    return ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient


def _position(groups: Dataset) -> Any:
    return groups.PlanePositionSequence[0].ImagePositionPatient


def pydicom_values(path: Path) -> NDArray:
    """Physical values (C, x, y[, z]) of a file by pydicom: frames at one position and colors are channels."""
    ds, slices = _by_pydicom(path)
    planes = []
    for frames in slices:
        channels = []
        for pixels, groups in frames:
            rescale = groups.get("PixelValueTransformationSequence", [ds])[0]
            slope, inter = float(rescale.get("RescaleSlope", 1)), float(rescale.get("RescaleIntercept", 0))
            channels.append(pixels.T * slope + inter)
        planes.append(np.concatenate(channels))
    return np.stack(planes, -1) if len(planes) > 1 else planes[0]


def pydicom_affine(path: Path) -> NDArray:
    """From indices to mm in RAS+, by the positions of the first and the last slice."""
    ds, slices = _by_pydicom(path)
    affine = np.diag([*ds.get("PixelSpacing", (1, 1))[::-1], ds.get("SliceThickness", 1), 1.0])
    if "PerFrameFunctionalGroupsSequence" in ds:
        row, column = np.reshape(_directions(ds), (2, 3)).astype(float)
        first, last = (np.asarray(_position(slices[i][0][1]), float) for i in (0, -1))
        step = (last - first) / (len(slices) - 1) if len(slices) > 1 else np.cross(row, column) * SPACING[2]
        rows, columns = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].get("PixelSpacing", (1, 1))
        affine[:3] = np.stack([row * columns, column * rows, step, first], -1)
    elif ds.get("ImagePositionPatient"):
        affine[:3, 3] = ds.ImagePositionPatient
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def elements(path: Path) -> dict[str, Any]:
    """The elements of a file but its pixels, by keyword or tag."""
    ds = dcmread(path, force=True)
    return {e.keyword or str(e.tag): (e.VR, e.value) for e in [*ds.file_meta, *ds] if e.keyword != "PixelData"}


def slices_of(path: Path) -> list[Path]:
    """The files of a series, or the single file."""
    return sorted(path.iterdir()) if path.is_dir() else [path]


def pixel_bytes(path: Path) -> bytes:
    """The pixel data of all files as they are in them."""
    return b"".join(dcmread(file).PixelData for file in slices_of(path))


def contours_of(mask: NDArray) -> list[tuple[int, NDArray]]:
    """The outlines of a mask (x, y, z), halfway between pixels: number of the slice, and points (points, 2) in pixels.

    Holes have outlines of their own.
    """
    found = []
    for index in np.flatnonzero(mask.any(axis=(0, 1))):
        plane = np.pad(mask[:, :, index].astype(float), 1)
        found += [(int(index), points[:-1] - 1) for points in find_contours(plane, 0.5)]
    return found


def write_structures(
    series: Path,
    path: Path,
    structures: dict[int, list[tuple[int, NDArray]]],
    kind: str = "CLOSED_PLANAR",
    change: Callable[[FileDataset], object] | None = None,
) -> Path:
    """A structure set of contours on the slices of a series.

    Args:
        structures: contours of each structure by its number, see :func:`contours_of`; slices counted along the normal.
        kind: geometric type of the contours.
        change: is given the structure set before it is written.
    """
    slices = sources_of(series)
    normal = np.cross(slices[0].ImageOrientationPatient[:3], slices[0].ImageOrientationPatient[3:])
    slices.sort(key=lambda ds: ds.ImagePositionPatient @ normal)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = RTStructureSetStorage, "1.2.3.9.1"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, preamble=b"\0" * 128, file_meta=meta)
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = RTStructureSetStorage, "1.2.3.9.1", "RTSTRUCT"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = slices[0].StudyInstanceUID, "1.2.3.9"
    space, study, referenced = Dataset(), Dataset(), Dataset()
    referenced.SeriesInstanceUID = slices[0].SeriesInstanceUID
    referenced.ContourImageSequence = [_reference(source) for source in slices]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", ds.StudyInstanceUID
    study.RTReferencedSeriesSequence = [referenced]
    space.FrameOfReferenceUID, space.RTReferencedStudySequence = slices[0].FrameOfReferenceUID, [study]
    ds.ReferencedFrameOfReferenceSequence = [space]
    ds.StructureSetROISequence, ds.ROIContourSequence = [], []
    for number, contours in structures.items():
        described, item = Dataset(), Dataset()
        described.ROINumber, described.ROIName = number, f"part {number}"
        described.ReferencedFrameOfReferenceUID = space.FrameOfReferenceUID
        item.ReferencedROINumber, item.ContourSequence = number, []
        for index, points in contours:
            contour, source = Dataset(), slices[index]
            row, column = np.reshape(source.ImageOrientationPatient, (2, 3)).astype(float)
            steps = np.stack([row * source.PixelSpacing[1], column * source.PixelSpacing[0]])
            places = np.asarray(source.ImagePositionPatient, float) + points @ steps
            contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(points)
            contour.ContourData = places.round(5).ravel().tolist()
            contour.ContourImageSequence = [_reference(source)]
            item.ContourSequence.append(contour)
        ds.StructureSetROISequence.append(described)
        ds.ROIContourSequence.append(item)
    if change is not None:
        change(ds)
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, ds, enforce_file_format=True)
    return path


def _reference(source: FileDataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    return item

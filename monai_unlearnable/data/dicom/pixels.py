# SPDX-License-Identifier: Apache-2.0
"""DICOM pixel data: decoded, and written in place of the originals."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, dcmwrite, uid
from pydicom.errors import InvalidDicomError
from pydicom.filewriter import correct_ambiguous_vr

from monai_unlearnable.data.dicom.decoding import EXACT, PLUGINS, decode
from monai_unlearnable.data.dicom.detection import (
    LONG,
    VALUE_REPRESENTATIONS,
    has_mark,
    holds_no_image,
    is_dicom_content,
)
from monai_unlearnable.data.dicom.pixel_layout import PixelLayout
from monai_unlearnable.errors import ScanError

NATIVE = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)
LOSSLESS = (uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless)  # that can be encoded, not only decoded
PIXELS, FLOATS = 0x7FE00010, (0x7FE00008, 0x7FE00009)
UNDEFINED = 0xFFFFFFFF  # length
ITEM, END_OF_ITEMS = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
SIGNATURES = b"\xfa\xff\xfa\xff"  # tag of digital signatures, which follow the pixels
MISSING = "the file holds no image, or was cut: PixelData is missing"


def parse(content: bytes) -> Dataset:
    """The elements of a DICOM file.

    Raises:
        ScanError: when it is none.
    """
    return _read(io.BytesIO(content), content)


def parse_header(content: bytes) -> Dataset:
    """The elements of a DICOM file before its pixels.

    Raises:
        ScanError: when it is none.
    """
    return _read(io.BytesIO(content), content, before_pixels=True)


def _read(stream: io.BytesIO, content: bytes, before_pixels: bool = False) -> Dataset:
    try:
        force = not has_mark(content) and is_dicom_content(content)
        dataset = dcmread(stream, force=force, stop_before_pixels=before_pixels)
    except InvalidDicomError as error:
        raise ScanError("not a DICOM file") from error
    if "TransferSyntaxUID" not in dataset.file_meta:
        # Known to the reader, not written: files keep the elements that they have.
        is_implicit, is_little = dataset.original_encoding
        syntax = NATIVE[0] if is_implicit else NATIVE[1] if is_little else NATIVE[2]
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.file_meta.is_guessed = True
    return dataset


def encode(dataset: Dataset) -> bytes:
    """The bytes of a DICOM file; elements that nobody looked at are as they were read."""
    stream, syntax = io.BytesIO(), dataset.file_meta.TransferSyntaxUID
    is_implicit, is_little = syntax.is_implicit_VR, syntax.is_little_endian
    if not is_implicit and any(element.VR is None for element in dataset.values()):
        # Written without value representations, against what the syntax says; those that it names look them up.
        dataset = correct_ambiguous_vr(dataset, is_little)
        for _ in dataset.iterall():
            pass
    if getattr(dataset.file_meta, "is_guessed", False):
        del dataset.file_meta.TransferSyntaxUID
        dcmwrite(stream, dataset, implicit_vr=is_implicit, little_endian=is_little, enforce_file_format=False)
    else:
        dcmwrite(stream, dataset, enforce_file_format=False)
    return stream.getvalue()


@dataclass(frozen=True)
class PixelFile:
    """A file, and where its pixels lie.

    Args:
        content: bytes of the file.
        header: elements before the pixels.
        data: bytes that hold the value of the pixels: those of the file, or what they were before they were deflated.
        begin: where the element begins in them.
        start: where its value does.
        stop: where it ends.
        vr: its value representation; None where the file does not say.
    """

    content: bytes
    header: Dataset
    data: bytes
    begin: int
    start: int
    stop: int
    vr: str | None

    @classmethod
    def open(cls, content: bytes) -> PixelFile:
        """Find the pixels of a file.

        Raises:
            ScanError: when it is not DICOM, or holds none.
        """
        stream = io.BytesIO(content)
        header = _read(stream, content, before_pixels=True)
        kind = holds_no_image(header)
        if kind is not None:
            what = "a label, not an image" if header.get("SegmentationType") else "no image"
            raise ScanError(f"{kind} is {what}")
        if header.file_meta.TransferSyntaxUID != uid.DeflatedExplicitVRLittleEndian:
            return cls(content, header, content, *_pixels_at(content, stream.tell(), header))
        header = parse(content)
        if "PixelData" not in header:
            raise ScanError(MISSING)
        data = header.PixelData
        del header.PixelData
        return cls(content, header, data, 0, 0, len(data), "OW")

    @cached_property
    def layout(self) -> PixelLayout:
        """How the numbers lie, once they are decoded."""
        layout = PixelLayout.of(self.header)
        return replace(layout, by_plane=False) if self.syntax.is_encapsulated else layout

    @property
    def syntax(self) -> uid.UID:
        """The transfer syntax."""
        return self.header.file_meta.TransferSyntaxUID  # type: ignore[no-any-return]

    @property
    def is_plain(self) -> bool:
        """Whether the numbers lie in the file as they are, and others can take their place."""
        return self.syntax in NATIVE and not self.layout.is_subsampled

    @property
    def is_consistent(self) -> bool:
        """Whether the elements are of the kind that the transfer syntax says."""
        return (self.vr is None) == self.syntax.is_implicit_VR

    @property
    def place(self) -> slice:
        """Where the numbers lie in a plain file; bytes that pad them are not part of it."""
        size = self.layout.size * self.header.BitsAllocated // 8
        return slice(self.start, self.start + size + (size % 2 if self._is_swapped else 0))

    @property
    def _is_swapped(self) -> bool:
        """Whether bytes lie in words of two, whose order is that of big endian."""
        return self.syntax == uid.ExplicitVRBigEndian and self.header.BitsAllocated == 8 and self.vr == "OW"

    def planes(self) -> NDArray:
        """The stored numbers (frames, samples, rows, columns) in little endian; bits that hold none are omitted.

        Raises:
            ScanError: when there are fewer than the header says, or the transfer syntax is unknown.
        """
        if self.syntax.is_encapsulated:
            self.header.add_new(PIXELS, "OB", self.content[self.start : self.stop])
            self.header["PixelData"].is_undefined_length = True
            words = decode(self.header, self.content)
            del self.header.PixelData
            if 8 * words.itemsize != self.header.BitsAllocated:
                raise ScanError(f"the compressed pixels are {words.dtype}, unlike what the header says")
            return numbers(self.layout.planes(words), self.header)
        if self.syntax in (*NATIVE, uid.DeflatedExplicitVRLittleEndian):
            return self.layout.planes(self._numbers)
        raise ScanError(f"the transfer syntax {self.syntax.name} is not supported")

    @cached_property
    def has_spare_bits(self) -> bool:
        """Whether bits that belong to no number hold something else, which is to stay."""
        return not np.shares_memory(self._words(), self._numbers)

    @cached_property
    def _numbers(self) -> NDArray:
        return numbers(self._words(), self.header)

    def _words(self) -> NDArray:
        place, found = self.place, self.stop - self.start
        if found < place.stop - place.start:
            raise ScanError(f"truncated: {place.stop - place.start} bytes of pixels expected, {found} found")
        if self._is_swapped:
            return _swapped(np.frombuffer(self.data, np.uint8)[place])[: self.layout.size]
        order = "<" if self.syntax.is_little_endian else ">"
        return np.frombuffer(self.data, f"{order}u{self.header.BitsAllocated // 8}", self.layout.size, self.start)

    def _parts_of(self, planes: NDArray) -> list[memoryview]:
        """The bytes of other numbers, in parts that follow each other.

        Flipping bits keeps whatever lies in those that hold no number, and flipping them again gives it back.
        """
        if self._is_swapped:
            flips = np.ascontiguousarray(self.layout.in_file_order(self.planes() ^ planes)).view(np.uint8).ravel()
            flips = _swapped(np.append(flips, np.zeros(flips.size % 2, np.uint8)))
            return [(np.frombuffer(self.data, np.uint8)[self.place] ^ flips).data]
        words = self._words()
        kind = np.dtype(words.dtype).newbyteorder("<")
        if not self.has_spare_bits:
            frames = self.layout.in_file_order(planes).view(kind)
            return [np.ascontiguousarray(frame, words.dtype).data.cast("B") for frame in frames]
        flips = np.ascontiguousarray(self.layout.in_file_order(self.planes() ^ planes)).view(kind).ravel()
        return [np.bitwise_xor(words, flips).astype(words.dtype, copy=False).data.cast("B")]

    def with_planes(self, planes: NDArray) -> bytes:
        """The file with other pixels, and nothing else changed; a plain one.

        Args:
            planes: pixels that :meth:`planes` returns for the new file.
        """
        place = self.place
        return b"".join([self.content[: place.start], *self._parts_of(planes), self.content[place.stop :]])

    def derived(self, planes: NDArray, change: Callable[[Dataset], object]) -> bytes:
        """The file with other pixels and a header that says so, in its transfer syntax.

        Where that has no encoder the file is written in Explicit VR Little Endian, and where two pixels share their
        colors each gets its own.

        Args:
            planes: pixels that :meth:`planes` returns for the new file.
            change: is given the dataset to change its header.
        """
        dataset, tail = parse_header(self.content), self.content[self.stop :]
        if self.syntax == uid.DeflatedExplicitVRLittleEndian:
            dataset, tail = parse(self.content), b""
        if SIGNATURES in tail or not self.is_consistent:
            tail = b""
        if self.is_plain and self.is_consistent:
            # Spliced: a library would copy pixels, and parse and write what nobody looked at.
            change(dataset)
            head, pad = self.content[self.begin : self.start], self.content[self.place.stop : self.stop]
            return b"".join([encode(dataset), head, *self._parts_of(planes), pad, tail])
        put_pixels(dataset, planes)
        change(dataset)
        return encode(dataset) + tail


def put_pixels(dataset: Dataset, planes: NDArray) -> None:
    """Put pixels into a dataset that is compressed, in its transfer syntax or Explicit VR Little Endian.

    Args:
        dataset: elements of the file, changed in place.
        planes: its new pixels (frames, samples, rows, columns).
    """
    syntax, layout = dataset.file_meta.TransferSyntaxUID, PixelLayout.of(dataset)
    for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        dataset.pop(name, None)
    if syntax in LOSSLESS and _is_compressed(dataset, layout, planes):
        return
    kind = dataset.PhotometricInterpretation
    if layout.is_subsampled:
        dataset.PhotometricInterpretation = "YBR_FULL"
    elif layout.samples > 1 and syntax.is_encapsulated and (syntax not in EXACT or kind == "YBR_RCT"):
        dataset.PhotometricInterpretation = "RGB"
    if syntax.is_encapsulated:
        dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    data = np.ascontiguousarray(layout.in_file_order(planes)).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    element = dataset["PixelData"]
    element.VR, element.is_undefined_length = ("OB" if dataset.BitsAllocated == 8 else "OW"), False


def _is_compressed(dataset: Dataset, layout: PixelLayout, planes: NDArray) -> bool:
    """Compress pixels into a dataset in its transfer syntax; false where that has no encoder for such pixels."""
    pixels = np.moveaxis(planes, 1, -1)
    pixels = pixels[..., 0] if layout.samples == 1 else pixels
    pixels = np.ascontiguousarray(pixels[0] if layout.frames == 1 else pixels)
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        dataset.compress(syntax, pixels, encoding_plugin=PLUGINS[syntax], generate_instance_uid=False)
    except (ValueError, RuntimeError):
        return False
    return True


def _swapped(words: NDArray) -> NDArray:
    return words.reshape(-1, 2)[:, ::-1].ravel()


def numbers(words: NDArray, dataset: Dataset) -> NDArray:
    """What the bits that hold a number say, in little endian; the words themselves where their other bits agree."""
    size, bits = words.itemsize, dataset.BitsStored
    kind, spare = "i" if dataset.PixelRepresentation else "u", 8 * words.itemsize - bits
    words = words if words.dtype.isnative or size == 1 else words.astype(words.dtype.newbyteorder("<"))
    values = words.view(f"<{kind}{size}")
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind == "i" else (0, 2**bits - 1)
    if not spare or not values.size or (values.min() >= low and values.max() <= high):
        return values
    return (words.view(f"<u{size}") << spare).view(f"<{kind}{size}") >> spare


def _pixels_at(content: bytes, position: int, header: Dataset) -> tuple[int, int, int, str | None]:
    """Where the element of pixels begins, its value does and ends, and its value representation.

    Args:
        content: bytes of the file.
        position: where the element begins.
        header: elements before it.
    """
    syntax = header.file_meta.TransferSyntaxUID
    order = "<" if syntax.is_little_endian else ">"
    if len(content) < position + 12:
        raise ScanError(MISSING)
    group, element, vr = struct.unpack_from(f"{order}2H2s", content, position)
    tag = group << 16 | element
    if tag in FLOATS:
        raise ScanError("pixels that are floating-point numbers are not supported; use integers and RescaleSlope")
    if tag != PIXELS:
        raise ScanError(MISSING)
    if vr in LONG:
        start, (length,) = position + 12, struct.unpack_from(f"{order}L", content, position + 8)
    elif vr in VALUE_REPRESENTATIONS:
        start, (length,) = position + 8, struct.unpack_from(f"{order}H", content, position + 6)
    else:
        start, (length,), vr = position + 8, struct.unpack_from(f"{order}L", content, position + 4), b""
    stop = _end_of_items(content, start) if syntax.is_encapsulated else min(start + length, len(content))
    return position, start, stop, vr.decode() or None


def _end_of_items(content: bytes, position: int) -> int:
    """Where the items of compressed pixels end, the mark of their end included.

    Raises:
        ScanError: when the file does before.
    """
    while content[position : position + 4] == ITEM and len(content) >= position + 8:
        position += 8 + struct.unpack_from("<L", content, position + 4)[0]
    if content[position : position + 4] != END_OF_ITEMS:
        raise ScanError(MISSING)
    return position + 8

# SPDX-License-Identifier: Apache-2.0
"""DICOM pixel data: decoded, and written in place of the originals."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import time
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, dcmwrite, uid
from pydicom.dataelem import RawDataElement
from pydicom.errors import InvalidDicomError

from monai_unlearnable.errors import ScanError
from monai_unlearnable.intensity import StorageQuantization

# Named, since pydicom goes from one that fails to the next, and GDCM is among these.
DECODERS = {
    uid.RLELossless: "pydicom",
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
    uid.JPEGBaseline8Bit: "pillow",
}
SERVE = f"from {__name__} import serve; serve()"
SIZE = struct.Struct("<Q")
LIMIT = 300.0  # seconds for one file; the largest take a few


def decode(dataset: Dataset, content: bytes) -> NDArray:
    """The decoded pixels of a file.

    Args:
        dataset: elements of the file.
        content: bytes of the file.

    Raises:
        ScanError: when the stream is damaged, or its decoder does not finish.
        RuntimeError: or another error of pydicom, when it cannot be decoded.
    """
    decoder = DECODERS.get(dataset.file_meta.TransferSyntaxUID)
    if decoder is not None:
        return _decode(dataset, decoder)
    answer = _children.setdefault(os.getpid(), _Child()).ask(content)
    if answer is None:
        raise ScanError("the compressed pixels cannot be decoded: their decoder ended")
    if not answer.startswith(np.lib.format.MAGIC_PREFIX):
        raise ScanError(f"the compressed pixels cannot be decoded: {answer.decode()}")
    pixels: NDArray = np.load(io.BytesIO(answer), allow_pickle=False)
    if pixels.shape != (dataset.Rows, dataset.Columns) or 8 * pixels.itemsize != dataset.BitsAllocated:
        raise ScanError(f"the compressed pixels are {pixels.dtype} {pixels.shape}, unlike what the header says")
    return pixels


class _Child:
    """The process that decodes for this one; answers always belong to the question."""

    def __init__(self) -> None:
        self.lock, self.process = threading.Lock(), cast("subprocess.Popen[bytes] | None", None)

    def ask(self, content: bytes) -> bytes | None:
        """The answer; None if a new process ended over the question too.

        Raises:
            ScanError: when nothing does within the limit of time.
        """
        with self.lock:
            for _ in range(2):
                start = time.monotonic()
                try:
                    answer = self._exchange(content)
                except BaseException:
                    self._stop()  # an answer that comes later would be taken for that of the next question
                    raise
                if answer is not None:
                    return answer
                self._stop()
                if time.monotonic() - start >= LIMIT:
                    raise ScanError(f"the compressed pixels cannot be decoded: no end after {LIMIT:g} s")
        return None

    def _exchange(self, content: bytes) -> bytes | None:
        """The answer; None where the process ended, or was ended for being late."""
        if self.process is None:
            # Our own interpreter and code, and no shell.
            words = [sys.executable, "-c", f"import sys; sys.path[:] = filter(None, sys.path); {SERVE}"]
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)  # noqa: S603
        assert self.process.stdin is not None and self.process.stdout is not None
        timer = threading.Timer(LIMIT, self.process.kill)
        timer.start()
        try:
            _send(self.process.stdin, content)
            return _receive(self.process.stdout)
        except OSError:
            return None
        finally:
            timer.cancel()

    def _stop(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.communicate()  # closes the pipes, and waits for its end


_children: dict[int, _Child] = {}  # by the process that asks, since forked ones must not share one


def serve() -> None:
    """Decode with GDCM what comes in, until nothing does; what the process of :func:`decode` runs."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # decoders print
    while (content := _receive(sys.stdin.buffer)) is not None:
        stream = io.BytesIO()
        try:
            np.save(stream, _decode(dcmread(io.BytesIO(content)), "gdcm"))
            answer = stream.getvalue()
        except Exception as error:  # whatever pydicom raises for a file that was cut or damaged
            answer = repr(error).encode()
        _send(answers, answer)


def _decode(dataset: Dataset, decoder: str) -> NDArray:
    dataset.pixel_array_options(decoding_plugin=decoder)
    return dataset.pixel_array


def _send(stream: IO[bytes], content: bytes) -> None:
    stream.write(SIZE.pack(len(content)) + content)
    stream.flush()


def _receive(stream: IO[bytes]) -> bytes | None:
    """What was sent; None at the end of the stream."""
    head = stream.read(SIZE.size)
    content = stream.read(SIZE.unpack(head)[0]) if len(head) == SIZE.size else b""
    return content or None


NATIVE = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)
ENHANCED = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")  # geometry and rescaling lie there
LOSSLESS = (uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless)  # that can be encoded, not only decoded


def parse(content: bytes) -> Dataset:
    """The elements of a DICOM file."""
    try:
        return dcmread(io.BytesIO(content))
    except InvalidDicomError as error:
        raise ScanError("not a DICOM file") from error


def encode(dataset: Dataset) -> bytes:
    """The bytes of a DICOM file; elements that nobody looked at are as they were read."""
    stream = io.BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=False)
    return stream.getvalue()


def quantization_of(dataset: Dataset) -> StorageQuantization:
    """What the file can store.

    Raises:
        ScanError: when its pixels cannot be written back without loss.
    """
    allocated, bits, signed = dataset.BitsAllocated, dataset.BitsStored, dataset.PixelRepresentation
    if dataset.get("SamplesPerPixel", 1) != 1 or not str(dataset.PhotometricInterpretation).startswith("MONOCHROME"):
        raise ScanError(f"{dataset.PhotometricInterpretation} pixels are not supported; use MONOCHROME1 or MONOCHROME2")
    if int(dataset.get("NumberOfFrames") or 1) != 1 or any(name in dataset for name in ENHANCED):
        reason = "enhanced files and others with several frames are not supported; convert them to one frame a file"
        raise ScanError(f"{reason}, with emf2sf of dcm4che for example")
    if allocated not in (8, 16, 32) or not 0 < bits <= allocated or dataset.HighBit != bits - 1:
        raise ScanError(f"{bits} bits up to bit {dataset.HighBit} of {allocated} are not supported")
    if allocated == 8 and dataset.file_meta.TransferSyntaxUID == uid.ExplicitVRBigEndian:
        raise ScanError("8-bit pixels in big endian are not supported")
    if "ModalityLUTSequence" in dataset:
        raise ScanError("a lookup table for physical values is not supported; RescaleSlope and RescaleIntercept are")
    dtype = np.dtype(f"<{'i' if signed else 'u'}{allocated // 8}")
    slope, inter = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    return StorageQuantization(dtype.str, slope, inter, 0 if bits == allocated else bits, *_padding(dataset, dtype))


def _padding(dataset: Dataset, dtype: np.dtype) -> tuple[int, ...]:
    value, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if value is None:
        return ()
    ends = np.array([value, value if limit is None else limit]).astype(dtype)  # some give -1 as 65535
    return tuple(sorted(_numbers(ends, dataset).tolist()))


def read_pixels(dataset: Dataset, content: bytes) -> NDArray:
    """The stored numbers (rows, columns), in little endian; bits that hold no number are omitted.

    Args:
        dataset: the elements of a file.
        content: all of it.

    Raises:
        ScanError: when there are fewer than the header says, or the transfer syntax is unknown.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in NATIVE:
        words = _words(dataset, dataset.PixelData)
    elif syntax.is_encapsulated:
        words = decode(dataset, content)
    else:
        raise ScanError(f"the transfer syntax {syntax.name} is not supported")
    return _numbers(words, dataset)


def _numbers(words: NDArray, dataset: Dataset) -> NDArray:
    """What the bits that hold a number say."""
    size, spare = words.itemsize, 8 * words.itemsize - dataset.BitsStored
    shifted = words.astype(words.dtype.newbyteorder("<")).view(f"<u{size}") << spare
    return shifted.view(f"<{'i' if dataset.PixelRepresentation else 'u'}{size}") >> spare


def _words(dataset: Dataset, data: bytes, offset: int = 0) -> NDArray:
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    dtype, shape = np.dtype(f"{order}u{dataset.BitsAllocated // 8}"), (dataset.Rows, dataset.Columns)
    expected = dtype.itemsize * shape[0] * shape[1]
    if len(data) - offset < expected:
        raise ScanError(f"truncated: {expected} bytes of pixels expected, {len(data) - offset} found")
    return np.frombuffer(data, dtype, shape[0] * shape[1], offset).reshape(shape)


def pixel_range(content: bytes) -> slice:
    """Where the pixel data lie in a file."""
    element = _element(parse(content))
    return slice(element.value_tell, element.value_tell + len(element.value or b""))


def _element(dataset: Dataset) -> RawDataElement:
    return dataset.get_item("PixelData")  # type: ignore[return-value]


def replace_pixels(content: bytes, before: NDArray, after: NDArray) -> bytes:
    """A file with other pixels in the same transfer syntax, or Explicit VR Little Endian where that has no encoder.

    Args:
        content: content of the file.
        before: pixels as :func:`read_pixels` returns them; for native syntaxes.
        after: pixels that it returns for the new file.
    """
    dataset = parse(content)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in NATIVE:
        # Flipping bits keeps whatever lies in those that hold no number, and flipping them again gives it back.
        start = _element(dataset).value_tell
        words = _words(dataset, content, start).copy()
        words ^= (before ^ after).astype(words.dtype)
        return content[:start] + words.tobytes() + content[start + words.nbytes :]
    if syntax in LOSSLESS:
        dataset.compress(syntax, after, generate_instance_uid=False)
        return encode(dataset)
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    data = after.tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    element = dataset["PixelData"]
    element.VR, element.is_undefined_length = ("OB" if dataset.BitsAllocated == 8 else "OW"), False
    for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        dataset.pop(name, None)
    return encode(dataset)

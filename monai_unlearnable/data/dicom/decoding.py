# SPDX-License-Identifier: Apache-2.0
"""Compressed pixels decoded; a decoder that may crash runs in a child process."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, uid

from monai_unlearnable.data.dicom.detection import has_mark
from monai_unlearnable.errors import ScanError

# What decodes and encodes, named, since pydicom goes from one that fails to the next, and GDCM, which may end the
# process, is among these.
PLUGINS = {
    uid.RLELossless: "pydicom",
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
    uid.HTJ2KLossless: "pylibjpeg",
    uid.HTJ2KLosslessRPCL: "pylibjpeg",
    uid.HTJ2K: "pylibjpeg",
    uid.JPEGBaseline8Bit: "pillow",
}
# Their numbers are those that were stored, in the colors that the header names; others are decoded for good, to RGB.
EXACT = (
    *(uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL),
    *(uid.JPEGLossless, uid.JPEGLosslessSV1),
)
SERVE = f"from {__name__} import serve; serve()"
SIZE = struct.Struct("<Q")
LIMIT = 300.0  # seconds for one file; the largest take a few


def decode(dataset: Dataset, content: bytes) -> NDArray:
    """The decoded pixels of a file: ([frames,] rows, columns[, samples]).

    Args:
        dataset: elements of the file.
        content: bytes of the file.

    Raises:
        ScanError: when the stream is damaged, or its decoder does not finish or is not installed.
    """
    decoder = PLUGINS.get(dataset.file_meta.TransferSyntaxUID)
    if decoder is not None:
        try:
            return _decode(dataset, decoder)
        except Exception as error:  # whatever pydicom and its decoders raise
            raise ScanError(f"the compressed pixels cannot be decoded: {_last_line(error)}") from error
    if find_spec("gdcm") is None:
        syntax = dataset.file_meta.TransferSyntaxUID.name
        raise ScanError(f"pixels in the form {syntax!r} need GDCM: pip install 'monai_unlearnable[gdcm]'")
    answer = _children.setdefault(os.getpid(), _Child()).ask(content)
    if answer is None:
        raise ScanError("the compressed pixels cannot be decoded: their decoder ended")
    if not answer.startswith(np.lib.format.MAGIC_PREFIX):
        raise ScanError(f"the compressed pixels cannot be decoded: {answer.decode()}")
    pixels: NDArray = np.load(io.BytesIO(answer), allow_pickle=False)
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
    """Decode with GDCM what comes in, until the stream ends: the loop of the child process of :func:`decode`."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # decoders print
    while (content := _receive(sys.stdin.buffer)) is not None:
        stream = io.BytesIO()
        try:
            np.save(stream, _decode(dcmread(io.BytesIO(content), force=not has_mark(content)), "gdcm"))
            answer = stream.getvalue()
        except Exception as error:  # whatever pydicom raises for a file that was cut or damaged
            answer = _last_line(error).encode()
        _send(answers, answer)


def _decode(dataset: Dataset, decoder: str) -> NDArray:
    dataset.pixel_array_options(decoding_plugin=decoder, raw=dataset.file_meta.TransferSyntaxUID in EXACT)
    return dataset.pixel_array


def _last_line(error: Exception) -> str:
    """What a decoder said; pydicom puts it below what it says itself."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def _send(stream: IO[bytes], content: bytes) -> None:
    stream.write(SIZE.pack(len(content)) + content)
    stream.flush()


def _receive(stream: IO[bytes]) -> bytes | None:
    """What was sent; None at the end of the stream."""
    head = stream.read(SIZE.size)
    content = stream.read(SIZE.unpack(head)[0]) if len(head) == SIZE.size else b""
    return content or None

# SPDX-License-Identifier: Apache-2.0
"""Compressed pixels, each syntax by one decoder. GDCM ends its process over some damaged streams, so it has its own."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from monai_unlearnable.errors import ScanError

__all__ = ["decode", "serve"]

# Named, since pydicom goes from one that fails to the next, and GDCM is among these.
DECODERS = {
    RLELossless: "pydicom",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
    JPEGBaseline8Bit: "pillow",
}
SERVE = f"from {__name__} import serve; serve()"
SIZE = struct.Struct("<Q")
LIMIT = 300.0  # seconds for one file, of which the largest take a few


def decode(dataset: Dataset, content: bytes) -> NDArray:
    """The decoded pixels of a file.

    Args:
        dataset: its elements.
        content: all of it.

    Raises:
        ScanError: when the stream is damaged, or its decoder does not come to an end.
        RuntimeError: and others of pydicom's, when it cannot be decoded.
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
        """What comes back; None where a new process ended over the question too.

        Raises:
            ScanError: when nothing does within the limit of time.
        """
        with self.lock:
            for _ in range(2):
                try:
                    answer, is_late = self._exchange(content)
                except BaseException:
                    self._stop()  # an answer that comes later would be taken for that of the next question
                    raise
                if answer is not None:
                    return answer
                self._stop()
                if is_late:
                    raise ScanError(f"the compressed pixels cannot be decoded: no end after {LIMIT:g} s")
        return None

    def _exchange(self, content: bytes) -> tuple[bytes | None, bool]:
        """The answer, None where the process ended, and whether it was ended for being late."""
        if self.process is None:
            words = [sys.executable, "-c", f"import sys; sys.path[:] = filter(None, sys.path); {SERVE}"]
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        assert self.process.stdin is not None and self.process.stdout is not None
        late = threading.Event()
        timer = threading.Timer(LIMIT, _end, (self.process, late))
        timer.start()
        try:
            _send(self.process.stdin, content)
            return _receive(self.process.stdout), late.is_set()
        except OSError:
            return None, late.is_set()
        finally:
            timer.cancel()

    def _stop(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.communicate()  # closes the pipes, and waits for its end


def _end(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    process.kill()  # which ends the wait for its answer


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

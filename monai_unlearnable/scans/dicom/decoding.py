# SPDX-License-Identifier: Apache-2.0
"""Compressed pixels, each syntax by one decoder. GDCM ends its process over some damaged streams, so it has its own."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from functools import lru_cache
from typing import IO

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
SIZE = struct.Struct("<Q")


def decode(dataset: Dataset, content: bytes) -> NDArray:
    """The decoded pixels of a file.

    Args:
        dataset: its elements.
        content: all of it.

    Raises:
        ScanError: when the stream is damaged.
        RuntimeError: and others of pydicom's, when it cannot be decoded.
    """
    decoder = DECODERS.get(dataset.file_meta.TransferSyntaxUID)
    if decoder is not None:
        return _decode(dataset, decoder)
    process = _process()
    assert process.stdin is not None and process.stdout is not None
    try:
        _send(process.stdin, content)
        answer = _receive(process.stdout)
    except OSError:
        answer = None
    if answer is None:
        process.kill()
        _process.cache_clear()
        raise ScanError("the compressed pixels are damaged: their decoder ended")
    if not answer.startswith(np.lib.format.MAGIC_PREFIX):
        raise ScanError(f"the compressed pixels cannot be decoded: {answer.decode()}")
    return np.load(io.BytesIO(answer), allow_pickle=False)  # type: ignore[no-any-return]


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
            answer = str(error).encode()
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


@lru_cache(maxsize=1)
def _process() -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", f"from {__name__} import serve; serve()"]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

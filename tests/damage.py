# SPDX-License-Identifier: Apache-2.0
"""Files as failing disks, broken transfers and people with bad intentions leave them."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator

import numpy as np

COUNT = int(os.environ.get("DAMAGED_FILES", "12"))  # of each kind
HEADER = 600  # bytes in which damage is likelier than elsewhere
EXTREMES = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80")


def damaged(content: bytes, count: int = COUNT, compressed: bool = False) -> Iterator[bytes]:
    """A file with bits flipped, bytes replaced, cut out or doubled, numbers set to extremes, or its end cut off.

    Args:
        content: of the file.
        count: how many.
        compressed: whether every other one is damaged below its gzip compression.
    """
    generator = np.random.default_rng(0)
    for number in range(count):
        if compressed and number % 2:
            yield gzip.compress(_damage(gzip.decompress(content), generator), 1)
        else:
            yield _damage(content, generator)


def _damage(content: bytes, generator: np.random.Generator) -> bytes:
    changed, kind = bytearray(content), generator.integers(6)
    for _ in range(int(generator.integers(1, 4))):
        if not changed:
            break
        end = min(len(changed), HEADER) if generator.random() < 0.6 else len(changed)
        place, length = int(generator.integers(end)), int(generator.integers(1, 64))
        if kind == 0:
            changed[place] ^= 1 << int(generator.integers(8))
        elif kind == 1:
            changed[place] = int(generator.integers(256))
        elif kind == 2:
            del changed[place:]
        elif kind == 3:
            changed[place : place + 4] = EXTREMES[int(generator.integers(len(EXTREMES)))]
        elif kind == 4:
            del changed[place : place + length]
        else:
            changed[place:place] = changed[place : place + length]
    return bytes(changed)

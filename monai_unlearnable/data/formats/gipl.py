# SPDX-License-Identifier: Apache-2.0
"""GIPL, the format of Guy's and St Thomas' image processing lab, read and written without loss.

SimpleITK reads it too, but keeps neither the patient's name nor the other fields of the header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.data.formats.blocks import Axes, Blocks, cut, packing_of, storage, unpack
from monai_unlearnable.data.scan import LPS_TO_RAS, Scan, ScanFormat, naming
from monai_unlearnable.errors import ScanError

__all__ = ["GiplFormat"]

HEADER = np.dtype(
    {
        "names": ["extents", "type", "spacing", "origin", "magic"],
        "formats": ["4>u2", ">u2", "4>f4", "4>f8", ">u4"],
        "offsets": [0, 8, 10, 204, 252],
        "itemsize": 256,
    }
)
MAGIC = (719555000, 4026526128)
TYPES = {7: "i1", 8: "u1", 15: ">i2", 16: ">u2", 31: ">u4", 32: ">i4", 64: ">f4", 65: ">f8"}


class GiplFormat(ScanFormat):
    """``.gipl`` and ``.gipl.gz``; a fourth axis is taken as channels."""

    suffixes = (".gipl.gz", ".gipl")

    def read(self, path: Path) -> Scan:
        """Read an image, or a label of any width."""
        with naming(path):
            packing = packing_of(path.name)
            unpacked = unpack(path.read_bytes(), packing)
            if len(unpacked[0]) < HEADER.itemsize:
                raise ScanError("not a GIPL file")
            header = np.frombuffer(unpacked[0], HEADER, 1)[0]
            if header["magic"] not in MAGIC or int(header["type"]) not in TYPES:
                raise ScanError("not a GIPL file, or one of an unknown type of voxels")
            shape = tuple(int(extent) for extent in header["extents"])
            axes = Axes(shape if shape[3] > 1 else shape[:3])
            dtype = np.dtype(TYPES[int(header["type"])])
            piece, block = cut(unpacked, axes.size * dtype.itemsize, packing, HEADER.itemsize)
            affine = np.diag([*header["spacing"][:3].astype(np.float64), 1])
            affine[:3, 3] = header["origin"][:3]
            voxels = axes.channel_first(np.frombuffer(block, dtype))
            return Scan(path, voxels, storage(dtype), LPS_TO_RAS @ affine, Blocks(axes, (piece,)))

    def encode(self, scan: Scan, voxels: NDArray, path: Path) -> bytes:
        blocks: Blocks = scan.container
        return b"".join(blocks.parts(voxels)[0])

# SPDX-License-Identifier: Apache-2.0
"""MGH and MGZ, the format of FreeSurfer, read and written without loss; nibabel reads the header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nibabel.freesurfer.mghformat import DATA_OFFSET, MGHHeader
from numpy.typing import NDArray

from monai_unlearnable.data.formats.blocks import GZIP_MAGIC, Axes, Blocks, Packing, cut, packing_of, storage, unpack
from monai_unlearnable.data.scan import Scan, ScanFormat, naming
from monai_unlearnable.errors import ScanError

__all__ = ["MghFormat"]


class MghFormat(ScanFormat):
    """``.mgh``, and ``.mgz`` or ``.mgh.gz``; frames are channels. All tags after the voxels are kept."""

    suffixes = (".mgz", ".mgh.gz", ".mgh")

    def read(self, path: Path) -> Scan:
        """Read an image, or a label of any width."""
        with naming(path):
            content, packing = path.read_bytes(), packing_of(path.name)
            if packing is Packing.GZIP and not content.startswith(GZIP_MAGIC):
                raise ScanError("not an MGH file, compressed as the name says")
            unpacked = unpack(content, packing)
            header = MGHHeader(bytes(unpacked[0][:DATA_OFFSET]), check=False)
            if header["version"] != 1 or len(unpacked[0]) < DATA_OFFSET:
                raise ScanError("not an MGH file")
            axes, dtype = Axes(tuple(int(extent) for extent in header["dims"])), header.get_data_dtype()
            dtype = np.dtype(dtype).newbyteorder(">")
            piece, block = cut(unpacked, axes.size * dtype.itemsize, packing, DATA_OFFSET)
            voxels = axes.channel_first(np.frombuffer(block, dtype))
            has_geometry = bool(header["goodRASFlag"])
            blocks = Blocks(axes, (piece,))
            return Scan(path, voxels, storage(dtype), header.get_affine(), blocks, has_geometry=has_geometry)

    def encode(self, scan: Scan, voxels: NDArray, path: Path) -> bytes:
        blocks: Blocks = scan.container
        return b"".join(blocks.parts(voxels)[0])

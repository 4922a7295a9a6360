# SPDX-License-Identifier: Apache-2.0
"""NIfTI-1 and NIfTI-2, single files and pairs, read and written without loss.

Everything before and after the voxel block (header, extensions, trailing bytes) is carried over byte for byte, so no
header field can change. Compressed files are written with a fixed gzip header: the same voxels give the same bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.data.formats.blocks import GZIP_MAGIC, Axes, Blocks, Packing, cut, packing_of, storage, unpack
from monai_unlearnable.data.scan import Scan, ScanFormat, naming
from monai_unlearnable.errors import ScanError
from monai_unlearnable.utils.files import Content

__all__ = ["NiftiFormat", "NiftiPairFormat"]

HEADER_BYTES = nib.Nifti2Header.sizeof_hdr
COLORS = 3  # of RGBA the last one is the alpha channel, which stays as it is
PARTNER = {".hdr": ".img", ".HDR": ".IMG"}


@dataclass(frozen=True)
class _Header:
    """What a header says of the voxels."""

    header: nib.Nifti1Header
    axes: Axes
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Number of bytes of voxels."""
        return self.axes.size * self.dtype.itemsize

    def scan(self, path: Path, block: memoryview, blocks: Blocks) -> Scan:
        slope, inter = self.header.get_slope_inter()
        quantization = storage(self.dtype, 1.0 if slope is None else slope, 0.0 if inter is None else inter)
        voxels, carried = self.axes.channel_first(np.frombuffer(block, self.dtype)), None
        if self.header.get_data_dtype().names == ("R", "G", "B", "A"):
            voxels, carried = voxels[:COLORS], voxels[COLORS:]
        blocks = replace(blocks, axes=self.axes, carried=carried)
        is_placed = bool(self.header["sform_code"] or self.header["qform_code"])
        return Scan(path, voxels, quantization, self.header.get_best_affine(), blocks, has_geometry=is_placed)


class NiftiFormat(ScanFormat):
    """``.nii`` and ``.nii.gz``: 2D and 3D images; further axes, and colors, are taken as channels."""

    suffixes = (".nii.gz", ".nii")
    kinds = ("NIfTI",)

    def read(self, path: Path) -> Scan:
        """Read an image, or a label of any width."""
        with naming(path):
            content = path.read_bytes()
            packing = packing_of(path.name)
            if packing is Packing.GZIP and not content.startswith(GZIP_MAGIC):
                raise ScanError("not a NIfTI file, compressed as the name says")
            unpacked = unpack(content, packing)
            found = _parse(bytes(unpacked[0][:HEADER_BYTES]), b"n+")
            piece, block = cut(unpacked, found.size, packing, _offset(found.header, found.header.sizeof_hdr))
            return found.scan(path, block, Blocks(found.axes, (piece,)))

    def encode(self, scan: Scan, voxels: NDArray, path: Path) -> bytes:
        blocks: Blocks = scan.container
        piece = replace(blocks.pieces[0], packing=packing_of(path.name))
        return b"".join(replace(blocks, pieces=(piece,)).parts(voxels)[0])


class NiftiPairFormat(ScanFormat):
    """``.hdr`` with ``.img``, each of which may be compressed; the header names the scan."""

    suffixes = (".hdr.gz", ".hdr")
    kinds = ("NIfTI",)

    def read(self, path: Path) -> Scan:
        """Read an image, or a label of any width."""
        with naming(path):
            header = path.read_bytes()
            found = _parse(bytes(unpack(header, packing_of(path.name))[0][:HEADER_BYTES]), b"ni")
            partner = _partner(path)
            packing = packing_of(partner.name)
            piece, block = cut(unpack(partner.read_bytes(), packing), found.size, packing, _offset(found.header))
            return found.scan(path, block, Blocks(found.axes, (piece,), header, (partner.name,)))

    def files(self, path: Path) -> tuple[Path, ...]:
        return path, _partner(path)

    def encode(self, scan: Scan, voxels: NDArray, path: Path) -> Content:
        blocks: Blocks = scan.container
        return blocks.content(path, blocks.header, blocks.parts(voxels))


def _partner(path: Path) -> Path:
    """The data file of a header; either may be compressed.

    Raises:
        ScanError: when there is none.
    """
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    base, suffix = name[:-4], PARTNER.get(name[-4:], ".img")
    for candidate in (suffix, f"{suffix}.gz", f"{suffix}.GZ"):
        if (path.parent / f"{base}{candidate}").is_file():
            return path.parent / f"{base}{candidate}"
    raise ScanError(f"the data file '{base}{suffix}' does not exist")


def _offset(header: nib.Nifti1Header, least: int = 0) -> int:
    offset = int(header["vox_offset"])
    if offset < least:
        raise ScanError(f"broken NIfTI header: voxels from byte {offset} on")
    return offset


def _parse(raw: bytes, magic: bytes) -> _Header:
    """Read a header whose magic number begins with the letters given: single files and pairs have different ones."""
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if not kind.may_contain_header(raw[: kind.sizeof_hdr]):
            continue
        try:
            header = kind(raw[: kind.sizeof_hdr], check=False)
            shape, stored = header.get_data_shape(), header.get_data_dtype()
            int(header["vox_offset"]), header.get_best_affine(), header.get_slope_inter()  # they validate
        except (nib.spatialimages.HeaderDataError, ValueError, KeyError, OverflowError) as error:
            raise ScanError(f"broken NIfTI header: {error}") from error
        if not bytes(header["magic"]).startswith(magic):
            raise ScanError("single-file NIfTI is named .nii, a header with its data beside it .hdr")
        colors = len(stored.names or ())  # fields of bytes, one a color
        if not shape or min(shape) < 1 or not (colors or stored.kind in "iuf"):
            raise ScanError(f"unsupported NIfTI content: shape {shape}, data type {stored}")
        spatial = tuple(range(bool(colors), min(len(shape), 3) + bool(colors)))
        axes = Axes((*((colors,) if colors else ()), *shape), spatial)
        return _Header(header, axes, np.dtype(np.uint8) if colors else stored)
    if raw[38:39] == b"r" and magic == b"ni":
        raise ScanError("ANALYZE 7.5 does not say how the patient lies; convert it to NIfTI")
    raise ScanError("not a NIfTI file")

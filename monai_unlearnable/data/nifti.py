# SPDX-License-Identifier: Apache-2.0
"""NIfTI-1 and NIfTI-2 single files, read and written without loss.

Everything before and after the voxel block (header, extensions, trailing bytes) is carried over byte for byte, so no
header field can change. Compressed files are written with a fixed gzip header: the same voxels give the same bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from numpy.typing import NDArray

from monai_unlearnable.data.scan import Scan, ScanFormat, naming
from monai_unlearnable.errors import ScanError
from monai_unlearnable.intensity import StorageQuantization
from monai_unlearnable.utils.arrays import file_order

__all__ = ["NiftiFormat"]

# ISA-L deflates several times faster than zlib at its fastest, to nearly the same size.
GZIP_LEVEL, GZIP_WINDOW = 2, 16 + isal_zlib.MAX_WBITS


@dataclass(frozen=True)
class _Container:
    head: bytes
    tail: bytes


class NiftiFormat(ScanFormat):
    """``.nii`` and ``.nii.gz``: 2D and 3D images, and 4D ones whose last axis is taken as channels."""

    suffixes = (".nii.gz", ".nii")

    def read(self, path: Path) -> Scan:
        with naming(path):
            content = path.read_bytes()
            raw = igzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        header = _parse_header(raw, path)
        shape, dtype = header.get_data_shape(), header.get_data_dtype()
        offset, size = int(header["vox_offset"]), math.prod(shape) * dtype.itemsize
        if not shape or min(shape) < 1 or dtype.kind not in "iuf":
            raise ScanError(f"unsupported NIfTI content: shape {shape}, data type {dtype}", file=path)
        if offset < header.sizeof_hdr or len(raw) < offset + size:
            raise ScanError(f"truncated: {offset + size} bytes expected, {len(raw)} found", file=path)
        stored = np.frombuffer(raw, dtype, math.prod(shape), offset).reshape(shape, order="F")
        slope, inter = header.get_slope_inter()
        quantization = StorageQuantization(dtype.str, 1.0 if slope is None else slope, 0.0 if inter is None else inter)
        container = _Container(raw[:offset], raw[offset + size :])
        return Scan(path, _channel_first(stored, path), quantization, header.get_best_affine(), container)

    def encode(self, scan: Scan, voxels: NDArray, path: Path) -> bytes:
        block = file_order(voxels)
        parts = [scan.container.head, np.ascontiguousarray(block).data.cast("B"), scan.container.tail]
        if not path.name.endswith(".gz"):
            return b"".join(parts)
        packer = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, GZIP_WINDOW)
        return b"".join([*(packer.compress(part) for part in parts), packer.flush()])


def _parse_header(raw: bytes, path: Path) -> nib.Nifti1Header:
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if not kind.may_contain_header(raw[: kind.sizeof_hdr]):
            continue
        try:
            header = kind(raw[: kind.sizeof_hdr], check=False)
            header.get_data_shape(), header.get_data_dtype(), int(header["vox_offset"])  # they validate
            header.get_best_affine(), header.get_slope_inter()
        except (nib.spatialimages.HeaderDataError, ValueError, KeyError, OverflowError) as error:
            raise ScanError(f"broken NIfTI header: {error}", file=path) from error
        if not bytes(header["magic"]).startswith((b"n+1", b"n+2")):
            raise ScanError("only single-file NIfTI is supported, not .hdr/.img pairs", file=path)
        return header
    raise ScanError("not a NIfTI file", file=path)


def _channel_first(stored: NDArray, path: Path) -> NDArray:
    if stored.ndim == 5 and stored.shape[3] == 1:  # NIfTI keeps vectors in the fifth dimension
        stored = stored[:, :, :, 0]
    if stored.ndim == 4:
        stored = stored if stored.shape[2] > 1 else stored[:, :, 0]
        return np.moveaxis(stored, -1, 0)
    if stored.ndim == 3:
        return stored[None] if stored.shape[2] > 1 else stored[None, :, :, 0]
    if stored.ndim == 2:
        return stored[None]
    raise ScanError(f"expected a 2D or 3D image with optional channels, found shape {stored.shape}", file=path)

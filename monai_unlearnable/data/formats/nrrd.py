# SPDX-License-Identifier: Apache-2.0
"""NRRD (``.nrrd``, and ``.nhdr`` with data files beside it), read and written without loss: the header is not touched.

pynrrd reads the header. Segmentations of 3D Slicer (``.seg.nrrd``) are labels."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import nrrd
import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.data.formats.blocks import Axes, Blocks, Packing, cut_files, named_files, numbered, storage
from monai_unlearnable.data.overlap import Segments, overlap_remarks
from monai_unlearnable.data.scan import LPS_TO_RAS, Scan, ScanFormat, naming
from monai_unlearnable.errors import ScanError
from monai_unlearnable.utils.files import Content

__all__ = ["NrrdFormat"]

MAX_HEADER = 2**20  # bytes
END = re.compile(rb"\r?\n\r?\n")
DATA_FILE = re.compile(rb"^data ?file:[ \t]*([^\r\n]*?)[ \t]*(?:\r?\n|\Z)", re.MULTILINE)
PACKINGS = {
    **dict.fromkeys(("raw",), Packing.RAW),
    **dict.fromkeys(("gzip", "gz"), Packing.GZIP),
    **dict.fromkeys(("bzip2", "bz2"), Packing.BZIP2),
}
TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
# Signs of the first two axes; ITK takes all other spaces for the one to the left and back.
TO_RAS = {
    **dict.fromkeys(("right-anterior-superior", "ras"), np.eye(4)),
    **dict.fromkeys(("left-anterior-superior", "las"), np.diag([-1.0, 1.0, 1.0, 1.0])),
}
SPATIAL_KINDS = ("domain", "space")
SEGMENT = re.compile(r"Segment(\d+)_(LabelValue|Layer|Name)")


@dataclass(frozen=True)
class _Header:
    """The fields of a header.

    Args:
        fields: their values, by pynrrd.
        end: number of bytes up to the data, if they follow.
        names: names of the data files; empty where the data follow the header.
    """

    fields: Mapping[str, Any]
    end: int
    names: tuple[str, ...]

    @property
    def axes(self) -> Axes:
        """The axes of the voxels: those with a direction or of a spatial kind, or else the first ones, are spatial."""
        shape = tuple(int(extent) for extent in self.fields["sizes"])
        kinds = [str(kind).lower() for kind in self.fields.get("kinds", ())]
        if "space directions" in self.fields:
            spatial = [axis for axis, row in enumerate(self._directions()) if not np.isnan(row).any()]
        elif any(kind in SPATIAL_KINDS for kind in kinds):
            spatial = [axis for axis, kind in enumerate(kinds) if kind in SPATIAL_KINDS]
        else:
            spatial = list(range(len(shape)))
        return Axes(shape, tuple(spatial[:3]))

    @property
    def dtype(self) -> np.dtype:
        """Type of the voxels."""
        name = " ".join(str(self.fields["type"]).lower().split())
        code = next((code for code, names in TYPES.items() if name in names), None)
        if code is None:
            raise ScanError(f"voxels of type {name} are not supported")
        endian = str(self.fields.get("endian", "")).lower()
        if endian not in ("little", "big") and np.dtype(code).itemsize > 1:
            raise ScanError("broken NRRD header: no byte order (endian)")
        return np.dtype(code).newbyteorder(">" if endian == "big" else "<")

    @property
    def packing(self) -> Packing:
        """How the data are compressed."""
        name = str(self.fields["encoding"]).lower()
        if name not in PACKINGS:
            raise ScanError(f"{name} encoding is not supported; use raw, gzip or bzip2")
        return PACKINGS[name]

    @property
    def affine(self) -> NDArray:
        """Voxel indices to millimeters."""
        spatial, affine = self.axes.spatial, np.eye(4)
        if "space directions" in self.fields:
            directions = np.array([self._directions()[axis] for axis in spatial])
        elif "spacings" in self.fields:
            directions = np.diag([float(self.fields["spacings"][axis]) for axis in spatial])
        else:
            directions = np.eye(len(spatial))
        affine[: directions.shape[1], : len(spatial)] = directions.T
        origin = self.fields.get("space origin", self._axis_origin(spatial))
        affine[: len(origin), 3] = origin
        return TO_RAS.get(str(self.fields.get("space", "")).lower(), LPS_TO_RAS) @ affine

    def skip(self, *names: str) -> int:
        """The first of the fields, or 0."""
        return next((int(self.fields[name]) for name in names if name in self.fields), 0)

    def _directions(self) -> list[NDArray]:
        return [np.full(1, np.nan) if row is None else np.asarray(row) for row in self.fields["space directions"]]

    def _axis_origin(self, spatial: tuple[int, ...]) -> list[float]:
        lowest = self.fields.get("axis mins", self.fields.get("axismins"))
        origin = [0.0] * len(spatial) if lowest is None else [float(lowest[axis]) for axis in spatial]
        return [0.0 if np.isnan(value) else value for value in origin]


class NrrdFormat(ScanFormat):
    """``.nrrd`` and ``.nhdr``: raw voxels, or ones compressed with gzip or bzip2."""

    suffixes = (".seg.nrrd", ".nrrd", ".nhdr")
    kinds = ("NRRD",)

    def read(self, path: Path) -> Scan:
        with naming(path):
            content = path.read_bytes()
            header = _parse(content)
            files = [file.read_bytes() for file in named_files(path, header.names)]
            start, packing, axes, dtype = 0 if files else header.end, header.packing, header.axes, header.dtype
            before = _lines(files[0] if files else content, start, header.skip("line skip", "lineskip"))
            skip, size = header.skip("byte skip", "byteskip"), axes.size * dtype.itemsize
            pieces, block = cut_files(files or [content], size, packing, start, before, skip)
            blocks = Blocks(axes, pieces, content if files else content[:start], header.names)
            voxels = axes.channel_first(np.frombuffer(block, dtype))
            is_placed = "space directions" in header.fields
            return Scan(path, voxels, storage(dtype), header.affine, blocks, has_geometry=is_placed)

    def read_label(self, path: Path) -> Scan:
        """Read a label map; of a segmentation in layers the segments, numbered from 1 on as they are listed.

        Where segments overlap the smallest one counts.
        """
        scan = self.read(path)
        with naming(path):
            segments = _segments(_parse(scan.container.header).fields)
            if len(scan.voxels) == 1 or not segments:
                return replace(scan, value_names={own.value: own.name for own in segments if own.name})
            merged = Segments((1, 1, scan.voxels[0].size))
            for number, own in enumerate(segments, start=1):
                merged.add_mask(number, 0, scan.voxels[own.layer] == own.value)
            flat, overlaps = merged.merge()
        names = {number: own.name for number, own in enumerate(segments, start=1) if own.name}
        return replace(
            scan,
            voxels=flat.reshape(1, *scan.spatial_shape),
            quantization=storage(flat.dtype),
            container=None,
            remarks=tuple(f"{path}: {remark}" for remark in overlap_remarks(overlaps, names)),
            value_names=names,
        )

    def files(self, path: Path) -> tuple[Path, ...]:
        with naming(path), path.open("rb") as stream:
            return path, *named_files(path, _parse(stream.read(MAX_HEADER)).names)

    def encode(self, scan: Scan, voxels: NDArray, path: Path) -> Content:
        blocks: Blocks = scan.container
        return blocks.content(path, blocks.header, blocks.parts(voxels))


def _parse(content: bytes) -> _Header:
    if not content.startswith(b"NRRD000"):
        raise ScanError("not a NRRD file")
    end = END.search(content[:MAX_HEADER])
    text = content[: end.end()] if end else content[:MAX_HEADER]
    where, names = DATA_FILE.search(text), list[str]()
    if where is not None:
        words = where[1].decode("utf-8", "replace")
        names = numbered(words) or [words]
        if words.split()[:1] == ["LIST"]:
            lines = text[where.end() :].decode("utf-8", "replace").split("\n")
            names, text = [line.strip() for line in lines if line.strip()], text[: where.end()]
    elif end is None:
        raise ScanError("broken NRRD header: no empty line ends it, and it names no data file")
    fields = nrrd.read_header(io.BytesIO(text))
    missing = [name for name in ("type", "sizes", "encoding") if name not in fields]
    if missing:
        raise ScanError(f"broken NRRD header: {', '.join(missing)} is missing")
    return _Header(fields, end.end() if end else len(content), tuple(names))


def _lines(content: bytes, start: int, count: int) -> int:
    """Number of bytes that ``count`` lines take from ``start`` on.

    Raises:
        ScanError: when there are fewer lines.
    """
    position = start
    for _ in range(count):
        position = content.find(b"\n", position) + 1
        if not position:
            raise ScanError("fewer lines than the header says (line skip)")
    return position - start


class _Segment(NamedTuple):
    """A segment of 3D Slicer: the value that it has in a layer."""

    value: int
    layer: int
    name: str


def _segments(fields: Mapping[str, Any]) -> list[_Segment]:
    """The segments in the order of their numbers."""
    found: dict[int, dict[str, str]] = {}
    for name, value in fields.items():
        if match := SEGMENT.fullmatch(name):
            found.setdefault(int(match[1]), {})[match[2]] = str(value)
    ordered = [own for _, own in sorted(found.items())]
    return [_Segment(int(own.get("LabelValue", 1)), int(own.get("Layer", 0)), own.get("Name", "")) for own in ordered]

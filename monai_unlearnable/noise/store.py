# SPDX-License-Identifier: Apache-2.0
"""Noise on disk, one file for each scan."""

from __future__ import annotations

import io
import json
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.budget import VoxelChange
from monai_unlearnable.crypto.encrypted import file_key, open_owned, place, write_owned
from monai_unlearnable.crypto.keys import Key, KeyRing, OwnerKey
from monai_unlearnable.errors import KeyMismatchError, NoiseError, NoiseMismatchError
from monai_unlearnable.noise.records import NoiseEntry

__all__ = ["decode", "encode", "read_array", "NoiseStore"]

# Deflated, gaps are smaller than a box that is mostly zeros; where half of it changed they save little or nothing. In
# small boxes the header of one more array costs as much as gaps can save.
FEW = 3
SMALL_BOX = 8192


def encode(change: VoxelChange) -> dict[str, NDArray]:
    """The arrays of a change, in the encoding that makes the smaller file at its density."""
    steps = change.steps
    if steps.size < SMALL_BOX or FEW * np.count_nonzero(steps) >= steps.size:
        return {"corner": np.asarray(change.corner, np.int64), "steps": steps}
    gaps = np.diff(np.flatnonzero(steps), prepend=-1) - 1
    return {
        "box": np.asarray([change.corner, steps.shape], np.int64),
        "gaps": gaps.astype(np.min_scalar_type(gaps.max(initial=0))),
        "values": steps[steps != 0],
    }


def decode(content: zipfile.ZipFile, shape: Sequence[int]) -> VoxelChange:
    """The change that :func:`encode` gave. Others may have written the file: what it claims is checked before use.

    Args:
        content: the open file.
        shape: channel-first shape of the scan; no array of more elements is made.

    Raises:
        NoiseError: when the arrays do not fit the scan or each other.
    """
    whole = (shape[0], *shape[:0:-1])
    if "steps.npy" in content.namelist():
        corner = read_array(content, "corner", "i", lambda found: found == (len(whole),)).tolist()
        return VoxelChange(tuple(corner), read_array(content, "steps", "iu", lambda box: _inside(corner, box, whole)))
    corner, extents = read_array(content, "box", "i", lambda found: found == (2, len(whole))).tolist()
    if not _inside(corner, extents, whole):
        raise NoiseError("the box of the changes reaches beyond the scan")
    volume = math.prod(extents)
    gaps = read_array(content, "gaps", "u", lambda found: len(found) == 1 and found[0] <= volume)
    values = read_array(content, "values", "iu", lambda found: found == gaps.shape)
    if gaps.sum(dtype=np.float64) + gaps.size > volume:  # sums of floats do not wrap
        raise NoiseError("changes lie beyond their box")
    steps = np.zeros(extents, values.dtype)
    steps.reshape(-1)[np.cumsum(gaps, dtype=np.int64) + np.arange(gaps.size)] = values
    return VoxelChange(tuple(corner), steps)


def read_array(content: zipfile.ZipFile, name: str, kinds: str, fits: Callable[[tuple[int, ...]], bool]) -> NDArray:
    """An array of a file; its header is checked before memory is taken.

    Args:
        content: the open file.
        name: name of the array.
        kinds: numpy's letters for the kinds of dtype allowed.
        fits: whether a shape is allowed.

    Raises:
        NoiseError: when dtype or shape are not allowed, or the header is not of the usual version.
    """
    with content.open(f"{name}.npy") as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise NoiseError(f"{name} is of another version of numpy's format")
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        if dtype.kind not in kinds or not fits(shape):
            raise NoiseError(f"{name} of type {dtype} and shape {shape} do not fit the scan")
        member.seek(0)
        return np.lib.format.read_array(member, allow_pickle=False)


def _inside(corner: Sequence[int], extents: Sequence[int], whole: Sequence[int]) -> bool:
    return len(corner) == len(extents) == len(whole) and all(
        low >= 0 and extent >= 0 and low + extent <= limit
        for low, extent, limit in zip(corner, extents, whole, strict=True)
    )


ENTRY, HEADERS, LABEL = "entry", "headers", "label"
# What numpy, zipfile and json raise for files that were cut, damaged or made up, or are no archives.
BROKEN = (
    *(OSError, EOFError, LookupError, ValueError, TypeError, RuntimeError, ArithmeticError, MemoryError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)


class NoiseStore:
    """A folder of ``<scan id>.npz`` files, each the change of one scan together with its :class:`NoiseEntry`.

    Changes are kept deflated, a dense box or scattered voxels alone: size follows the support. Noise is found by scan
    id and used only on voxels whose SHA-256 the entry names: never by position in a list.

    With a key the files are ``<scan id>.npz.sealed``, each under its path in the folder, and no other is read.

    Args:
        folder: made when the first noise is saved.
        key: the owner's key, or a key ring, which opens the noise of some cases and writes none.
    """

    def __init__(self, folder: str | Path, key: Key | None = None) -> None:
        self.folder, self.key = Path(folder), key
        self._by_case: dict[str, list[str]] | None = None

    def path(self, scan_id: str) -> Path:
        """The file of a scan's noise."""
        return place(self.folder / _name(scan_id), self.key)

    def __contains__(self, scan_id: str) -> bool:
        return self.path(scan_id).is_file()

    def ids(self) -> list[str]:
        """The scan ids present, in ascending order; of a key ring, those that it has keys for."""
        if isinstance(self.key, KeyRing):
            return sorted(name.removesuffix(_name("")) for name in self.key.keys)
        end = place(_name("*"), self.key).name.removeprefix("*")
        files = self.folder.rglob(f"*{end}")
        return sorted(p.relative_to(self.folder).as_posix().removesuffix(end) for p in files)

    def of_case(self, case_id: str) -> list[str]:
        """The scan ids of a case, in the order of their channels.

        Raises:
            NoiseError: when there is no noise for the case.
        """
        if case_id in self:
            return list(self.entry(case_id).case_scans)
        if self._by_case is None:
            self._by_case = {entry.case_id: list(entry.case_scans) for entry in map(self.entry, self.ids())}
        if case_id not in self._by_case:
            raise NoiseError("no noise is stored for this case", case=case_id, file=self.folder)
        return self._by_case[case_id]

    def save(self, entry: NoiseEntry, change: VoxelChange, headers: bytes = b"", label: bytes = b"") -> None:
        """Write a scan's noise; atomic, and the same noise gives the same bytes.

        Args:
            entry: the record.
            change: change of the voxels.
            headers: headers of the original, where those of the protected file differ.
            label: the original label file, where another one is published.
        """
        record = json.dumps(entry.to_dict(), sort_keys=True).encode()
        arrays: dict[str, Any] = {ENTRY: np.frombuffer(record, np.uint8), **encode(change)}
        others = {HEADERS: headers, LABEL: label}
        arrays |= {name: np.frombuffer(content, np.uint8) for name, content in others.items() if content}
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)
        write_owned(self.path(entry.scan_id), stream.getvalue(), self.key, _name(entry.scan_id))

    def share(self, case_ids: Iterable[str]) -> KeyRing:
        """The keys of chosen cases, for one recipient.

        Raises:
            NoiseError: naming the case, when there is no noise for it; when the store does not have the owner's key.
        """
        if not isinstance(self.key, OwnerKey):
            raise NoiseError("only the owner's key gives the keys of files", file=self.folder)
        keys = {}
        for scan_id in (scan_id for case_id in case_ids for scan_id in self.of_case(case_id)):
            name, path = _name(scan_id), self.path(scan_id)
            keys[name] = file_key(path.read_bytes(), self.key, name, file=path)
        return KeyRing(keys)

    def entry(self, scan_id: str) -> NoiseEntry:
        """The record of a scan.

        Raises:
            NoiseError: naming the file, when it is missing or broken.
        """
        with self._open(scan_id) as content:
            return _entry(content)

    def load(self, scan_id: str) -> tuple[NoiseEntry, VoxelChange]:
        """The record and the change of a scan.

        Raises:
            NoiseError: naming the file, when it is missing or broken.
        """
        with self._open(scan_id) as content:
            entry = _entry(content)
            return entry, decode(content, entry.shape)

    def headers(self, scan_id: str) -> bytes:
        """The headers of the original that were saved, see :meth:`load`; empty if there were none."""
        with self._open(scan_id) as content:
            return _bytes(content, HEADERS)

    def label(self, scan_id: str) -> bytes:
        """The original label file that was saved, see :meth:`load`; empty if there was none."""
        with self._open(scan_id) as content:
            return _bytes(content, LABEL)

    @contextmanager
    def _open(self, scan_id: str) -> Iterator[zipfile.ZipFile]:
        path = self.path(scan_id)
        try:
            with open_owned(path, self.key, _name(scan_id)) as stream, zipfile.ZipFile(stream) as content:
                yield content
        except FileNotFoundError as error:
            raise NoiseError("no noise is stored for this scan", case=scan_id, file=path) from error
        except KeyMismatchError as error:
            raise KeyMismatchError(error.reason, case=scan_id, file=error.file or path) from error
        except BROKEN as error:
            reason = error.reason if isinstance(error, NoiseError) else error
            raise NoiseError(f"the noise cannot be read: {reason}", case=scan_id, file=path) from error

    @staticmethod
    def bind(entry: NoiseEntry, digest: str, *, protected: bool = False, file: Path | None = None) -> None:
        """Check that voxels are those of a record.

        Args:
            entry: the record.
            digest: SHA-256 of the voxels at hand.
            protected: whether they should be the protected voxels, rather than the clean ones.
            file: file that they are from, for the error.

        Raises:
            NoiseMismatchError: when they are others.
        """
        expected = entry.protected_sha256 if protected else entry.clean_sha256
        if digest != expected:
            reason = f"the voxels are not the {'protected' if protected else 'clean'} voxels that the noise belongs to"
            raise NoiseMismatchError(reason, case=entry.scan_id, file=file, value=digest, limit=expected)


def _bytes(content: zipfile.ZipFile, name: str) -> bytes:
    if f"{name}.npy" not in content.namelist():
        return b""
    return read_array(content, name, "u", lambda shape: len(shape) == 1).tobytes()


def _entry(content: zipfile.ZipFile) -> NoiseEntry:
    return NoiseEntry.from_dict(json.loads(_bytes(content, ENTRY)))


def _name(scan_id: str) -> str:
    """The file of a scan in the folder, plain."""
    return f"{scan_id}.npz"

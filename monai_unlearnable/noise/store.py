# SPDX-License-Identifier: Apache-2.0
"""Noise on disk: one file a scan, sparse, bound to the voxels that it belongs to."""

from __future__ import annotations

import io
import json
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from monai_unlearnable.budget import VoxelChange
from monai_unlearnable.errors import KeyMismatchError, NoiseError, NoiseMismatchError
from monai_unlearnable.noise.encoding import decode, encode, read_array
from monai_unlearnable.noise.entry import NoiseEntry
from monai_unlearnable.noise.owner import KeyRing, OwnerKey
from monai_unlearnable.noise.sealing import file_key
from monai_unlearnable.noise.vault import Key, open_owned, place, write_owned

__all__ = ["NoiseStore"]

HEADERS, LABEL = "headers", "label"
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
        key: the owner's, or a key ring, which opens the noise of some cases and writes none.
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
            change: of the voxels.
            headers: of the original, where those of the protected file differ.
            label: the original label file, where another one is published.
        """
        stream = io.BytesIO()
        record = np.frombuffer(json.dumps(entry.to_dict(), sort_keys=True).encode(), np.uint8)
        arrays: dict[str, Any] = {"entry": record, **encode(change)}
        for name, content in ((HEADERS, headers), (LABEL, label)):
            if content:
                arrays[name] = np.frombuffer(content, np.uint8)
        np.savez_compressed(stream, **arrays)
        write_owned(self.path(entry.scan_id), stream.getvalue(), self.key, _name(entry.scan_id))

    def share(self, case_ids: Iterable[str]) -> KeyRing:
        """The keys of chosen cases, for one recipient.

        Raises:
            NoiseError: naming the case, when there is no noise for it; when the owner's key is not at hand.
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
        return self._read(scan_id, with_change=False)[0]

    def headers(self, scan_id: str) -> bytes:
        """The headers of the original that were saved; empty where there were none.

        Raises:
            NoiseError: naming the file, when it is missing or broken.
        """
        return self._bytes(scan_id, HEADERS)

    def label(self, scan_id: str) -> bytes:
        """The original label file that was saved; empty where there was none.

        Raises:
            NoiseError: naming the file, when it is missing or broken.
        """
        return self._bytes(scan_id, LABEL)

    def _bytes(self, scan_id: str, name: str) -> bytes:
        with self._open(scan_id) as content:
            if f"{name}.npy" not in content.namelist():
                return b""
            return read_array(content, name, "u", lambda shape: len(shape) == 1).tobytes()

    def load(self, scan_id: str) -> tuple[NoiseEntry, VoxelChange]:
        """The record and the change of a scan.

        Raises:
            NoiseError: naming the file, when it is missing or broken.
        """
        entry, change = self._read(scan_id, with_change=True)
        assert change is not None
        return entry, change

    def _read(self, scan_id: str, with_change: bool) -> tuple[NoiseEntry, VoxelChange | None]:
        with self._open(scan_id) as content:
            record = read_array(content, "entry", "u", lambda shape: len(shape) == 1)
            entry = NoiseEntry.from_dict(json.loads(record.tobytes()))
            return entry, decode(content, entry.shape) if with_change else None

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
    def bind(entry: NoiseEntry, digest: str, *, protected: bool = False) -> None:
        """Check that voxels are those that a record speaks of.

        Args:
            entry: the record.
            digest: SHA-256 of the voxels at hand.
            protected: whether they should be the protected voxels, rather than the clean ones.

        Raises:
            NoiseMismatchError: when they are not.
        """
        expected = entry.protected_sha256 if protected else entry.clean_sha256
        if digest != expected:
            which = "protected" if protected else "clean"
            raise NoiseMismatchError(
                f"the voxels are not the {which} voxels that the noise belongs to",
                case=entry.scan_id,
                value=digest,
                limit=expected,
            )


def _name(scan_id: str) -> str:
    """The file of a scan in the folder, plain."""
    return f"{scan_id}.npz"

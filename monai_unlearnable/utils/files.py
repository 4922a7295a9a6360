# SPDX-License-Identifier: Apache-2.0
"""Files read and written so that nothing is half-written: atomic writes, digests, JSON, clear errors."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from monai_unlearnable.errors import InputError, OutputError, ScanError, UnlearnableError

__all__ = [
    "Content",
    "Siblings",
    "encode_json",
    "encoded",
    "file_digest",
    "files_digest",
    "holds",
    "read_content",
    "remove",
    "remove_unfinished",
    "temporary_file",
    "without_nan",
    "write_atomic",
    "write_json",
    "below",
    "fingerprint",
    "leads_outside",
    "named_by",
    "reading",
    "unreadable",
]


class Siblings(dict[str, bytes]):
    """The files of a scan that lie beside each other, by name relative to their folder; the one that names it first."""


Content = bytes | Mapping[str, bytes]  # of a file, of siblings, or of the files of a folder by name

BLOCK = 2**20  # bytes
UNFINISHED = re.compile(r"\..+\.[a-z0-9_]{8}\.part")


def read_content(path: Path) -> Content:
    """The bytes of a file, or of all files directly in a folder.

    Raises:
        OSError: when they cannot be read.
    """
    if not path.is_dir():
        return path.read_bytes()
    return {file.name: file.read_bytes() for file in sorted(path.iterdir()) if file.is_file()}


def holds(path: Path, content: Content) -> bool:
    """Whether exactly this content is at a path.

    Raises:
        OSError: when what is there cannot be read.
    """
    if isinstance(content, Siblings):
        return all(holds(path.parent / name, part) for name, part in content.items())
    return path.exists() and path.is_dir() != isinstance(content, bytes) and read_content(path) == content


def write_atomic(path: Path, content: Content) -> None:
    """Write ``content`` to ``path`` through a temporary file or folder beside it, making parent folders.

    Of several files side by side each is written so, the one at ``path`` last.

    Raises:
        OutputError: naming the file, when the disk is full or the folder cannot be written; nothing is left behind.
    """
    try:
        try:
            _write(path, content)
        except FileNotFoundError:
            # Another process, which began a run in this folder just now, took the temporary file for a leftover.
            _write(path, content)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", file=path) from error


def _write(path: Path, content: Content) -> None:
    if isinstance(content, Siblings):
        for name in reversed(content):  # the one that names the others last
            _write(path.parent / name, content[name])
        return
    if not isinstance(content, bytes):
        return _write_folder(path, content)
    with temporary_file(path, content) as temporary:
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)


@contextmanager
def temporary_file(path: Path, content: bytes) -> Iterator[str]:
    """A file beside ``path`` that only the user can read, to be renamed; it is gone afterwards where it was not.

    Raises:
        OSError: when it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        yield temporary
    finally:
        Path(temporary).unlink(missing_ok=True)


def _write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    others = sorted({file.name for file in path.iterdir()} - files.keys()) if path.exists() else []
    if others:
        raise FileExistsError(errno.EEXIST, f"other files there would be lost: {', '.join(others[:3])}")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
    new, old = temporary / "new", temporary / "old"
    try:
        for name, content in files.items():
            _write(new / name, content)
        if path.exists():  # a folder cannot replace another one in a single step
            os.replace(path, old)
        try:
            os.replace(new, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise
    finally:
        if path.exists() or not old.exists():  # else it could not be put back, and is all that is left
            shutil.rmtree(temporary, ignore_errors=True)


def remove(path: Path) -> None:
    """Delete a file, or an empty folder, if it is there; a link goes, and not what it leads to.

    Raises:
        OutputError: naming it, when it cannot be deleted.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot be deleted: {error.strerror or error}", file=path) from error


def remove_unfinished(folder: Path) -> None:
    """Delete what :func:`write_atomic` leaves in a folder and below it if its process is killed in the middle."""
    for path in sorted(folder.rglob(".*.part")):
        if UNFINISHED.fullmatch(path.name) and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif UNFINISHED.fullmatch(path.name):
            remove(path)


def without_nan(content: Any) -> Any:
    """JSON-ready content in which numbers that are not finite are None: JSON has no NaN and no infinity."""
    if isinstance(content, dict):
        return {str(key): without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def encode_json(content: Any) -> bytes:
    """The bytes of a JSON file; see :func:`without_nan`."""
    return (json.dumps(without_nan(content), indent=1, allow_nan=False) + "\n").encode()


def write_json(path: Path, content: Any) -> None:
    """Write JSON, atomic; see :func:`without_nan`.

    Raises:
        OutputError: naming the file, when it cannot be written.
    """
    write_atomic(path, encode_json(content))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def unreadable(path: Path, error: OSError, kind: type[InputError] = ScanError) -> InputError:
    """The error for a file that the system cannot read; it names the file that the system names."""
    return kind(f"cannot be read: {error.strerror or error}", file=named_by(error) or path)


def named_by(error: OSError) -> Path | None:
    """The file that a system error names, if any."""
    return Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes, Path)) else None


@contextmanager
def reading(path: Path, kind: type[InputError] = ScanError) -> Iterator[None]:
    """Turn a system error into one that names its file, or else ``path``."""
    try:
        yield
    except UnlearnableError:
        raise
    except OSError as error:
        raise unreadable(path, error, kind) from error


def below(folder: Path) -> list[Path]:
    """All paths below a folder, in order; none if it does not exist. Links to folders are not followed.

    Raises:
        OSError: when a folder cannot be read; ``Path.rglob`` passes over such folders.
    """

    def fail(error: OSError) -> None:
        raise error

    if not folder.is_dir():
        return []
    found = os.walk(folder, onerror=fail)
    return sorted(Path(top, name) for top, folders, files in found for name in (*folders, *files))


def leads_outside(name: str) -> bool:
    """Whether a name, which others may have written, is not relative or leads out of its folder."""
    path = PurePath(name)
    return bool(path.anchor) or ".." in path.parts


def encoded(text: str) -> bytes:
    """A text as UTF-8, with the bytes of file names that are none."""
    return text.encode("utf-8", "surrogateescape")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, read a block at a time; for a folder, of the names and digests of its files.

    Raises:
        ScanError: naming the file, when it cannot be read.
    """
    digest = hashlib.sha256()
    with reading(path):
        if path.is_dir():
            return files_digest({file.name: file for file in path.iterdir() if file.is_file()})
        with path.open("rb") as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def files_digest(files: Mapping[str, Path]) -> str:
    """SHA-256 of the names and digests of files, in order of names.

    Raises:
        ScanError: naming the file, when one cannot be read.
    """
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        digest.update(encoded(f"{name}\0{file_digest(file)}\0"))
    return digest.hexdigest()


def fingerprint(content: Any) -> str:
    """SHA-256 of JSON-ready content: equal content, equal fingerprint."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

# SPDX-License-Identifier: Apache-2.0
"""The small files that hold keys: only the user can read them, none is replaced, and reading is strict.

Errors do not quote the content of a file, which may be a secret."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai_unlearnable.errors import KeyFileError, OutputError
from monai_unlearnable.utils.files import temporary_file

__all__ = ["from_base64", "naming_kind", "read_file", "read_record", "to_base64", "write_new", "write_record"]

LARGEST = 2**26  # bytes; a larger file is another one than was meant


@contextmanager
def naming_kind(path: str | Path, kind: str) -> Iterator[None]:
    """Turn any error within into one that names the file and the kind of object that it should hold.

    Raises:
        KeyFileError: when the file cannot be used, or its content is wrong.
    """
    try:
        yield
    except (KeyFileError, OSError) as error:
        reason = error.reason if isinstance(error, KeyFileError) else error.strerror or error
        raise KeyFileError(f"the {kind} cannot be read: {reason}", file=path) from error


def read_file(path: str | Path) -> bytes:
    """The content of a small file.

    Raises:
        KeyFileError: when it is too large to be one.
        OSError: when it cannot be read.
    """
    if Path(path).stat().st_size > LARGEST:
        raise KeyFileError("the file is too large to be one")
    return Path(path).read_bytes()


def read_record(path: str | Path, kind: str, names: set[str]) -> dict[str, Any]:
    """The record that :func:`write_record` wrote; values are not checked.

    Args:
        path: path of the file.
        kind: kind of object that the file should hold.
        names: names of all fields that an object of this kind has.

    Raises:
        KeyFileError: when it is of another kind or version, or broken.
        OSError: when it cannot be read.
    """
    try:
        content = json.loads(read_file(path), object_pairs_hook=_no_name_twice)
    except KeyFileError:
        raise
    except (ValueError, RecursionError):
        raise KeyFileError("it is not JSON") from None
    if not isinstance(content, dict) or content.pop("format", None) != _format(kind):
        raise KeyFileError(f"its format is not {_format(kind)!r}")
    if set(content) != names:
        raise KeyFileError(f"it must hold {', '.join(sorted(names))} and nothing else")
    return content


def write_record(path: str | Path, kind: str, content: dict[str, Any]) -> None:
    """Write JSON of a kind and its version, as :func:`write_new` does."""
    text = json.dumps({"format": _format(kind), **content}, indent=1, sort_keys=True, allow_nan=False)
    write_new(path, (text + "\n").encode())


def write_new(path: str | Path, content: bytes) -> None:
    """Write a file that only the user can read, atomic, and never over another one.

    Raises:
        OutputError: naming the file, when it exists already or cannot be written; nothing is left behind.
    """
    path = Path(path)
    try:
        with temporary_file(path, content) as temporary:
            _rename_new(temporary, path)
    except OSError as error:
        taken = isinstance(error, FileExistsError) and os.path.lexists(path)
        reason = "the file exists already and is not replaced" if taken else f"cannot be written: {error.strerror}"
        raise OutputError(reason, file=path) from error


def to_base64(content: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(content).decode()


def from_base64(text: Any) -> bytes:
    """Text as bytes. Each value has one text only, so that no change goes unseen.

    Raises:
        KeyFileError: when it is not a text of :func:`to_base64`, or an empty one.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except (ValueError, TypeError):
        content = b""
    if not content or to_base64(content) != text:
        raise KeyFileError("a value is not base64: characters were changed, added or lost")
    return content


def _format(kind: str) -> str:
    return f"monai_unlearnable {kind} 1"


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(content := dict(pairs)) != len(pairs):
        raise KeyFileError("a name comes twice")
    return content


def _rename_new(temporary: str, path: Path) -> None:
    try:
        os.link(temporary, path)  # refuses an existing file, which renaming would replace
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # file systems without hard links, as on memory sticks
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
        try:
            os.replace(temporary, path)
        except OSError:
            path.unlink()
            raise

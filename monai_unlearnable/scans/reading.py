# SPDX-License-Identifier: Apache-2.0
"""What can go wrong before a file's content does: names that lead elsewhere, a disk, a share, permissions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

from monai_unlearnable.errors import InputError, ScanError, UnlearnableError

__all__ = ["below", "leads_outside", "named_by", "reading", "unreadable"]


def unreadable(path: Path, error: OSError, kind: type[InputError] = ScanError) -> InputError:
    """The error of a file that the system does not let read; it names the file that the system names."""
    return kind(f"cannot be read: {error.strerror or error}", file=named_by(error) or path)


def named_by(error: OSError) -> Path | None:
    """The file that an error of the system's names, if it does."""
    return Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes, Path)) else None


@contextmanager
def reading(path: Path, kind: type[InputError] = ScanError) -> Iterator[None]:
    """Turn what the system raises into an error that names the file, or else ``path``."""
    try:
        yield
    except UnlearnableError:
        raise
    except OSError as error:
        raise unreadable(path, error, kind) from error


def below(folder: Path) -> list[Path]:
    """All that lies below a folder, in order; nothing where it is not there. Links to folders are not followed.

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
    """Whether a relative name, that others may have written, is none or leads out of its folder."""
    path = PurePath(name)
    return bool(path.anchor) or ".." in path.parts

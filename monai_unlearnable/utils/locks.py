# SPDX-License-Identifier: Apache-2.0
"""Folders that one process at a time writes to."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monai_unlearnable.errors import OutputError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["lock", "locked", "unlock"]

logger = logging.getLogger(__name__)

_held: dict[Path, int] = {}


def lock(folder: Path) -> None:
    """Keep other processes from writing to a folder, which is made if needed; locking it again changes nothing.

    The system lifts the lock when the process ends, however it ends. File systems without locks get none.

    Raises:
        OutputError: naming the folder, when another process has locked it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder = folder.resolve()
        if fcntl is None or _is_held(folder):
            return
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", file=folder) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise OutputError("another run is writing here; wait for it, or choose another folder", file=folder) from error
    except OSError:
        os.close(handle)
        logger.info("%s lies on a file system without locks; start one run at a time", folder)
        return
    _held[folder] = handle


def unlock(folder: Path) -> None:
    """Let others write to a folder."""
    handle = _held.pop(folder.resolve(), None)
    if handle is not None:
        fcntl.flock(handle, fcntl.LOCK_UN)  # a forked process may have the folder open still
        os.close(handle)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A folder locked for a while, unless this process has locked it already."""
    held = _is_held(folder.resolve())
    lock(folder)
    try:
        yield
    finally:
        if not held:
            unlock(folder)


def _is_held(folder: Path) -> bool:
    """Whether this process has locked a folder, and it is still the same one."""
    handle = _held.get(folder)
    if handle is not None and not (folder.exists() and os.path.samestat(os.fstat(handle), folder.stat())):
        os.close(_held.pop(folder))
        return False
    return handle is not None

# SPDX-License-Identifier: Apache-2.0
"""The files below a folder, sorted in one walk into scans, DICOM files and others."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from monai_unlearnable.data.dicom import is_dicom
from monai_unlearnable.data.formats import is_known

__all__ = ["Tree", "parent"]

DICOM_SUFFIX = ".dcm"
# Formats that scans come in and that are not read: whoever has such files should hear of it.
FOREIGN = (
    ".mnc",
    ".mat",
    ".npy",
    ".npz",
    ".h5",
    ".hdf5",
    ".gif",
    ".svs",
    ".czi",
    ".nd2",
    ".par",
    ".rec",
    ".v",
    ".xml.gz",
)


def parent(name: str) -> str:
    """The folder of a relative name; empty for one right in the dataset folder."""
    return name.rpartition("/")[0]


@dataclass(frozen=True)
class Tree:
    """What lies below a folder, by names relative to it.

    Args:
        root: the folder.
        files: files whose suffix is that of a known format, DICOM aside.
        dicom: DICOM files by the folder that they lie in.
        others: reason why a file is no scan, by its name; of a hidden folder as a whole.
    """

    root: Path
    files: tuple[str, ...]
    dicom: Mapping[str, tuple[str, ...]]
    others: Mapping[str, str]

    @classmethod
    def walk(cls, root: Path) -> Tree:
        """Look at every name once; only files without a known suffix are opened, for the mark of DICOM.

        Raises:
            OSError: when a folder or file cannot be read.
        """
        files: list[str] = []
        dicom: dict[str, list[str]] = {}
        others: dict[str, str] = {}
        for name in _names(root, "", frozenset()):
            last = name.rstrip("/").rpartition("/")[2]
            if last.startswith("."):
                others[name] = "hidden"
            elif last.upper() == "DICOMDIR":
                others[name] = "an index of DICOM files; the files themselves are read"
            elif is_known(last) and not last.lower().endswith(DICOM_SUFFIX):
                files.append(name)
            elif is_dicom(root / name):
                dicom.setdefault(parent(name), []).append(name)
            else:
                others[name] = _reason(last)
        return cls(root, tuple(files), {folder: tuple(names) for folder, names in dicom.items()}, others)

    def scans(self, folder: str = "") -> list[str]:
        """The scans below a folder, in order; where DICOM files lie in a folder below it, that folder is the scan."""
        series = {name for name in self.dicom if name != folder and is_below(name, folder)}
        outer = {name for name in series if not any(up in series for up in _parents(name))}
        loose = (name for name in (*self.files, *self.dicom.get(folder, ())) if is_below(name, folder))
        names = [name for name in loose if not any(up in outer for up in _parents(name))]
        return sorted((*names, *outer), key=lambda name: PurePosixPath(name).parts)


def is_below(name: str, folder: str) -> bool:
    """Whether a name is that of something below a folder, at any depth."""
    return not folder or name.startswith(f"{folder}/")


def _parents(name: str) -> Iterator[str]:
    while "/" in name:
        name = parent(name)
        yield name


def _names(folder: Path, prefix: str, above: frozenset[str]) -> Iterator[str]:
    """Names of all files below a folder, in order; links are followed, unless they lead back to a folder above."""
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.is_dir()) for entry in entries)
    for name, is_folder in found:
        if is_folder and name.startswith("."):
            yield f"{prefix}{name}/"
        elif is_folder:
            yield from _names(folder / name, f"{prefix}{name}/", above | {real})
        else:
            yield prefix + name


def _reason(name: str) -> str:
    suffix = next((known for known in FOREIGN if name.lower().endswith(known)), None)
    if suffix is not None:
        return f"{suffix} files are not read; convert them, to NIfTI for example"
    return f"no scan: {PurePosixPath(name).suffix or 'no suffix'}"

# SPDX-License-Identifier: Apache-2.0
"""The files below a folder, sorted in one walk into scans, DICOM files and others."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from monai_unlearnable.data.dicom import is_dicom, survey
from monai_unlearnable.data.dicom.detection import SUFFIXES
from monai_unlearnable.data.dicom.volumes import Survey
from monai_unlearnable.data.formats import is_known

__all__ = ["NOT_READ", "Tree", "folders_above", "in_order", "parent"]

# Formats that scans come in and that are not read: whoever has such files should hear of it.
FOREIGN = (".mnc", ".mat", ".npy", ".npz", ".h5", ".hdf5", ".gif", ".svs", ".czi", ".nd2", ".par", ".rec")
NOT_READ = "files are not read"


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
        for name, is_file in _names(root, "", frozenset()):
            last = name.rstrip("/").rpartition("/")[2]
            if last.startswith("."):
                others[name] = "hidden"
            elif last.upper() == "DICOMDIR":
                others[name] = "an index of DICOM files; the files themselves are read"
            elif is_known(last) and not last.lower().endswith(SUFFIXES):
                files.append(name)
            elif not is_file:
                others[name] = "a link that leads nowhere, or no file"
            elif is_dicom(root / name):
                dicom.setdefault(parent(name), []).append(name)
            else:
                others[name] = _reason(last)
        return cls(root, tuple(files), {folder: tuple(names) for folder, names in dicom.items()}, others)

    def survey(self, folder: str) -> Survey:
        """What lies right in a folder of DICOM files; their headers are read once.

        Raises:
            ScanError: naming folder or file, when the system does not let it be read.
        """
        if folder not in self._surveys:
            self._surveys[folder] = survey(self.root / folder)
        return self._surveys[folder]

    @cached_property
    def _surveys(self) -> dict[str, Survey]:
        return {}

    def volumes(self, folder: str) -> dict[str, tuple[str, ...]]:
        """The DICOM volumes right in a folder, by the names that they are read under, and the files of each.

        A folder whose files should be of a volume and all cannot is one too: reading it tells why.

        Raises:
            ScanError: naming folder or file, when the system does not let it be read.
        """
        found = {}
        content = self.survey(folder)
        if content.faults and not content.volumes:
            return {folder: tuple(self._name(file) for file, _ in content.faults)}
        for volume in content.volumes:
            files = tuple(map(self._name, volume.files))
            name = self._name(volume.path)
            # A folder that holds other scans too is not the name of one of them.
            found[files[0] if name == folder and len(files) == 1 and folder in self._above else name] = files
        return found

    def remarks(self, folder: str) -> dict[str, str]:
        """The DICOM files right in a folder that are of no volume, each with the reason."""
        return {self._name(path): reason for path, reason in self.survey(folder).passed_over}

    @cached_property
    def _above(self) -> set[str]:
        """The folders above those that scans lie in."""
        folders = {*map(parent, self.files), *self.dicom}
        return {above for folder in folders if folder for above in folders_above(folder)}

    def _name(self, path: Path) -> str:
        name = path.relative_to(self.root).as_posix()
        return "" if name == "." else name

    def scans(self, pictures: Container[str] = ()) -> list[str]:
        """The names of all scans, in order.

        Args:
            pictures: folders in which each DICOM file is a scan of its own; elsewhere they make up volumes.
        """
        found = list(self.files)
        for folder, files in self.dicom.items():
            found += files if folder in pictures else self.volumes(folder)
        return in_order(found)


def in_order(names: Iterable[str]) -> list[str]:
    """Names in the order of a walk through the folders."""
    return sorted(names, key=lambda name: name.split("/"))


def folders_above(name: str) -> Iterator[str]:
    """The folders that a name lies in, the innermost first; the last one is the dataset, whose name is empty."""
    while name:
        name = parent(name)
        yield name


def _names(folder: Path, prefix: str, above: frozenset[str]) -> Iterator[tuple[str, bool]]:
    """All names below a folder, in order, and whether they are files; of hidden folders the name alone.

    Links are followed, unless they lead back to a folder above.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.is_dir(), entry.is_file()) for entry in entries)
    for name, is_folder, is_file in found:
        if is_folder and name.startswith("."):
            yield f"{prefix}{name}/", False
        elif is_folder:
            yield from _names(folder / name, f"{prefix}{name}/", above | {real})
        else:
            yield prefix + name, is_file


def _reason(name: str) -> str:
    suffix = next((known for known in FOREIGN if name.lower().endswith(known)), None)
    if suffix is not None:
        return f"{suffix} {NOT_READ}; convert them, to NIfTI for example"
    return f"no scan: {PurePosixPath(name).suffix or 'no suffix'}"

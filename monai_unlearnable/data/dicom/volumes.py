# SPDX-License-Identifier: Apache-2.0
"""The volumes of a folder of DICOM files: series, and the echoes, time points and orientations within one.

Exports of an archive often hold a whole study in one folder. A volume of such a folder has an address, ``FOLDER/NAME``,
although no such path exists; it is read, compared and published under it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from monai_unlearnable.data.dicom.detection import DIRECTORY, holds_no_image, is_dicom, lacks_mark
from monai_unlearnable.errors import ScanError
from monai_unlearnable.utils.files import reading

__all__ = ["Survey", "Volume", "dicom_files", "sources", "survey", "volume_at", "volumes"]

# What tells apart files of a series that lie at one position, and what it is called. Elements that differ from slice to
# slice (times of acquisition) tell nothing there, and are passed over.
PARTS = (
    ("echo", ("EchoNumbers", "EchoTime")),
    ("time", ("TemporalPositionIdentifier", "TemporalPositionIndex", "TriggerTime", "FrameReferenceTime")),
    ("diffusion", ("DiffusionBValue", "DiffusionGradientOrientation")),
    ("inversion", ("InversionTime",)),
    ("type", ("ImageType", "ComplexImageComponent", "SequenceName")),
    ("time", ("AcquisitionNumber", "AcquisitionTime", "ContentTime")),
)
KIND = ("Rows", "Columns", "BitsAllocated", "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation")
PLANE = ("ImageOrientationPatient", "PixelSpacing")
NEEDED = {"Rows": "the file holds no image, or was cut", "SOPInstanceUID": "", "SeriesInstanceUID": ""}
TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality"),
    *("ImagePositionPatient", "InstanceNumber", "NumberOfFrames", "SharedFunctionalGroupsSequence"),
    *("SegmentationType", *KIND, *PLANE, *(name for _, names in PARTS for name in names)),
]
TOMOGRAPHY = ("CT", "MR", "PT")  # whose slices make up volumes; of others, one without a position is a picture
ROUNDING, DIGITS = 1e-3, 3  # of numbers that scanners write as text
PLACE = 1e-3  # mm


@dataclass(frozen=True)
class Volume:
    """A volume, or a picture, that files of one folder make up.

    Args:
        path: address that it is read under: the folder if it is the only volume in it, the file if it is of one file,
            else ``FOLDER/NAME``, where nothing is.
        files: its files, by name.
        series: UID of its series.
        description: what a person can tell it by.
    """

    path: Path
    files: tuple[Path, ...]
    series: str
    description: str

    @property
    def name(self) -> str:
        """The last part of its address."""
        return self.path.name


@dataclass(frozen=True)
class Survey:
    """What lies directly in a folder.

    Args:
        volumes: volumes, by name.
        others: files that are of no volume by their nature, with the reason: notes, reports, a directory.
        faults: files that should be of one and cannot, with the reason: damaged ones, slices without a position.
    """

    volumes: tuple[Volume, ...]
    others: tuple[tuple[Path, str], ...] = ()
    faults: tuple[tuple[Path, str], ...] = ()

    @property
    def passed_over(self) -> tuple[tuple[Path, str], ...]:
        """All files that are of no volume, with the reason."""
        return tuple(sorted((*self.others, *self.faults)))


def volumes(folder: Path) -> list[Volume]:
    """The volumes whose files lie directly in a folder; folders in it are not looked at.

    Each series is a volume of its own, and so are the echoes, time points, diffusion weightings and image types of a
    series, its orientations and matrix sizes, files of several frames, and pictures without a position in the patient.
    What :func:`survey` passes over is in none.

    Args:
        folder: a folder with DICOM files.

    Returns:
        Volumes by name; a scan is read under :attr:`Volume.path` of each.

    Raises:
        ScanError: naming folder or file, when the system does not let it be read.

    Example:
        >>> [str(volume.path) for volume in volumes(Path("export"))]
        ['export/IM0001.dcm', 'export/series2-echo1', 'export/series2-echo2', 'export/series5']
    """
    return list(survey(folder).volumes)


def survey(folder: Path) -> Survey:
    """What lies directly in a folder: its volumes, and the files that are of none; headers alone are read.

    Raises:
        ScanError: naming folder or file, when the system does not let it be read.
    """
    with reading(folder), os.scandir(folder) as entries:
        found = sorted((entry.name, entry.stat()) for entry in entries if _is_visible_file(entry))
    return _survey(folder, tuple((name, status.st_size, status.st_mtime_ns) for name, status in found))


def _is_visible_file(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".") and entry.is_file()


def volume_at(path: Path) -> Volume | None:
    """The volume that an address ``FOLDER/NAME`` is of; None where the path exists, or there is none."""
    if path.exists() or not path.parent.is_dir():
        return None
    return next((volume for volume in survey(path.parent).volumes if volume.path == path), None)


@lru_cache(maxsize=256)
def _survey(folder: Path, stamps: tuple[tuple[str, int, int], ...]) -> Survey:
    headers: dict[Path, Dataset] = {}
    others: dict[Path, str] = {}
    faults: dict[Path, str] = {}
    instances: dict[str, Path] = {}
    for path in (folder / name for name, *_ in stamps):
        try:
            header, other = _read_header(path)
        except ScanError as error:
            faults[path] = error.reason
            continue
        instance = str(header.get("SOPInstanceUID")) if header is not None else ""
        if header is None:
            others[path] = other
        elif instance in instances:
            faults[path] = f"is the same instance as {instances[instance].name}"
        else:
            headers[path], instances[instance] = header, path
    groups = list(_groups(headers, faults))
    return Survey(tuple(_named(folder, groups)), tuple(others.items()), tuple(faults.items()))


def _read_header(path: Path) -> tuple[Dataset | None, str]:
    """The header of an image, or None and what else the file is.

    Raises:
        ScanError: when it is DICOM and cannot be read.
    """
    with reading(path):
        if not is_dicom(path):
            return None, "is not a DICOM file"
        if path.name.upper().startswith(DIRECTORY):
            return None, "is a directory of DICOM files, which are found without it"
        try:
            header = dcmread(path, force=lacks_mark(path), stop_before_pixels=True, specific_tags=TAGS)
            kind = holds_no_image(header)
            missing = next((name for name in NEEDED if kind is None and not header.get(name)), None)
            int(header.get("NumberOfFrames") or 1)
        except OSError:
            raise
        except InvalidDicomError as error:
            raise ScanError("not a DICOM file") from error
        except Exception as error:  # whatever pydicom raises for a damaged file
            raise ScanError(f"cannot be read: {error}") from error
    if missing is not None:
        raise ScanError(": ".join(filter(None, (NEEDED[missing], f"{missing} is missing"))))
    return (header, "") if kind is None else (None, f"is {kind}, not an image")


@dataclass(frozen=True)
class _Group:
    files: tuple[Path, ...]
    header: Dataset  # of the first one
    parts: tuple[tuple[str, int], ...] = ()


def _groups(headers: dict[Path, Dataset], faults: dict[Path, str]) -> Iterator[_Group]:
    """The files of each volume; those that cannot be put into one become faults."""
    for series in _by(headers, lambda header: str(header.get("SeriesInstanceUID"))).values():
        placed = {}
        for path, header in series.items():
            if int(header.get("NumberOfFrames") or 1) > 1 or "SharedFunctionalGroupsSequence" in header:
                yield _Group((path,), header)
            elif header.get("ImagePositionPatient") and header.get("ImageOrientationPatient"):
                placed[path] = header
            elif len(series) > 1 and header.get("Modality") in TOMOGRAPHY:
                faults[path] = "has no ImagePositionPatient or ImageOrientationPatient, which tell the order of slices"
            else:
                yield _Group((path,), header)
        alike = _alike(placed)
        for number, files in enumerate(alike, start=1):
            parts = (("part", number),) if len(alike) > 1 else ()
            yield from _separated(files, parts, faults)


def _by(headers: dict[Path, Dataset], key: Callable[[Dataset], Any]) -> dict[Any, dict[Path, Dataset]]:
    groups: dict[Any, dict[Path, Dataset]] = {}
    for path, header in headers.items():
        groups.setdefault(key(header), {})[path] = header
    return groups


def _alike(files: dict[Path, Dataset]) -> list[dict[Path, Dataset]]:
    """Files of the same size, type and orientation; numbers may differ by how they were rounded."""
    groups: list[tuple[Any, list[float], dict[Path, Dataset]]] = []
    for path, header in files.items():
        kind = tuple(_value(header, name) for name in KIND)
        plane = [float(number) for name in PLANE for number in header.get(name) or ()]
        for known, numbers, group in groups:
            if known == kind and len(numbers) == len(plane) and np.allclose(numbers, plane, rtol=0, atol=ROUNDING):
                group[path] = header
                break
        else:
            groups.append((kind, plane, {path: header}))
    return [group for *_, group in groups]


def _value(header: Dataset, name: str) -> Any:
    """The value of an element as something to compare and sort by; numbers rounded."""
    value = header.get(name)
    items = [] if value is None else list(value) if not isinstance(value, str) and _is_several(value) else [value]
    return tuple(round(float(item), DIGITS) if _is_number(item) else str(item) for item in items)


def _is_several(value: Any) -> bool:
    return hasattr(value, "__iter__")


def _is_number(value: Any) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except (TypeError, ValueError):
        return False


def _separated(
    files: dict[Path, Dataset], parts: tuple[tuple[str, int], ...], faults: dict[Path, str]
) -> Iterator[_Group]:
    """Files that are alike, taken apart until no two of a group lie at one position."""
    most = max(_repetitions(files))
    if most == 1:
        yield _Group(tuple(files), next(iter(files.values())), parts)
        return
    for part, names in PARTS:
        for name in names:
            groups = _by(files, lambda header, name=name: _value(header, name))  # type: ignore[misc]
            # More groups than files at a position: the element differs from slice to slice.
            if 1 < len(groups) <= most and max(max(_repetitions(group)) for group in groups.values()) < most:
                for number, key in enumerate(sorted(groups, key=str if _mixed(groups) else None), start=1):
                    yield from _separated(groups[key], _with_part(parts, part, number), faults)
                return
    if min(_repetitions(files)) == most:  # as often at every position: in the order of their numbers
        ranked = sorted(files, key=lambda path: (_value(files[path], "InstanceNumber"), path.name))
        seen: Counter[Any] = Counter()
        turns: dict[int, dict[Path, Dataset]] = {}
        for path in ranked:
            place = _place(files[path])
            seen[place] += 1
            turns.setdefault(seen[place], {})[path] = files[path]
        for number, turn in turns.items():
            yield _Group(tuple(sorted(turn)), next(iter(turn.values())), _with_part(parts, "time", number))
        return
    first: dict[Any, Path] = {}
    for path, header in files.items():
        if (other := first.setdefault(_place(header), path)) != path:
            faults[path] = f"lies at the same position as {other.name}, and nothing in the headers tells volumes apart"
    for path in files:
        faults.setdefault(path, "is of a series in which some slices lie at one position, and others do not")


def _mixed(keys: Iterable[tuple[Any, ...]]) -> bool:
    return len({tuple(type(item) for item in key) for key in keys}) > 1


def _with_part(parts: tuple[tuple[str, int], ...], part: str, number: int) -> tuple[tuple[str, int], ...]:
    names = [name for name, _ in parts]
    return (*parts, (part if part not in names else f"{part}{names.count(part) + 1}", number))


def _place(header: Dataset) -> tuple[float, ...]:
    return tuple(round(float(value) / PLACE) * PLACE for value in header.ImagePositionPatient)


def _repetitions(files: dict[Path, Dataset]) -> list[int]:
    """How many files lie at each position."""
    return list(Counter(map(_place, files.values())).values())


def _named(folder: Path, groups: Sequence[_Group]) -> list[Volume]:
    """Volumes with addresses that no two of them share, and that no file has."""
    if len(groups) == 1:
        return [_volume(folder, groups[0])]
    uids = sorted({str(group.header.get("SeriesInstanceUID")) for group in groups})
    numbers = {str(group.header.get("SeriesInstanceUID")): group.header.get("SeriesNumber") for group in groups}
    shared = Counter(map(str, numbers.values()))
    found = []
    for group in groups:
        uid = str(group.header.get("SeriesInstanceUID"))
        number = re.sub(r"\W", "", str(numbers[uid] if numbers[uid] is not None else ""))
        name = (
            f"series{number}" if shared[str(numbers[uid])] == 1 and number else f"series{number}_{uids.index(uid) + 1}"
        )
        name += "".join(f"-{part}{rank}" for part, rank in group.parts)
        address = group.files[0] if len(group.files) == 1 else folder / name
        while len(group.files) > 1 and address.exists():
            address = address.with_name(f"{address.name}_")
        found.append(_volume(address, group))
    return sorted(found, key=lambda volume: volume.path)


def _volume(address: Path, group: _Group) -> Volume:
    header = group.header
    what = f"series {header.get('SeriesNumber') or '?'}"
    words = [what, str(header.get("SeriesDescription") or ""), *(f"{part} {rank}" for part, rank in group.parts)]
    count = int(header.get("NumberOfFrames") or 1) if len(group.files) == 1 else len(group.files)
    words.append(f"{count} of {header.get('Columns')} x {header.get('Rows')}")
    uid = str(header.get("SeriesInstanceUID"))
    return Volume(address, group.files, uid, ", ".join(word for word in words if word))


def sources(path: Path) -> tuple[list[Path], list[str]]:
    """The files that a scan is read from, and remarks on others in its folder, which are not published.

    Args:
        path: a file, the folder of one volume, or the address of one of several.

    Raises:
        ScanError: when a folder holds folders, no volume, several, or a file that should be of it and cannot.
        OSError: when it cannot be read.
    """
    if path.is_dir():
        below = next((entry for entry in sorted(path.iterdir()) if entry.is_dir() and entry.name[0] != "."), None)
        if below is not None:
            raise ScanError("the folder of a series must not hold folders", file=below)
        found = survey(path)
        for file, reason in found.faults:
            raise ScanError(reason, file=file)
        if not found.volumes:
            raise ScanError("the folder holds no DICOM file of an image", file=path)
        if len(found.volumes) > 1:
            raise ScanError(_several(path.name, found.volumes), file=path)
        return list(found.volumes[0].files), [f"{file} {reason} and is not published" for file, reason in found.others]
    volume = volume_at(path)
    return ([path] if volume is None else list(volume.files)), []


def dicom_files(path: Path) -> tuple[Path, ...]:
    """The DICOM files that lie under an address: a file, all in a folder, or those of one of its volumes.

    Raises:
        ScanError: naming folder or file, when the system does not let it be read.
    """
    if path.is_dir():
        found = survey(path)
        files = {file for volume in found.volumes for file in volume.files} | {file for file, _ in found.faults}
        return tuple(sorted(files))
    volume = volume_at(path)
    return (path,) if volume is None else volume.files


def _several(folder: str, found: Sequence[Volume]) -> str:
    names = "; ".join(f"{volume.name} ({volume.description})" for volume in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    advice = f"name one as {folder}/NAME, or give each a folder of its own"
    return f"the folder holds {len(found)} volumes: {names}{more}; {advice}"

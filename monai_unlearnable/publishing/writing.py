# SPDX-License-Identifier: Apache-2.0
"""How scans, other files and the datalist are written to a protected dataset."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from monai_unlearnable.data.formats import content_of, read_scan, write_scan
from monai_unlearnable.data.scan import Scan, voxel_digest
from monai_unlearnable.errors import OutputError, ScanError
from monai_unlearnable.noise import NoiseEntry
from monai_unlearnable.utils import distributed
from monai_unlearnable.utils.enums import CaseKeys
from monai_unlearnable.utils.files import Content, file_digest, holds, reading, write_atomic
from monai_unlearnable.utils.grouping import grouped

__all__ = ["copy_file", "encode_datalist", "log_remarks", "publish_scan", "write_datalist"]

logger = logging.getLogger(__name__)


def publish_scan(scan: Scan, voxels: NDArray, target: Path) -> Scan:
    """Write voxels into the container of ``scan`` and return what a reader of the new file gets.

    Raises:
        OutputError: naming the file, when it cannot be written or is the original.
        ScanError: when the file read back holds other voxels than were written.
    """
    _refuse_original(scan.path, target)
    write_scan(scan, voxels, target)
    written = read_scan(target)
    if written.digest() != voxel_digest(voxels):
        raise ScanError("the file does not hold the voxels that were written", file=target)
    return written


def copy_file(source: Path, target: Path, content: Content | None = None) -> None:
    """Copy a file, or a folder of files; atomic, and skipped where the target has the same content.

    Args:
        source: file or folder to read.
        target: file or folder to write.
        content: content to write in place of that of ``source``.

    Raises:
        OutputError: naming the file, when it cannot be written or is the original.
        ScanError: naming the file, when it cannot be read.
    """
    _refuse_original(source, target)
    if content is None:
        with reading(source):
            content = content_of(source)
    if not holds(target, content):
        write_atomic(target, content)


def _refuse_original(source: Path, target: Path) -> None:
    if target.exists() and target.resolve() == source.resolve():
        raise OutputError("the output would replace the original; choose another folder", file=target)


def write_datalist(scans: Sequence[NoiseEntry], path: Path) -> str:
    """Write the datalist of the protected files, in the order given; atomic.

    A case keeps its label file, or its class as a number, and its name unless it is that of its first file.

    Returns:
        SHA-256 of the file.
    """
    cases = grouped(scans, lambda entry: entry.case_id).values()
    write_atomic(path, encode_datalist([_datalist_item(entries) for entries in cases]))
    return file_digest(path)


def encode_datalist(items: Sequence[Mapping[str, Any]]) -> bytes:
    """The datalist of entries, as a file."""
    return (json.dumps({"training": items}, indent=1) + "\n").encode()


def _datalist_item(entries: Sequence[NoiseEntry]) -> dict[str, Any]:
    first, images = entries[0], [entry.output for entry in entries]
    item: dict[str, Any] = {CaseKeys.IMAGE: images if len(images) > 1 else images[0]}
    label = first.target if first.label is None else first.label
    if label is not None:
        item[CaseKeys.LABEL] = label
    if first.case_id != first.scan_id:
        item[CaseKeys.CASE_ID] = first.case_id
    return item


def log_remarks(remarks: Iterable[str]) -> None:
    """Warn of what the owner should know of published files: each remark once, however many processes found it."""
    found = set().union(*distributed.gather(set(remarks)))
    for remark in sorted(found) if distributed.rank() == 0 else ():
        logger.warning(remark)

# SPDX-License-Identifier: Apache-2.0
"""Labels of a protected dataset: copied, or made to refer to the published scans, and given back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import NDArray

from monai_unlearnable.data.dicom import annotation_remarks, is_annotation, rename
from monai_unlearnable.data.formats import digest_of, renamed_by
from monai_unlearnable.data.scan import Scan, naming
from monai_unlearnable.errors import NoiseError, VerificationError
from monai_unlearnable.noise import NoiseEntry, NoiseStore
from monai_unlearnable.publishing.writing import copy_file

__all__ = ["PublishedLabel", "check_label", "label_remarks", "original_label"]
__all__ += ["publish_label", "renamed_label", "restore_label"]


@dataclass(frozen=True)
class PublishedLabel:
    """The facts about a label once it is published.

    Args:
        sha256: digest of the published file; None without a label.
        clean_sha256: digest of the original, if that is another file.
        original: the original file itself, if it is another one; for the owner to keep.
    """

    sha256: str | None = None
    clean_sha256: str | None = None
    original: bytes = b""


def publish_label(source: Path, target: Path, written: Iterable[tuple[Scan, NDArray]]) -> PublishedLabel:
    """Copy a label, or write the one that refers to the published scans.

    Args:
        source: the original.
        target: file to write; atomic.
        written: the scans of the case, each with the voxels that it is published with.

    Raises:
        OutputError: naming the file, when it cannot be written or is the original.
        ScanError: naming the file, when it cannot be read.
    """
    if is_annotation(source):
        with naming(source):
            original = source.read_bytes()
            content = renamed_label(original, written)
        if content != original:
            copy_file(source, target, content)
            return PublishedLabel(_digest(content), _digest(original), original)
    copy_file(source, target)
    return PublishedLabel(digest_of(target))


def label_remarks(path: Path) -> list[str]:
    """What the owner should know of a label before it is published."""
    if not is_annotation(path):
        return []
    with naming(path):
        return annotation_remarks(path)


def renamed_label(original: bytes, written: Iterable[tuple[Scan, NDArray]]) -> bytes:
    """A DICOM label that refers to the published scans; see :func:`publish_label`."""
    return rename(original, {old: new for scan, voxels in written for old, new in renamed_by(scan, voxels).items()})


def original_label(store: NoiseStore, entry: NoiseEntry) -> bytes:
    """The original of a label that is published in another form; it is kept with the first scan of the case.

    Raises:
        NoiseError: naming scan and file, when it is missing, or another one.
    """
    first = entry.case_scans[0]
    content = store.label(first)
    if _digest(content) != entry.clean_label_sha256:
        raise NoiseError("the label that is kept is not the original one", case=first, file=store.path(first))
    return content


def restore_label(entry: NoiseEntry, store: NoiseStore, protected: Path, destination: Path) -> None:
    """Write the original label of a case.

    Raises:
        VerificationError: naming the case, when the published label was changed since.
        NoiseError: when :func:`original_label` raises it.
    """
    if entry.label is None:
        return
    source = protected / entry.label
    check_label(entry, source, entry.label_sha256)
    content = None if entry.clean_label_sha256 is None else original_label(store, entry)
    copy_file(source, destination / entry.label, content)


def check_label(entry: NoiseEntry, path: Path, digest: str | None) -> None:
    """Check that a label is the one that was recorded.

    Raises:
        VerificationError: naming case and file, when it is another one.
    """
    if digest_of(path) != digest:
        raise VerificationError("the label is not the one that was protected", case=entry.case_id, file=path)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

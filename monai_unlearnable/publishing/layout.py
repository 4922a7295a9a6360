# SPDX-License-Identifier: Apache-2.0
"""Where the files of a protected dataset lie, and how scans and labels are written there."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from monai_unlearnable.crypto.encrypted import misplaced, places
from monai_unlearnable.crypto.keys import Key, owner
from monai_unlearnable.data.dicom import annotation_remarks, is_annotation, rename
from monai_unlearnable.data.formats import content_of, data_files, digest_of, read_scan, renamed_by, write_scan
from monai_unlearnable.data.scan import Scan, naming, voxel_digest
from monai_unlearnable.errors import NoiseError, OutputError, ScanError, VerificationError
from monai_unlearnable.noise import NoiseEntry, NoiseStore
from monai_unlearnable.utils import distributed
from monai_unlearnable.utils.enums import CaseKeys
from monai_unlearnable.utils.files import (
    Content,
    below,
    file_digest,
    holds,
    lock,
    locked,
    reading,
    remove_unfinished,
    write_atomic,
)

__all__ = [
    "Layout",
    "copy_file",
    "encode_datalist",
    "log_remarks",
    "publish_scan",
    "unknown_files",
    "write_datalist",
    "PublishedLabel",
    "check_label",
    "label_remarks",
    "original_label",
    "publish_label",
    "renamed_label",
    "restore_label",
]

logger = logging.getLogger(__name__)

EXISTS = "the output exists already; choose another folder, or set overwrite (--overwrite) to replace it"


class Layout:
    """Where the files of one output lie.

    Args:
        root: folder of the output.

    Attributes:
        protected: folder of what is published.
        datalist: list of the protected cases, published with them.
        readme: page about the published files, beside them.
        license: license of the published files, beside them.
        hashes: SHA-256 of each published file, beside them.
        croissant: description of the published files for programs, beside them.
        bids: description of the dataset, if it is a BIDS dataset, published with it.
        noise: folder of what the owner keeps.
        manifest: record of the run, if it is not encrypted.
        models: folder of trained perturbers.
        checkpoint: perturber that the noise comes from, if it is not encrypted.
        skipped: reason by case that could not be protected, if it is not encrypted and there are such.
        statement: file that third parties check the published files against.
        unpacked: folder of the originals of a dataset that came as an archive.
        fetched: folder of the originals of a dataset that came from a server.
        report: folder of figures and pictures.
        trace: folder of what suspected models answered.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.protected = self.root / "protected"
        self.datalist = self.protected / "datalist.json"
        self.readme = self.protected / "README.md"
        self.license = self.protected / "LICENSE"
        self.hashes = self.protected / "SHA256SUMS"
        self.croissant = self.protected / "croissant.json"
        self.bids = self.protected / "dataset_description.json"
        self.noise = self.root / "noise"
        self.manifest = self.noise / "manifest.json"
        self.models = self.root / "models"
        self.checkpoint = self.models / "perturber.safetensors"
        self.skipped = self.root / "skipped.json"
        self.statement = self.root / "statement.json"
        self.unpacked = self.root / "unpacked"
        self.fetched = self.root / "fetched"
        self.report = self.root / "report"
        self.trace = self.root / "trace"

    @property
    def records(self) -> list[Path]:
        """The record of the run, plain or encrypted; it exists once the run is complete."""
        return [path for path in places(self.manifest) if path.exists()]

    @property
    def documents(self) -> list[Path]:
        """The files that describe what is published, as far as they exist."""
        known = (self.readme, self.license, self.bids, self.hashes, self.croissant)
        return [path for path in known if path.is_file()]

    @property
    def is_encrypted(self) -> bool:
        """Whether the output is complete and only the owner's key opens it."""
        return bool(self.records) and self.manifest not in self.records

    def locked(self) -> AbstractContextManager[None]:
        """The output locked for a while; of several processes that work together the first one holds the lock."""
        return locked(self.root) if distributed.rank() == 0 else nullcontext()

    def misplaced(self, key: Key | None) -> list[Path]:
        """The owner's files that are plain although there is a key, or encrypted although there is none.

        They include those of the control and of trials, which have the same originals, and with a key unpacked
        originals too.
        """
        controls = [self.root / folder / "control" for folder in ("laboratory", "auto/laboratory")]
        outputs = [self, *map(Layout, (*controls, *sorted(self.root.glob("auto/data/*"))))]
        found = [p for one in outputs for folder in (one.noise, one.models) for p in misplaced(folder, key)]
        return found if key is None else [*found, *(p for p in sorted(self.unpacked.rglob("*")) if p.is_file())]

    def begin(self, overwrite: bool, key: Key | None = None) -> None:
        """Prepare for a run: refuse a finished output, or open it again and remove what a killed run left half-written.

        From here on no other run may write to it, until :func:`~monai_unlearnable.utils.files.unlock`. Among several
        processes that work together the first one does this, while the others wait.

        Args:
            overwrite: whether to replace an existing output.
            key: key of the run; the owner's plain files do not stay beside encrypted ones, nor the other way round.

        Raises:
            OutputError: naming the file, when ``overwrite`` is false and the output is complete, or only one of it and
                this run has a key; when another run is writing to it.
        """
        if distributed.rank() == 0:
            self._begin(overwrite, key)
        distributed.wait()

    def check(self, overwrite: bool, key: Key | None = None) -> None:
        """Refuse what :meth:`begin` would refuse; nothing is made, removed or locked.

        Raises:
            OutputError: naming the file, see :meth:`begin`.
        """
        if key is not None:
            owner(key)
        if self.records and not overwrite:
            raise OutputError(EXISTS, file=self.records[0])
        misplaced = self.misplaced(key)
        unpacked = next((path for path in misplaced if path.is_relative_to(self.unpacked)), None)
        if unpacked is not None:
            reason = "an earlier run without a key unpacked originals here; move or delete them yourself"
            raise OutputError(reason, file=unpacked)
        if misplaced and not overwrite:
            kind = "is not encrypted, but a key is given" if key else "is encrypted, but no key is given"
            raise OutputError(f"{kind}; choose another folder or set overwrite", file=misplaced[0])

    def _begin(self, overwrite: bool, key: Key | None) -> None:
        self.check(overwrite, key)
        lock(self.root)
        for path in (*self.misplaced(key), *self.records, self.statement):
            path.unlink(missing_ok=True)
        for folder in (self.protected, self.noise, self.models):
            remove_unfinished(folder)


def _refuse_original(source: Path, target: Path) -> None:
    if target.exists() and target.resolve() == source.resolve():
        raise OutputError("the output would replace the original; choose another folder", file=target)


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


def log_remarks(remarks: Iterable[str]) -> None:
    """Warn of what the owner should know of published files: each remark once, however many processes found it."""
    found = set().union(*distributed.gather(set(remarks)))
    for remark in sorted(found) if distributed.rank() == 0 else ():
        logger.warning(remark)


def unknown_files(folder: Path, known: Iterable[str]) -> Iterator[Path]:
    """Files below a folder that are neither known by their relative names nor part of a known scan of several files."""
    known = {*known, *(file.relative_to(folder).as_posix() for name in known for file in data_files(folder / name))}
    for path in below(folder):
        name = path.relative_to(folder)
        is_known = name.as_posix() in known or name.parent.as_posix() in known
        if (path.is_symlink() or not path.is_dir()) and not is_known:
            yield path


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


def write_datalist(scans: Sequence[NoiseEntry], path: Path) -> str:
    """Write the datalist of the protected files, in the order given; atomic.

    A case keeps its label file, or its class as a number, and its name unless it is that of its first file.

    Returns:
        SHA-256 of the file.
    """
    cases: dict[str, list[NoiseEntry]] = {}
    for entry in scans:
        cases.setdefault(entry.case_id, []).append(entry)
    write_atomic(path, encode_datalist([_datalist_item(entries) for entries in cases.values()]))
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

# SPDX-License-Identifier: Apache-2.0
"""From a PACS and back: studies fetched to be protected, and the protected series stored."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread

from monai_unlearnable.crypto import Key
from monai_unlearnable.data.dicom.derivation import DERIVATION
from monai_unlearnable.data.dicomweb import Address, Instance, Server, identify
from monai_unlearnable.errors import InputError, OutputError, SkippedCasesError, VerificationError
from monai_unlearnable.publishing.layout import EXISTS, Layout
from monai_unlearnable.publishing.statement import audit
from monai_unlearnable.utils import distributed
from monai_unlearnable.utils.files import below, file_digest, reading, remove, remove_unfinished, write_atomic
from monai_unlearnable.utils.progress import track

__all__ = ["Stored", "fetched_studies", "publish"]

logger = logging.getLogger(__name__)

SUMS, SOURCE, STUDIES = "SHA256SUMS", "source.txt", "studies"
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
LINE = re.compile(rf"([0-9a-f]{{64}})  ({STUDIES}(?:/[0-9]+(?:\.[0-9]+)*){{3}}\.dcm)")  # leads nowhere else


@contextmanager
def fetched_studies(
    address: str | Path, output_dir: str | Path, overwrite: bool = False, key: Key | None = None
) -> Iterator[Path]:
    """Fetch the studies that an address names, and let their folder be protected.

    Args:
        address: see :meth:`~monai_unlearnable.data.dicomweb.Address.parse`.
        output_dir: output with ``fetched/``, which is not published.
        overwrite: whether a finished output, and other files in ``fetched/``, may be replaced.
        key: the owner's key; with it the originals are deleted from ``fetched/`` once the output is complete.

    Yields:
        The folder to protect to ``output_dir``: a folder for each study, in it one for each series.

    Raises:
        InputError: when the address cannot be used.
        ServerError: naming the host, when the studies cannot be fetched; a later call goes on.
        OutputError: naming the file, when other studies were fetched there, or a file was changed since.
    """
    layout, source = Layout(output_dir), Address.parse(str(address))
    cache = Cache(layout.fetched)
    if distributed.rank() == 0:
        if layout.records and not overwrite:
            raise OutputError(EXISTS, file=layout.records[0])
        server = Server(source)
        instances = server.find(source)
        with layout.locked():
            cache.open(str(source), instances, overwrite)
            _fetch(server, instances, cache, overwrite, named=bool(source.series))
    distributed.wait()
    try:
        yield cache.studies
    except SkippedCasesError:  # the output is complete without them
        _remove(cache, key)
        raise
    _remove(cache, key)


def _remove(cache: Cache, key: Key | None) -> None:
    """Delete the originals of a complete output whose owner has a key."""
    if key is not None and distributed.rank() == 0:
        cache.remove()


def _fetch(server: Server, instances: Sequence[Instance], cache: Cache, overwrite: bool, named: bool) -> None:
    """Fetch what the cache lacks, but no series that was protected and stored there earlier, unless it is named."""
    omitted = set[str]()
    for instance in track(instances, "fetching instance"):
        if instance.series in omitted or cache.holds(instance, overwrite):
            continue
        content = server.fetch(instance)
        if not named and _is_protected(content):
            omitted.add(instance.series)
            reason = f"is protected already, and passed over; {server.host} sends it if the address names the series"
            logger.warning("series %s %s", instance.series, reason)
        else:
            cache.put(instance, content)


def _is_protected(content: bytes) -> bool:
    header = dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=["DerivationDescription"])
    return DERIVATION in str(header.get("DerivationDescription", ""))


class Cache:
    """Fetched instances, with a list of their hashes that ``sha256sum --check`` takes too.

    Args:
        folder: folder of the list and of ``studies/``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.studies = folder, folder / STUDIES
        self.sums, self.source = folder / SUMS, folder / SOURCE
        self._digests: dict[str, str] = {}

    def open(self, source: str, instances: Sequence[Instance], overwrite: bool) -> None:
        """Prepare to fetch; a stopped call goes on.

        Args:
            source: where the instances come from.
            instances: all that belong here; others that were fetched earlier are removed, or an error.
            overwrite: whether files may be replaced or removed.

        Raises:
            OutputError: naming the file, when something else was fetched here.
        """
        with reading(self.folder, InputError):
            known = self.source.read_text(encoding="utf-8").strip() if self.source.is_file() else source
            lines = self.sums.read_text(encoding="utf-8").splitlines() if self.sums.is_file() else []
        if known != source and not overwrite:
            raise OutputError(
                f"this output is of {known}; choose another folder, or set overwrite (--overwrite)", file=self.source
            )
        found = [match for line in lines if (match := LINE.fullmatch(line))]  # a killed call may leave half a line
        self._digests = {match[2]: match[1] for match in found}
        wanted = {self._name(instance) for instance in instances}
        for name in sorted(self._digests.keys() - wanted):
            if (self.folder / name).exists() and not overwrite:
                reason = (
                    "the server does not list this instance any more; delete the file, or set overwrite (--overwrite)"
                )
                raise OutputError(reason, file=self.folder / name)
            remove(self.folder / name)
            del self._digests[name]
        remove_unfinished(self.folder)
        write_atomic(self.source, f"{source}\n".encode())
        write_atomic(self.sums, "".join(f"{d}  {name}\n" for name, d in self._digests.items()).encode())

    def holds(self, instance: Instance, overwrite: bool) -> bool:
        """Whether an instance need not be fetched.

        Raises:
            OutputError: naming the file, when it was changed since, and may not be replaced.
        """
        path, name = self.folder / self._name(instance), self._name(instance)
        if not path.exists():
            return False
        if name in self._digests and file_digest(path) == self._digests[name]:
            return True
        if not overwrite:
            reason = (
                "the file is not as it was fetched; delete it to have it fetched again, or set overwrite (--overwrite)"
            )
            raise OutputError(reason, file=path)
        return False

    def put(self, instance: Instance, content: bytes) -> None:
        """Keep an instance. Its hash is written first: no file is without one.

        Raises:
            OutputError: naming the file, when it cannot be written.
        """
        name = self._name(instance)
        self._digests[name] = hashlib.sha256(content).hexdigest()
        try:
            with self.sums.open("a", encoding="utf-8") as stream:
                stream.write(f"{self._digests[name]}  {name}\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror or error}", file=self.sums) from error
        write_atomic(self.folder / name, content)

    def remove(self) -> None:
        """Delete what was fetched, and nothing else."""
        for name in (*self._digests, SUMS, SOURCE):
            remove(self.folder / name)
        for folder in reversed([self.folder, *(path for path in below(self.folder) if path.is_dir())]):
            if not any(folder.iterdir()):
                remove(folder)

    @staticmethod
    def _name(instance: Instance) -> str:
        return f"{STUDIES}/{instance.path}"


@dataclass(frozen=True)
class Stored:
    """What became of the protected files in a PACS.

    Args:
        stored: number of instances that were added.
        known: number of instances that were there already.
        omitted: published files that are not DICOM, and thus not stored.
    """

    stored: int
    known: int
    omitted: tuple[str, ...]


def publish(output_dir: str | Path, address: str) -> Stored:
    """Store the protected series of an output in a PACS by DICOMweb, and read each instance back.

    Files are checked against the statement before, and nothing on the server is replaced or deleted. After a failure,
    a second call stores what is missing.

    Args:
        output_dir: a complete output.
        address: ``dicomweb://HOST[:PORT]/PATH`` for https, ``dicomweb+http://`` for http.

    Returns:
        The numbers of instances.

    Raises:
        InputError: naming the file, when an image is not DICOM, or the output is not complete.
        ServerError: naming the host, when the server fails.
        VerificationError: naming the file, when it is not the stated one, or the server has or returns other pixels.

    Example:
        >>> publish("OUT", "dicomweb://pacs.example/dicom-web")
    """
    layout, target = Layout(output_dir), Address.parse(address)
    if target.studies or target.series or target.patient is not None:
        raise InputError(f"{target.host}: the address to store to names no study: the files know theirs")
    if not layout.statement.is_file():
        raise InputError("there is no statement; publish a complete output", file=layout.statement)
    report = audit(layout.protected, layout.statement)
    if report.findings:
        raise VerificationError(f"not published: {report.findings[0]}", file=layout.statement, findings=report.findings)
    files, omitted = _instances(layout)
    server = Server(target)
    series = sorted({(instance.study, instance.series) for instance in files})
    found = {(*place, uid) for place in series for uid in server.instances(*place)}
    known = [instance for instance in files if instance in found]
    for instance in track(known, "comparing instance"):
        _compare(server, instance, files[instance], "the server has other content under this UID; it was not replaced")
    missing = [instance for instance in files if instance not in found]
    for instance in track(missing, "storing instance"):
        with reading(files[instance]):
            server.store(files[instance].read_bytes())
        _compare(server, instance, files[instance], "the server returns other content than was stored")
    return Stored(len(missing), len(known), omitted)


def _instances(layout: Layout) -> tuple[dict[Instance, Path], tuple[str, ...]]:
    """The published DICOM files, and the names of labels that are none."""
    with reading(layout.statement):
        stated = json.loads(layout.statement.read_bytes())["scans"]
    labels = {scan["label"] for scan in stated if scan["label"] is not None}
    files: dict[Instance, Path] = {}
    omitted = []
    for name in sorted({scan["file"] for scan in stated} | labels):
        path = layout.protected / name
        for file in [each for each in below(path) if each.is_file()] if path.is_dir() else [path]:
            try:
                instance = identify(file)
            except ValueError as error:
                if name not in labels:
                    reason = "not in the file format of DICOM, the only one that a PACS takes"
                    raise InputError(reason, file=file) from error
                omitted.append(name)
                continue
            if instance in files:
                raise InputError(f"the same instance as {files[instance]}; a PACS takes it once", file=file)
            files[instance] = file
    return files, tuple(omitted)


def _compare(server: Server, instance: Instance, path: Path, reason: str) -> None:
    sent, found = path.read_bytes(), server.fetch(instance)
    if sent != found and _content(sent) != _content(found):
        raise VerificationError(f"{server.host}: {reason}", file=path)


def _content(file: bytes) -> Any:
    """What a server must not change: the pixels, or all where there are none. It may mend what is said of a patient."""
    try:
        dataset = dcmread(BytesIO(file))
        pixels = {name: dataset[name].value for name in PIXELS if name in dataset}
        return dataset.file_meta.TransferSyntaxUID, pixels or dataset
    except Exception:  # whatever pydicom raises for damaged content
        return file

# SPDX-License-Identifier: Apache-2.0
"""Where the files of a protected dataset lie."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from monai_unlearnable.crypto.encrypted import SUFFIX, misplaced, places
from monai_unlearnable.crypto.keys import Key, owner
from monai_unlearnable.data.formats import data_files, digest_of, files_of
from monai_unlearnable.errors import OutputError, ScanError
from monai_unlearnable.noise.records import refuse_outside
from monai_unlearnable.utils import distributed
from monai_unlearnable.utils.files import below, reading, remove, remove_unfinished
from monai_unlearnable.utils.locks import lock, locked

__all__ = ["EXISTS", "Layout", "stated_files", "unknown_files"]

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

    def begin(self, overwrite: bool, key: Key | None = None, anew: bool = False) -> None:
        """Prepare for a run: refuse a finished output, or clear it, and remove what a killed run left half-written.

        From here on no other run may write to it, until :func:`~monai_unlearnable.utils.locks.unlock`. Among several
        processes that work together the first one does this, while the others wait.

        Args:
            overwrite: whether to replace an existing output.
            key: key of the run; the owner's plain files do not stay beside encrypted ones, nor the other way round.
            anew: whether what another run left is removed too where that one did not finish.

        Raises:
            OutputError: naming the file, when ``overwrite`` is false and the output is complete, or only one of it and
                this run has a key; when another run is writing to it.
        """
        if distributed.rank() == 0:
            self._begin(overwrite, key, anew)
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
            raise OutputError(
                f"{kind}; choose another folder, or set overwrite (--overwrite) to replace it", file=misplaced[0]
            )

    def clear(self) -> None:
        """Remove what a run wrote, so that one with other settings can be stopped and go on.

        Of the published files those go that the statement names, as they were written. Pages that describe them stay,
        and so does the checkpoint, which may be what the next run applies; nothing goes on from it without noise.

        Raises:
            OutputError: naming the file, when it cannot be deleted.
            ScanError: naming the folder, when it cannot be read.
        """
        with reading(self.root):
            published = list(self._published())
            noise = [path for path in below(self.noise) if path.name.endswith((".npz", f".npz{SUFFIX}"))]
            training = self.models.glob("training*.pt*")
            for path in (*self.records, self.statement, *published, *noise, *training):
                remove(path)
            for folder in (self.protected, self.noise):
                for path in reversed(below(folder)):  # names of patients among them
                    if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
                        remove(path)

    def _published(self) -> Iterator[Path]:
        """The files that the statement names and a run writes, as far as they are the stated ones."""
        documents = {path.name for path in self.documents}
        try:
            stated = list(stated_files(json.loads(self.statement.read_bytes())))
        except (OSError, ValueError, LookupError, TypeError, AttributeError):  # none, or not what was written
            return
        for name, digest in stated:
            with suppress(ScanError):  # not there any more, or damaged
                if name not in documents and digest_of(self.protected / name) == digest:
                    yield from files_of(self.protected / name)

    def _begin(self, overwrite: bool, key: Key | None, anew: bool) -> None:
        self.check(overwrite, key)
        lock(self.root)
        if overwrite and (anew or self.records):
            self.clear()
        for path in (*self.misplaced(key), *self.records, self.statement):
            remove(path)
        for folder in (self.protected, self.noise, self.models):
            remove_unfinished(folder)


def stated_files(content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and digest of every file of a statement.

    Raises:
        ValueError: when a name leads outside of the folder.
    """
    for entry in (*content["scans"], *content["others"]):
        for name, digest in ((entry["file"], entry["sha256"]), (entry.get("label"), entry.get("label_sha256"))):
            if name is not None:
                refuse_outside(name)
                yield name, digest


def unknown_files(folder: Path, known: Iterable[str]) -> Iterator[Path]:
    """Files below a folder that are neither known by their relative names nor part of a known scan of several files."""
    known = {*known, *(file.relative_to(folder).as_posix() for name in known for file in data_files(folder / name))}
    for path in below(folder):
        name = path.relative_to(folder)
        is_known = name.as_posix() in known or name.parent.as_posix() in known
        if (path.is_symlink() or not path.is_dir()) and not is_known:
            yield path

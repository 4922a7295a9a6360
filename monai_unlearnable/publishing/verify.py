# SPDX-License-Identifier: Apache-2.0
"""Check a protected dataset against its manifest, from the files alone."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from monai_unlearnable.budget import changed_fraction, undo_change
from monai_unlearnable.crypto.encrypted import SEALED, Key, place, read_owned
from monai_unlearnable.data import encode_label, read_label
from monai_unlearnable.data.dicom import is_annotation
from monai_unlearnable.data.formats import find_format, read_scan, with_headers
from monai_unlearnable.data.medmnist import archive_images
from monai_unlearnable.data.scan import Scan, voxel_digest
from monai_unlearnable.errors import VerificationError
from monai_unlearnable.metrics import measure_fidelity
from monai_unlearnable.noise import Manifest, NoiseEntry, NoiseStore, fingerprint
from monai_unlearnable.noise.records import encode_manifest
from monai_unlearnable.publishing.labels import original_label, renamed_label
from monai_unlearnable.publishing.layout import Layout, file_digest, noise_digests, unknown_files
from monai_unlearnable.publishing.statement import encode_statement
from monai_unlearnable.utils.files import read_content, reading
from monai_unlearnable.utils.progress import track

__all__ = ["verify"]

FIGURE_TOLERANCE = 1e-6  # relative; other processors may round sums differently


def verify(output_dir: str | Path, clean_dir: str | Path | None = None, key: Key | None = None) -> Manifest:
    """Recompute every hash, budget and figure of the manifest from disk.

    The clean voxels are those that the stored noise restores, which are checked against their hash. No byte of a
    protected file, a label or the datalist may differ from what was recorded. An archive among the protected files must
    hold the protected voxels. With ``clean_dir`` every protected file must also equal, byte for byte, the clean file
    with its voxels replaced. A checkpoint that is there must be the recorded one, and a statement
    follow from the manifest.

    Args:
        output_dir: an output with ``protected/`` and ``noise/``.
        clean_dir: the clean dataset, if at hand.
        key: that noise, manifest and checkpoints are sealed with; none of them may be plain then.

    Returns:
        The manifest, every claim of which holds.

    Raises:
        VerificationError: naming scan, file and figure of the first mismatch.
        KeyMismatchError: naming the file, when it takes another key, or none, or was changed.
        UnlearnableError: when a file cannot be read.
    """
    layout = Layout(Path(output_dir))
    with reading(layout.root):
        return _verify(layout, clean_dir, key)


def _verify(layout: Layout, clean_dir: str | Path | None, key: Key | None) -> Manifest:
    manifest = Manifest.load(layout.manifest, key)
    content = read_owned(layout.manifest, key)
    if content != encode_manifest(json.loads(content)):
        raise VerificationError("the manifest was changed since it was written", file=place(layout.manifest, key))
    for entry in track(manifest.scans, "verify"):
        _Check(entry, layout, manifest.run, key).run(None if clean_dir is None else Path(clean_dir))
    for entry in manifest.scans:
        if entry.clean_label_sha256 is not None and entry.scan_id == entry.case_scans[0]:
            _check_references(entry, layout, NoiseStore(layout.noise, key))
    found = _digest(layout.datalist)
    if found != manifest.datalist_sha256:
        raise _mismatch("SHA-256 of the datalist", found, manifest.datalist_sha256, file=layout.datalist)
    if manifest.noise_sha256 is not None:
        store = NoiseStore(layout.noise, key)
        for scan_id, digest in noise_digests(store, manifest.scans).items():
            if digest != (claimed := manifest.noise_sha256.get(scan_id)):
                what = "SHA-256 of the noise file"
                raise _mismatch(what, digest, claimed, case=scan_id, file=store.path(scan_id))
    for archive in sorted(layout.protected.glob("*.npz")):
        _check_archive(archive, manifest)
    _check_kept(layout, manifest, key)
    _check_complete(layout, manifest)
    return manifest


def _check_complete(layout: Layout, manifest: Manifest) -> None:
    """Nothing may be published that the manifest does not know: it could be an original."""
    known = {layout.datalist.name, *(entry.output for entry in manifest.scans)}
    known |= {entry.label for entry in manifest.scans if entry.label is not None}
    known |= {archive.name for archive in layout.protected.glob("*.npz")}  # checked on their own
    for path in unknown_files(layout.protected, known):
        raise VerificationError("is not in the manifest; it must not be published", file=path)


def _check_kept(layout: Layout, manifest: Manifest, key: Key | None) -> None:
    for path in layout.misplaced(key):
        kind = "is not sealed, and files beside it are" if key else "is sealed, and files beside it are not"
        raise VerificationError(kind, file=path)
    for path in sorted(layout.models.glob(f"*{SEALED}")):
        read_owned(path, key)  # opens, or says that it does not
    checkpoint, claimed = place(layout.checkpoint, key), manifest.run["checkpoint_sha256"]
    if checkpoint.is_file() and (found := hashlib.sha256(read_owned(checkpoint, key)).hexdigest()) != claimed:
        raise _mismatch("SHA-256 of the checkpoint", found, claimed, file=checkpoint)
    statement = layout.statement
    if statement.is_file() and statement.read_bytes() != encode_statement(manifest, layout, key):
        raise VerificationError("is not what follows from the manifest and the published files", file=statement)


def _check_references(entry: NoiseEntry, layout: Layout, store: NoiseStore) -> None:
    """A label that is not the original one has to be what follows from it and from the published scans."""
    label, written = layout.protected / str(entry.label), []
    for own, change in map(store.load, entry.case_scans):
        scan = read_scan(layout.protected / own.output)
        clean = with_headers(replace(scan, voxels=undo_change(scan.voxels, change)), store.headers(own.scan_id))
        written.append((clean, scan.voxels))
    if renamed_label(original_label(store, entry), written) != label.read_bytes():
        raise VerificationError("the label is not the original one with new UIDs", case=entry.case_id, file=label)


def _check_archive(archive: Path, manifest: Manifest) -> None:
    digests = {name: voxel_digest(voxels) for name, voxels in archive_images(archive)}
    for entry in manifest.scans:
        found, what = digests.get(entry.output), "SHA-256 of the protected voxels"
        if found != entry.protected_sha256:
            raise _mismatch(what, found, entry.protected_sha256, case=entry.scan_id, file=archive)


def _digest(path: Path) -> str | None:
    return file_digest(path) if path.exists() else None


def _mismatch(what: str, found: Any, claimed: Any, *, file: Path, case: str | None = None) -> VerificationError:
    reason = f"{what}: found {found}, the manifest says {claimed}"
    return VerificationError(reason, case=case, file=file, value=found, limit=claimed)


class _Check:
    def __init__(self, entry: NoiseEntry, layout: Layout, run: dict[str, Any], key: Key | None) -> None:
        self.entry, self.layout, self.provenance, self.store = entry, layout, run, NoiseStore(layout.noise, key)
        self.path = layout.protected / entry.output

    def run(self, clean_dir: Path | None) -> None:
        entry = self.entry
        stored_entry, change = self.store.load(entry.scan_id)
        self.equal("record beside the noise", stored_entry.to_dict(), entry.to_dict())
        self.equal("fingerprint of the run", fingerprint(self.provenance), entry.run)
        scan = read_scan(self.path)
        self.equal("shape", scan.voxels.shape, entry.shape)
        self.equal("storage", scan.quantization, entry.quantization)
        if not np.array_equal(scan.affine, np.asarray(entry.affine)):
            self.fail("affine", scan.affine.tolist(), entry.affine)
        self.equal("SHA-256 of the protected voxels", scan.digest(), entry.protected_sha256)
        clean = replace(scan, voxels=undo_change(scan.voxels, change))
        self.equal("SHA-256 of the restored voxels", clean.digest(), entry.clean_sha256)
        self.figures(clean, scan)
        if clean_dir is not None:
            self.same_file(scan, clean_dir / entry.file)
        self.equal("SHA-256 of the protected file", file_digest(self.path), entry.output_sha256)

    def figures(self, clean: Scan, scan: Scan) -> None:
        entry, label = self.entry, None
        if entry.label is not None:
            path = self.layout.protected / entry.label
            self.equal("SHA-256 of the label", _digest(path), entry.label_sha256)
            label = read_label(path, self.images(scan) if is_annotation(path) else [scan], entry.case_id)
            if self.provenance["label_values"] is not None:
                label = encode_label(label, self.provenance["label_values"], entry.case_id, path)
        measured = measure_fidelity(clean, scan, entry.window, label)
        self.equal("figures claimed", sorted(measured), sorted(entry.measured))
        for name, claimed in entry.measured.items():
            if not math.isclose(measured[name], claimed, rel_tol=FIGURE_TOLERANCE, abs_tol=1e-12):
                self.fail(name, measured[name], claimed)
        fraction, step = changed_fraction(clean.voxels, scan.voxels), max(entry.window.step(entry.quantization))
        entry.budget.check(measured["linf"], fraction=fraction, step=step, case=entry.scan_id)

    def images(self, scan: Scan) -> list[Scan]:
        """The scans of the case, to one of which a label may refer."""
        names = [self.store.entry(scan_id).output for scan_id in self.entry.case_scans]
        return [scan if name == self.entry.output else read_scan(self.layout.protected / name) for name in names]

    def same_file(self, scan: Scan, clean_file: Path) -> None:
        clean = read_scan(clean_file)
        self.equal("SHA-256 of the clean voxels", clean.digest(), self.entry.clean_sha256)
        expected = find_format(clean_file).encode(clean, scan.voxels, self.path)
        if expected != read_content(self.path):
            self.fail("bytes outside the voxels", "differ from those of the clean file", "equal")

    def equal(self, what: str, found: Any, claimed: Any) -> None:
        if found != claimed:
            self.fail(what, found, claimed)

    def fail(self, what: str, found: Any, claimed: Any) -> None:
        raise _mismatch(what, found, claimed, case=self.entry.scan_id, file=self.path)

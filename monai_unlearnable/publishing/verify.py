# SPDX-License-Identifier: Apache-2.0
"""Check a protected dataset against its manifest, from the files alone."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from monai_unlearnable.budget import VoxelChange, changed_fraction, undo_change
from monai_unlearnable.crypto import Key, load_key
from monai_unlearnable.crypto.encrypted import SUFFIX, place, read_owned
from monai_unlearnable.data import LabelGeometry, encode_label, read_label, unpack_archive
from monai_unlearnable.data.dicom import is_annotation
from monai_unlearnable.data.formats import digest_of, find_format, read_scan, with_headers
from monai_unlearnable.data.medmnist import archive_images
from monai_unlearnable.data.scan import Scan, voxel_digest
from monai_unlearnable.errors import Finding, InputError
from monai_unlearnable.metrics import measure_fidelity
from monai_unlearnable.noise import Manifest, NoiseEntry, NoiseStore, run_fingerprint
from monai_unlearnable.noise.records import encode_manifest
from monai_unlearnable.publishing.archives import is_archive
from monai_unlearnable.publishing.findings import CheckReport, Findings, figure_ranges
from monai_unlearnable.publishing.label_files import original_label, renamed_label
from monai_unlearnable.publishing.layout import Layout, unknown_files
from monai_unlearnable.publishing.statement import DECIMALS, encode_statement
from monai_unlearnable.utils.files import file_digest, holds, reading
from monai_unlearnable.utils.progress import track

__all__ = ["check", "verify"]

FIGURE_TOLERANCE = 1e-6  # relative; other processors may round sums differently


def verify(output_dir: str | Path, clean: str | Path | None = None, key: Key | str | Path | None = None) -> Manifest:
    """Recompute every hash, budget and figure of the manifest from disk.

    The clean voxels are those that the stored noise restores; they are checked against their hash. No byte of a
    protected file, a label or the datalist may differ from what was recorded. An archive among the protected files must
    hold the protected voxels. With ``clean`` every protected file must also equal, byte for byte, the clean file with
    its voxels replaced. A checkpoint in the output must be the recorded one, and a statement must follow from the
    manifest.

    Args:
        output_dir: an output with ``protected/`` and ``noise/``.
        clean: folder or archive of the clean dataset, if available.
        key: key that noise, manifest and checkpoints are encrypted with, or its file; then none of them may be plain.

    Returns:
        The manifest; all of its claims hold.

    Raises:
        VerificationError: naming scan, file and figure of the first claim that does not hold; ``findings`` has all.
        KeyMismatchError: naming the manifest, when it takes another key, or none, or was changed.
        UnlearnableError: when the manifest or the clean dataset cannot be read.

    Example:
        >>> try:
        ...     verify("OUT", clean="DATASET")
        ... except VerificationError as error:
        ...     print(*error.findings, sep="\\n")
    """
    manifest, report = check(output_dir, clean, key)
    if report.findings:
        raise report.error()
    return manifest


def check(
    output_dir: str | Path, clean: str | Path | None = None, key: Key | str | Path | None = None
) -> tuple[Manifest, CheckReport]:
    """The manifest of an output, and the report on its claims; see :func:`verify`."""
    layout, key = Layout(output_dir), load_key(key)
    with reading(layout.root), _folder(clean) as clean_dir:
        manifest = Manifest.load(layout.manifest, key)
        findings = _Check(layout, manifest, key).run(clean_dir)
    files = {name for entry in manifest.scans for name in (entry.output, entry.label) if name is not None}
    figures = {} if findings else figure_ranges((entry.measured for entry in manifest.scans), DECIMALS)
    versions = manifest.run.get("versions", {})
    return manifest, CheckReport(
        manifest.method, versions, len(files), figures, tuple(findings), unchanged=tuple(manifest.unchanged)
    )


@contextmanager
def _folder(clean: str | Path | None) -> Iterator[Path | None]:
    """The folder of the clean dataset, given as a folder or an archive."""
    if clean is None:
        yield None
    elif is_archive(clean):
        with TemporaryDirectory() as temporary:
            yield unpack_archive(Path(clean), Path(temporary))
    elif Path(clean).is_dir():
        yield Path(clean)
    else:
        raise InputError("the folder of the clean dataset does not exist", file=clean)


class _Check:
    """All checks of an output. What another finding makes impossible to judge is not listed."""

    def __init__(self, layout: Layout, manifest: Manifest, key: Key | None) -> None:
        self.layout, self.manifest, self.key = layout, manifest, key
        self.store, self.findings = NoiseStore(layout.noise, key), Findings()

    def run(self, clean_dir: Path | None) -> list[Finding]:
        layout, manifest, findings = self.layout, self.manifest, self.findings
        content = read_owned(layout.manifest, self.key)
        if content != encode_manifest(json.loads(content)):
            what = "the manifest was changed since it was written"
            findings.append(Finding(place(layout.manifest, self.key), what))
        run = run_fingerprint(manifest.run)
        for entry in track(manifest.scans, "verifying scan"):
            findings.equal("fingerprint of the run", run, entry.run, layout.manifest, entry.scan_id)
            _ScanCheck(self, entry).run(clean_dir)
        for entry in manifest.scans:
            if entry.clean_label_sha256 is not None and entry.scan_id == entry.case_scans[0]:
                with findings.collecting(layout.protected / str(entry.label), entry.case_id):
                    self.references(entry)
        with findings.collecting(layout.datalist):
            what = "SHA-256 of the datalist"
            findings.equal(what, _digest_if_there(layout.datalist), manifest.datalist_sha256, layout.datalist)
        for archive in sorted(layout.protected.glob("*.npz")):
            with findings.collecting(archive):
                self.archive(archive)
        self.kept()
        with findings.collecting(layout.protected):
            self.complete()
        return findings

    def references(self, entry: NoiseEntry) -> None:
        """A label that is not the original must be what follows from the original and the published scans."""
        label, written = self.layout.protected / str(entry.label), []
        for own, change in map(self.store.load, entry.case_scans):
            scan = read_scan(self.layout.protected / own.output)
            clean = replace(scan, voxels=undo_change(scan.voxels, change))
            clean = with_headers(clean, self.store.headers(own.scan_id))
            written.append((clean, scan.voxels))
        if renamed_label(original_label(self.store, entry), written) != label.read_bytes():
            self.findings.append(Finding(label, "the label is not the original one with new UIDs", case=entry.case_id))

    def archive(self, archive: Path) -> None:
        digests = {name: voxel_digest(voxels) for name, voxels in archive_images(archive)}
        for entry in self.manifest.scans:
            found, what = digests.get(entry.output), "SHA-256 of the protected voxels"
            self.findings.equal(what, found, entry.protected_sha256, archive, entry.scan_id)

    def kept(self) -> None:
        """The owner's files are either all encrypted or all plain, can be opened, and are the recorded ones."""
        layout, key, findings = self.layout, self.key, self.findings
        what = "is not encrypted, and files beside it are" if key else "is encrypted, and files beside it are not"
        findings += [Finding(path, what) for path in layout.misplaced(key)]
        for path in sorted(layout.models.glob(f"*{SUFFIX}")):
            with findings.collecting(path):
                read_owned(path, key)  # raises if it cannot be opened
        checkpoint, statement = place(layout.checkpoint, key), layout.statement
        with findings.collecting(checkpoint):
            if checkpoint.is_file():
                found = hashlib.sha256(read_owned(checkpoint, key)).hexdigest()
                findings.equal("SHA-256 of the checkpoint", found, self.manifest.run["checkpoint_sha256"], checkpoint)
        with findings.collecting(statement):
            if statement.is_file() and statement.read_bytes() != encode_statement(self.manifest, layout, key):
                what = "is not what follows from the manifest and the published files"
                findings.append(Finding(statement, what))

    def complete(self) -> None:
        """Nothing may be published that the manifest does not know: it could be an original."""
        layout, scans = self.layout, self.manifest.scans
        known = {layout.datalist.name, *(entry.output for entry in scans)}
        known |= {entry.label for entry in scans if entry.label is not None}
        known |= {archive.name for archive in layout.protected.glob("*.npz")}  # checked on their own
        known |= {path.name for path in layout.documents}  # the statement has their hashes
        what = "is not in the manifest; it must not be published"
        self.findings += [Finding(path, what) for path in unknown_files(layout.protected, known)]


class _ScanCheck:
    """The checks of one scan: its noise, its protected file, its label, its figures."""

    def __init__(self, whole: _Check, entry: NoiseEntry) -> None:
        self.entry, self.layout, self.manifest, self.store = entry, whole.layout, whole.manifest, whole.store
        self.findings, self.path = whole.findings, whole.layout.protected / entry.output
        self.noise, self.label = whole.store.path(entry.scan_id), whole.layout.protected / str(entry.label)
        self.change: VoxelChange | None = None  # if it is that of the entry
        self.scan: Scan | None = None  # if it is of the kind of the entry
        self.is_intact = self.is_label_intact = False

    def run(self, clean_dir: Path | None) -> None:
        with self.findings.collecting(self.noise, self.entry.scan_id):
            self.read_noise()
        with self.findings.collecting(self.path, self.entry.scan_id):
            self.read_scan()
        with self.findings.collecting(self.label, self.entry.scan_id):
            self.check_label()
        if self.scan is not None and self.change is not None and self.is_intact:
            with self.findings.collecting(self.path, self.entry.scan_id):
                self.check_noise(self.scan, self.change)
        if self.scan is not None and clean_dir is not None:
            with self.findings.collecting(clean_dir / self.entry.file, self.entry.scan_id):
                self.check_file(self.scan, clean_dir / self.entry.file)
        with self.findings.collecting(self.path, self.entry.scan_id):
            self.equal("SHA-256 of the protected file", digest_of(self.path), self.entry.output_sha256)

    def read_noise(self) -> None:
        entry, digests = self.entry, self.manifest.noise_sha256
        stored, change = self.store.load(entry.scan_id)
        claims = entry.to_dict()
        for name, found in stored.to_dict().items():
            self.findings.equal(f"{name} beside the noise", found, claims[name], self.noise, entry.scan_id)
        if digests is not None:
            found, claimed = file_digest(self.noise), digests.get(entry.scan_id)
            self.findings.equal("SHA-256 of the noise file", found, claimed, self.noise, entry.scan_id)
        if (stored.shape, stored.quantization) == (entry.shape, entry.quantization):
            self.change = change

    def read_scan(self) -> None:
        scan, entry = read_scan(self.path), self.entry
        fits = self.equal("shape", scan.voxels.shape, entry.shape)
        if self.equal("storage", scan.quantization, entry.quantization) and fits:
            self.scan = scan
        self.equal("affine", tuple(map(tuple, scan.affine.tolist())), entry.affine)
        self.is_intact = self.equal("SHA-256 of the protected voxels", scan.digest(), entry.protected_sha256)

    def check_label(self) -> None:
        what, found = "SHA-256 of the label", None if self.entry.label is None else _digest_if_there(self.label)
        claimed, case = self.entry.label_sha256, self.entry.scan_id
        self.is_label_intact = self.findings.equal(what, found, claimed, self.label, case)

    def check_noise(self, scan: Scan, change: VoxelChange) -> None:
        """The noise must restore the clean voxels, have the recorded figures, and keep to the budget."""
        entry = self.entry
        clean = replace(scan, voxels=undo_change(scan.voxels, change))
        if not self.equal("SHA-256 of the restored voxels", clean.digest(), entry.clean_sha256):
            return
        if headers := self.store.headers(entry.scan_id):  # raises where the original file would not come back
            find_format(self.path).encode(with_headers(scan, headers), clean.voxels, self.path)
        label = None
        if entry.label is not None and self.is_label_intact:
            images = self.images(scan) if is_annotation(self.label) else [scan]
            label = read_label(self.label, images, entry.case_id, LabelGeometry.IGNORE)
            if self.manifest.run["label_values"] is not None:
                label = encode_label(label, self.manifest.run["label_values"], entry.case_id, self.label)
        omits = "nodata" in entry.measured  # earlier releases counted what is no data
        measured = measure_fidelity(clean, scan, entry.window, label, omit_nodata=omits)
        if self.is_label_intact:
            self.equal("figures claimed", sorted(measured), sorted(entry.measured))
        for name, claimed in entry.measured.items():
            if name.startswith("ssim") and math.isclose(claimed, 1) and min(scan.spatial_shape) == 2:
                continue  # earlier releases claimed it for volumes of two slices, whose SSIM they did not measure
            found = measured.get(name, claimed)
            if not math.isclose(found, claimed, rel_tol=FIGURE_TOLERANCE, abs_tol=1e-12):
                self.equal(name, found, claimed)
        count = entry.quantization.count_data(clean.voxels) if omits else None
        fraction, step = changed_fraction(clean.voxels, scan.voxels, count), max(entry.window.step(entry.quantization))
        entry.budget.check(measured["linf"], fraction=fraction, step=step, case=entry.scan_id)

    def images(self, scan: Scan) -> list[Scan]:
        """The scans of the case; its label may refer to one of them."""
        names = [self.store.entry(scan_id).output for scan_id in self.entry.case_scans]
        return [scan if name == self.entry.output else read_scan(self.layout.protected / name) for name in names]

    def check_file(self, scan: Scan, clean_file: Path) -> None:
        """The protected file must be the clean file with other voxels."""
        clean = read_scan(clean_file)
        self.equal("SHA-256 of the clean voxels", clean.digest(), self.entry.clean_sha256)
        if not holds(self.path, find_format(clean_file).encode(clean, scan.voxels, self.path)):
            what = "bytes outside the voxels differ from those of the clean file"
            self.findings.append(Finding(self.path, what, case=self.entry.scan_id))

    def equal(self, what: str, found: object, claimed: object) -> bool:
        return self.findings.equal(what, found, claimed, self.path, self.entry.scan_id)


def _digest_if_there(path: Path) -> str | None:
    """The digest of a published file; None where there is none."""
    return digest_of(path) if path.exists() else None

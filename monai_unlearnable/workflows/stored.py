# SPDX-License-Identifier: Apache-2.0
"""Put stored noise onto clean scans again, and take it off; needs no training stack."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from monai_unlearnable import processes
from monai_unlearnable.budget import apply_change, undo_change
from monai_unlearnable.errors import KeyMismatchError, OutputError, VerificationError
from monai_unlearnable.noise import KeyRing, Manifest, NoiseEntry, NoiseStore
from monai_unlearnable.noise.vault import Key
from monai_unlearnable.progress import track
from monai_unlearnable.scans.formats import original_headers, read_scan, with_headers
from monai_unlearnable.scans.scan import voxel_digest
from monai_unlearnable.workflows.layout import (
    Layout,
    copy_file,
    file_digest,
    log_remarks,
    noise_digests,
    publish_scan,
    write_datalist,
)
from monai_unlearnable.workflows.locking import locked
from monai_unlearnable.workflows.statement import write_statement

__all__ = ["apply_stored", "restore"]


def apply_stored(
    noise_dir: str | Path,
    dataset_dir: str | Path,
    output_dir: str | Path,
    overwrite: bool = False,
    key: Key | None = None,
) -> Manifest:
    """Protect clean scans with noise made before; gives the very voxels that the run which made it wrote.

    The records name the files as they are written here: another release of a compressor may pack the same voxels in
    other bytes, and a clean file may have got another header since.

    Where several processes work together each takes its share of the scans, and the first one writes the manifest.

    Args:
        noise_dir: a ``noise/`` folder with its manifest.
        dataset_dir: the clean dataset.
        output_dir: gets ``protected/``, the noise and the manifest.
        overwrite: whether a finished output may be replaced.
        key: that the noise is sealed with, and the output will be.

    Raises:
        KeyMismatchError: naming the file, when it takes another key, or none.
        NoiseMismatchError: naming the scan, when clean voxels are not those that the noise was made for.
        VerificationError: naming the case, when a label is not the one that was protected.
        OutputError: when the output exists.
    """
    store, layout = NoiseStore(noise_dir, key), Layout(Path(output_dir))
    manifest = Manifest.load(store.folder / layout.manifest.name, key)
    first = processes.rank() == 0
    with locked(layout.root) if first else nullcontext():
        if first and layout.noise.resolve() != store.folder.resolve():
            layout.begin(overwrite, key)
        processes.wait()
        return _apply_all(store, manifest, Path(dataset_dir), layout)


def _apply_all(store: NoiseStore, manifest: Manifest, dataset: Path, layout: Layout) -> Manifest:
    remarks: set[str] = set()
    own = processes.share(manifest.scans)
    shown = track(own, "apply") if processes.rank() == 0 else own
    scans = tuple(processes.gather_shares([_apply_one(store, entry, dataset, layout, remarks) for entry in shown]))
    remarks = set().union(*processes.gather(remarks))
    if processes.rank() == 0:
        log_remarks(remarks)
        digests = noise_digests(NoiseStore(layout.noise, store.key), scans)
        manifest = Manifest(manifest.run, scans, write_datalist(scans, layout.datalist), digests)
        write_statement(manifest, layout, store.key)
        manifest.save(layout.manifest, store.key)
    processes.wait()
    return manifest if processes.rank() == 0 else Manifest.load(layout.manifest, store.key)


def _apply_one(store: NoiseStore, entry: NoiseEntry, dataset: Path, layout: Layout, remarks: set[str]) -> NoiseEntry:
    """Write a protected file with its label and noise, and return its record."""
    scan, target = read_scan(dataset / entry.file), layout.protected / entry.output
    noise = NoiseStore(layout.noise, store.key)
    own, change = store.load(entry.scan_id)
    store.bind(own, scan.digest())
    voxels = apply_change(scan.voxels, change)
    store.bind(entry, voxel_digest(voxels), protected=True)
    remarks.update(scan.remarks)
    _copy_label(entry, dataset, layout.protected)
    publish_scan(scan, voxels, target)
    digest = file_digest(target)
    if digest != own.output_sha256:
        noise.save(replace(own, output_sha256=digest), change, original_headers(scan) if change.steps.size else b"")
    elif noise.folder.resolve() != store.folder.resolve():
        copy_file(store.path(entry.scan_id), noise.path(entry.scan_id))
    return replace(entry, output_sha256=digest)


def restore(
    output_dir: str | Path, destination: str | Path, overwrite: bool = False, key: Key | None = None
) -> tuple[NoiseEntry, ...]:
    """Write the original voxels of a protected dataset, bit for bit, with labels, under their relative names.

    The datalist is that of the protected dataset, so that classes and channels stay with their files.

    Args:
        output_dir: an output with ``protected/`` and ``noise/``.
        destination: folder for the restored dataset.
        overwrite: whether files there may be replaced.
        key: that the noise is sealed with; a key ring restores the cases that it has keys for.

    Returns:
        The records of the restored scans.

    Raises:
        KeyMismatchError: naming the file, when it takes another key, or none.
        NoiseMismatchError: naming the scan, when the protected voxels were changed since.
        VerificationError: naming the case, when a label was changed since.
        OutputError: when a file exists already.
    """
    layout = Layout(Path(output_dir))
    store = NoiseStore(layout.noise, key)
    scans = _shared(store) if isinstance(key, KeyRing) else Manifest.load(layout.manifest, key).scans
    datalist = Path(destination) / layout.datalist.name
    for target in (*(Path(destination) / entry.output for entry in scans), datalist):
        if target.exists() and not overwrite:
            raise OutputError("the file exists already; set overwrite to replace it", file=target)
    for entry in track(scans, "restore"):
        scan = read_scan(layout.protected / entry.output)
        own, change = store.load(entry.scan_id)
        store.bind(own, scan.digest(), protected=True)
        voxels = undo_change(scan.voxels, change)
        store.bind(entry, voxel_digest(voxels))
        _copy_label(entry, layout.protected, Path(destination))
        publish_scan(with_headers(scan, store.headers(entry.scan_id)), voxels, Path(destination) / entry.output)
    write_datalist(scans, datalist)
    return scans


def _shared(store: NoiseStore) -> tuple[NoiseEntry, ...]:
    """What a key ring opens, case by case: the manifest is not among it."""
    if not store.ids():
        raise KeyMismatchError("the key ring has no key for anything in it", file=store.folder)
    cases = dict.fromkeys(store.entry(scan_id).case_id for scan_id in store.ids())
    return tuple(store.entry(scan_id) for case_id in cases for scan_id in store.of_case(case_id))


def _copy_label(entry: NoiseEntry, source: Path, target: Path) -> None:
    if entry.label is None:
        return
    if file_digest(source / entry.label) != entry.label_sha256:
        reason = "the label is not the one that was protected"
        raise VerificationError(reason, case=entry.case_id, file=source / entry.label)
    copy_file(source / entry.label, target / entry.label)

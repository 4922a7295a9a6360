# SPDX-License-Identifier: Apache-2.0
"""Put stored noise onto clean scans again, and take it off; the training stack is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from numpy.typing import NDArray

from monai_unlearnable.budget import VoxelChange, apply_change, undo_change
from monai_unlearnable.crypto import Key, KeyRing, load_key
from monai_unlearnable.data import read_label
from monai_unlearnable.data.dicom import is_annotation
from monai_unlearnable.data.formats import digest_of, files_of, original_headers, read_scan, with_headers
from monai_unlearnable.data.scan import Scan, voxel_digest
from monai_unlearnable.errors import InputError, KeyMismatchError, OutputError, VerificationError
from monai_unlearnable.noise import Manifest, NoiseEntry, NoiseStore
from monai_unlearnable.publishing.label_files import (
    PublishedLabel,
    check_label,
    label_remarks,
    publish_label,
    restore_label,
)
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.places import check_destination, check_output
from monai_unlearnable.publishing.statement import write_records
from monai_unlearnable.publishing.writing import copy_file, log_remarks, publish_scan, write_datalist
from monai_unlearnable.utils import distributed
from monai_unlearnable.utils.files import remove
from monai_unlearnable.utils.grouping import grouped
from monai_unlearnable.utils.progress import Stage, track

__all__ = ["apply_stored", "restore"]


def apply_stored(
    noise_dir: str | Path,
    dataset_dir: str | Path,
    output_dir: str | Path,
    overwrite: bool = False,
    key: Key | None = None,
) -> Manifest:
    """Protect clean scans with stored noise; the voxels equal those that the original run wrote.

    Records are made for the files as they are written here: another release of a compressor may pack the same voxels
    into other bytes, and the header of a clean file may have changed since.

    Where several processes work together each takes its share of the scans, and the first one writes the manifest.

    Args:
        noise_dir: a ``noise/`` folder with its manifest.
        dataset_dir: the clean dataset.
        output_dir: folder for ``protected/``, the noise and the manifest.
        overwrite: whether a finished output may be replaced.
        key: key that the noise is encrypted with, and the output will be.

    Raises:
        KeyMismatchError: naming the file, when it takes another key, or none.
        NoiseMismatchError: naming the scan, when clean voxels are not those that the noise was made for.
        VerificationError: naming the case, when a label is not the one that was protected.
        LabelError: naming the case, when a DICOM segmentation does not belong to its current images.
        OutputError: when the output exists, or lies where it must not.
    """
    store, layout = NoiseStore(noise_dir, key), Layout(output_dir)
    manifest = Manifest.load(store.folder / layout.manifest.name, key)
    check_output(output_dir, dataset_dir)
    cases = [list(case) for _, case in groupby(manifest.scans, lambda entry: entry.case_id)]
    with layout.locked():
        if layout.noise.resolve() != store.folder.resolve():
            layout.begin(overwrite, key)
        remarks: set[str] = set()
        own = []
        with Stage("publishing case", len(cases)) as stage:
            for case in distributed.share(cases):
                own.append(_apply_case(store, case, Path(dataset_dir), layout, remarks))
                stage.advance(distributed.count())  # the others are about as far
        scans = [entry for case in distributed.gather_shares(own) for entry in case]
        log_remarks(remarks)
        if distributed.rank() == 0:
            write_records(manifest.run, scans, NoiseStore(layout.noise, key), layout, Path(dataset_dir))
        distributed.wait()
    return Manifest.load(layout.manifest, key)


def _apply_case(
    store: NoiseStore, entries: Sequence[NoiseEntry], dataset: Path, layout: Layout, remarks: set[str]
) -> list[NoiseEntry]:
    """Write the protected files of a case with label and noise, and return their records."""
    noise, is_copy = NoiseStore(layout.noise, store.key), layout.noise.resolve() != store.folder.resolve()
    loaded = [_load(store, entry, dataset) for entry in entries]
    remarks.update(remark for scan, *_ in loaded for remark in scan.remarks)
    label = _apply_label(entries[0], [(scan, voxels) for scan, voxels, *_ in loaded], dataset, layout, remarks)
    records = []
    for index, (scan, voxels, own, change) in enumerate(loaded):
        target = layout.protected / own.output
        publish_scan(scan, voxels, target)
        written, clean = digest_of(target), digest_of(scan.path)
        record = replace(own, output_sha256=written, file_sha256=clean)
        record = replace(record, label_sha256=label.sha256, clean_label_sha256=label.clean_sha256)
        if record != own:
            headers = original_headers(scan) if change.steps.size else b""
            noise.save(record, change, headers, b"" if index else label.original)
        elif is_copy:
            copy_file(store.path(own.scan_id), noise.path(own.scan_id))
        records.append(record)
    return records


def _load(store: NoiseStore, entry: NoiseEntry, dataset: Path) -> tuple[Scan, NDArray, NoiseEntry, VoxelChange]:
    """A clean scan, its protected voxels, and its stored records."""
    scan = read_scan(dataset / entry.file)
    own, change = store.load(entry.scan_id)
    store.bind(own, scan.digest(), file=scan.path)
    voxels = apply_change(scan.voxels, change)
    store.bind(entry, voxel_digest(voxels), protected=True)
    return scan, voxels, own, change


def _apply_label(
    entry: NoiseEntry, written: Sequence[tuple[Scan, NDArray]], dataset: Path, layout: Layout, remarks: set[str]
) -> PublishedLabel:
    if entry.label is None:
        return PublishedLabel()
    path = dataset / entry.label
    check_label(entry, path, entry.original_label_sha256)
    if is_annotation(path):
        read_label(path, [scan for scan, _ in written], entry.case_id)  # images may have new UIDs since
    remarks.update(label_remarks(path))
    return publish_label(path, layout.protected / entry.label, written)


def restore(
    output_dir: str | Path, destination: str | Path, overwrite: bool = False, key: Key | str | Path | None = None
) -> tuple[NoiseEntry, ...]:
    """Write the original voxels of a protected dataset, bit for bit, with labels, under their relative names.

    The datalist is that of the protected dataset, so that classes and channels stay with their files. A case of which
    something was changed since, or cannot be read, is omitted; the others are restored, and the error comes last.

    Args:
        output_dir: an output with ``protected/`` and ``noise/``.
        destination: folder for the restored dataset.
        overwrite: whether files there may be replaced.
        key: key that the noise is encrypted with, or its file; a key ring restores the cases that it has keys for.

    Returns:
        The records of the restored scans.

    Raises:
        KeyMismatchError: naming the file, when it takes another key, or none.
        NoiseMismatchError: naming the scan, when the protected voxels were changed since.
        VerificationError: naming the case, when a label was changed since.
        ScanError: naming the file, when a protected file cannot be read.
        NoiseError: naming the file, when stored noise cannot be read.
        OutputError: when a file exists already, or the destination is in the output or among the originals.
    """
    layout, key = Layout(output_dir), load_key(key)
    store = NoiseStore(layout.noise, key)
    scans = _shared(store) if isinstance(key, KeyRing) else Manifest.load(layout.manifest, key).scans
    check_destination(scans, layout.root, destination)
    datalist = Path(destination) / layout.datalist.name
    files = (file for entry in scans for file in files_of(layout.protected / entry.output))
    names = {*(file.relative_to(layout.protected) for file in files), *(Path(entry.output) for entry in scans)}
    for target in (*(Path(destination) / name for name in sorted(names)), datalist):
        if target.exists() and not overwrite:
            raise OutputError(
                "the file exists already; choose another folder, or set overwrite (--overwrite) to replace it",
                file=target,
            )
    write_datalist(scans, datalist)  # first: it says what the folder is, should the rest be stopped
    cases, whole, failed = grouped(scans, lambda entry: entry.case_id), [], []
    for entries in track(list(cases.values()), "restoring case"):
        try:
            _restore_case(store, entries, layout.protected, Path(destination))
            whole += entries
        except (InputError, VerificationError) as error:  # about files of this case
            failed.append(error)
    if failed:
        remove(datalist)
        if whole:
            write_datalist(whole, datalist)
        first, count = failed[0], f"{len(cases) - len(failed)} of {len(cases)} cases are restored"
        reason = f"{first.reason}; {count}, and verify tells what is wrong with the others"
        raise type(first)(reason, case=first.case, file=first.file) from first
    return scans


def _restore_case(store: NoiseStore, entries: Sequence[NoiseEntry], protected: Path, destination: Path) -> None:
    """Write the original files of a case, once all of it is there."""
    restored = []
    for entry in entries:
        scan = read_scan(protected / entry.output)
        own, change = store.load(entry.scan_id)
        store.bind(own, scan.digest(), protected=True, file=scan.path)
        voxels = undo_change(scan.voxels, change)
        store.bind(entry, voxel_digest(voxels), file=store.path(entry.scan_id))
        restored.append((with_headers(scan, store.headers(entry.scan_id)), voxels, destination / entry.output))
    restore_label(entries[0], store, protected, destination)
    for scan, voxels, target in restored:
        publish_scan(scan, voxels, target)


def _shared(store: NoiseStore) -> tuple[NoiseEntry, ...]:
    """What a key ring opens, case by case; it does not open the manifest."""
    if not store.ids():
        raise KeyMismatchError("the key ring has no key for anything in it", file=store.folder)
    cases = dict.fromkeys(store.entry(scan_id).case_id for scan_id in store.ids())
    return tuple(store.entry(scan_id) for case_id in cases for scan_id in store.of_case(case_id))

# SPDX-License-Identifier: Apache-2.0
"""Cases published with their noise: protected files, labels, and the records that undo and prove them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.budget import Budget, VoxelChange, apply_noise, changed_fraction
from monai_unlearnable.crypto.encrypted import Key, place, read_owned
from monai_unlearnable.data import Case, LoadedCase, output_name, read_case, stem
from monai_unlearnable.data.formats import original_headers
from monai_unlearnable.errors import KeyMismatchError, LabelError, OutputError, ScanError
from monai_unlearnable.intensity import WindowRule
from monai_unlearnable.metrics import measure_fidelity
from monai_unlearnable.noise import Manifest, NoiseEntry, NoiseStore, fingerprint, package_versions
from monai_unlearnable.perturbers import InputSettings, Perturber, load_perturber, save_perturber
from monai_unlearnable.perturbers.base import encode_perturber
from monai_unlearnable.perturbers.inference import generate_noises
from monai_unlearnable.publishing.labels import PublishedLabel, label_remarks, publish_label
from monai_unlearnable.publishing.layout import (
    Layout,
    file_digest,
    log_remarks,
    noise_digests,
    publish_scan,
    write_datalist,
)
from monai_unlearnable.publishing.statement import write_statement
from monai_unlearnable.utils.config import describe
from monai_unlearnable.utils.files import unlock
from monai_unlearnable.utils.progress import track

__all__ = ["OTHER_RUN", "CaseWriter", "Publication", "label_digest"]

logger = logging.getLogger(__name__)

OTHER_RUN = "what is there belongs to a run with other settings; choose another folder or set overwrite"


@dataclass(frozen=True)
class CaseWriter:
    """Writes cases to an output folder, each scan as reloaded from disk held to the budget and recorded.

    Args:
        layout: of the output.
        store: for the records.
        budget: what every scan is held to.
        run: fingerprint of what decides on the noise; cases of another run are refused.
        overwrite: whether they are replaced instead.
    """

    layout: Layout
    store: NoiseStore
    budget: Budget
    run: str
    overwrite: bool = False

    def is_done(self, loaded: LoadedCase, original_label: str | None) -> bool:
        """Whether the case is published as this run would publish it.

        Args:
            loaded: the case.
            original_label: digest of its label.

        Raises:
            OutputError: naming case and file, when another run published it.
            KeyMismatchError: naming the file, when the record takes another key.
        """
        return all(self._is_stored(loaded, index, original_label) for index in range(len(loaded.scans)))

    def _is_stored(self, loaded: LoadedCase, index: int, original_label: str | None) -> bool:
        scan_id = stem(loaded.case.images[index])
        if scan_id not in self.store:
            return False
        try:
            entry = self.store.entry(scan_id)
        except KeyMismatchError:
            if not self.overwrite:
                raise
            return False
        if entry.run != self.run and not self.overwrite:
            raise OutputError(OTHER_RUN, case=scan_id, file=self.store.path(scan_id))
        made_of = (entry.run, entry.clean_sha256, entry.original_label_sha256, entry.target)
        case = loaded.case
        if made_of != (self.run, loaded.scans[index].digest(), original_label, case.target):
            return False
        # Voxels are not all that is published: somebody may have taken a name out of the header since.
        same_file = entry.file_sha256 in (None, file_digest(case.root / case.images[index]))
        # Nor are voxels of this scan all that a label follows from: it may refer to the others of the case.
        label = None if entry.label is None else self.layout.protected / entry.label
        same_label = label is None or (label.exists() and file_digest(label) == entry.label_sha256)
        return same_file and same_label and (self.layout.protected / entry.output).exists()

    def write(self, loaded: LoadedCase, noise: NDArray, original_label: str | None) -> None:
        """Write the protected files of a case, its label and the records of its scans.

        Args:
            loaded: the case.
            noise: normalized intensity, (C, spatial...), the channels of all scans one after the other.
            original_label: digest of the label as it was when the case was read.

        Raises:
            LabelError: naming the case, when its label was replaced since.
            UnlearnableError: naming case and file, when noise does not fit the file, or a file cannot be written.
        """
        case, label = loaded.case, PublishedLabel()
        parts = np.split(noise, np.cumsum([len(scan.voxels) for scan in loaded.scans])[:-1])
        changed = [self._change(loaded, index, part) for index, part in enumerate(parts)]
        if case.label is not None:
            written = ((scan, voxels) for scan, (voxels, _) in zip(loaded.scans, changed, strict=True))
            label = publish_label(case.root / case.label, self.layout.protected / case.label, written)
            if (label.clean_sha256 or label.sha256) != original_label:
                reason = "the label was replaced while its case was being protected; run again"
                raise LabelError(reason, case=case.case_id, file=case.root / case.label)
        for index, (voxels, change) in enumerate(changed):
            self._publish_scan(loaded, index, voxels, change, label)

    def _change(self, loaded: LoadedCase, index: int, noise: NDArray) -> tuple[NDArray, VoxelChange]:
        scan, window, case = loaded.scans[index], loaded.windows[index], loaded.case.case_id
        return apply_noise(
            scan.voxels, noise, budget=self.budget, window=window, quantization=scan.quantization, case=case
        )

    def _publish_scan(
        self, loaded: LoadedCase, index: int, voxels: NDArray, change: VoxelChange, label: PublishedLabel
    ) -> None:
        case, scan, window = loaded.case, loaded.scans[index], loaded.windows[index]
        name = case.images[index]
        target = self.layout.protected / output_name(name)
        written = publish_scan(scan, voxels, target)
        measured = measure_fidelity(scan, written, window, loaded.label)
        fraction, step = changed_fraction(scan.voxels, written.voxels), max(window.step(scan.quantization))
        self.budget.check(measured["linf"], fraction=fraction, step=step, case=case.case_id)
        entry = NoiseEntry(
            scan_id=stem(name),
            case_id=case.case_id,
            case_scans=tuple(stem(other) for other in case.images),
            file=name,
            output=output_name(name),
            output_sha256=file_digest(target),
            label=case.label,
            label_sha256=label.sha256,
            clean_label_sha256=label.clean_sha256,
            target=case.target,
            file_sha256=file_digest(case.root / name),
            shape=scan.voxels.shape,
            affine=tuple(tuple(row) for row in scan.affine.tolist()),
            quantization=scan.quantization,
            window=window,
            budget=self.budget,
            clean_sha256=scan.digest(),
            protected_sha256=written.digest(),
            run=self.run,
            measured=measured,
        )
        headers = original_headers(scan) if change.steps.size else b""
        self.store.save(entry, change, headers, b"" if index else label.original)


def label_digest(case: Case) -> str | None:
    """SHA-256 of the label file of a case; None where it has none.

    Raises:
        LabelError: naming case and file, when it cannot be read.
    """
    if case.label is None:
        return None
    try:
        return file_digest(case.root / case.label)
    except ScanError as error:
        raise LabelError(error.reason, case=case.case_id, file=error.file) from error


class Publication:
    """Publishes cases with a perturber that needs no more training: ``protected/``, ``noise/`` and ``models/``.

    Under ``torchrun`` each process writes its own share of the cases and the first one writes the manifest. A run that
    was stopped goes on where it stopped: scans whose noise is stored are not made again, unless they changed since.

    Args:
        cases: what to protect.
        perturber: makes the noise; trained already where it needs training.
        output_dir: where to.
        window: rule for the intensity windows.
        budget: what every scan is held to.
        label_values: stored label value of each class, background first.
        config: settings to record in the manifest.
        overwrite: whether a finished output may be replaced.
        key: the owner's, to seal noise, manifest and checkpoint and to sign the statement.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        perturber: Perturber,
        output_dir: str | Path,
        window: WindowRule,
        budget: Budget,
        label_values: Sequence[int] | None = None,
        config: dict[str, Any] | None = None,
        overwrite: bool = False,
        key: Key | None = None,
    ) -> None:
        self.cases, self.perturber, self.window, self.budget = list(cases), perturber, window, budget
        self.layout, self.label_values, self.overwrite = Layout(Path(output_dir)), label_values, overwrite
        self.config = json.loads(json.dumps(config or {}))
        self.key, self.store = key, NoiseStore(self.layout.noise, key)
        self.remarks: set[str] = set()

    def begin(self) -> None:
        """Refuse an output that is complete; call it before training, which would be in vain.

        Raises:
            OutputError: naming the file, see :meth:`~monai_unlearnable.publishing.layout.Layout.begin`.
        """
        if idist.get_rank() == 0:
            self.layout.begin(self.overwrite, self.key)

    def run(self) -> Manifest:
        """Protect all cases.

        Returns:
            The manifest, also written to ``noise/``.

        Raises:
            UnlearnableError: naming case and file; what was written for other cases stays and is reused.
        """
        self.begin()
        try:
            return self._run()
        finally:
            unlock(self.layout.root)

    def _run(self) -> Manifest:
        if idist.get_rank() == 0:
            self._save_checkpoint()
        idist.barrier()
        # Always from the file: what is published comes from the checkpoint that is recorded.
        device = next((p.device for p in self.perturber.parameters()), "cpu")
        perturber = load_perturber(self.checkpoint, device, self.key)
        run = self._provenance()
        # Batches are the same on any number of processes and after any interruption, and so is what they round to.
        own = _batches(self.cases, perturber.batch_size)[idist.get_rank() :: idist.get_world_size()]
        writer = CaseWriter(self.layout, self.store, self.budget, fingerprint(run), self.overwrite)
        for cases in track(own, "protect") if idist.get_rank() == 0 else own:
            self._protect(cases, perturber, writer)
        log_remarks(self.remarks)
        idist.barrier()
        if idist.get_rank() == 0:
            self._finish(run)
        idist.barrier()
        return Manifest.load(self.layout.manifest, self.key)

    @property
    def checkpoint(self) -> Path:
        """The file of the perturber that the noise comes from, if it is not sealed."""
        return self.layout.checkpoint

    def _provenance(self) -> dict[str, Any]:
        return {
            "method": type(self.perturber).__name__,
            "perturber": describe(self.perturber),
            "checkpoint_sha256": hashlib.sha256(read_owned(self.checkpoint, self.key)).hexdigest(),
            "window": describe(self.window),
            "budget": asdict(self.budget),
            "label_values": None if self.label_values is None else list(self.label_values),
            "config": self.config,
            "versions": package_versions(),
        }

    def _protect(self, cases: Sequence[Case], perturber: Perturber, writer: CaseWriter) -> None:
        labels = {case.case_id: label_digest(case) for case in cases}
        loaded = [read_case(case, self.window, self.label_values) for case in cases]
        for case in loaded:
            _refuse_other_kind(case, perturber)
        self.remarks.update(remark for case in loaded for scan in case.scans for remark in scan.remarks)
        paths = (case.root / case.label for case in cases if case.label is not None)
        self.remarks.update(remark for path in paths for remark in label_remarks(path))
        done = {case.case.case_id for case in loaded if writer.is_done(case, labels[case.case.case_id])}
        if len(done) == len(loaded):
            return
        for _, alike in groupby(loaded, lambda case: [scan.voxels.shape for scan in case.scans]):
            batch = list(alike)
            ids, images = [case.case.case_id for case in batch], [case.image for case in batch]
            noises = generate_noises(perturber, images, ids, [case.target for case in batch])
            for case, noise in zip(batch, noises, strict=True):
                if case.case.case_id not in done:
                    writer.write(case, noise, labels[case.case.case_id])

    def _save_checkpoint(self) -> None:
        settings, path = InputSettings(self.window, self.label_values), place(self.checkpoint, self.key)
        matters = path.is_file() and self.store.ids() and not self.overwrite
        if matters and read_owned(path, self.key) != encode_perturber(self.perturber, settings):
            raise OutputError(OTHER_RUN, file=path)
        save_perturber(self.perturber, path, settings, self.key)

    def _finish(self, run: dict[str, Any]) -> None:
        scans = tuple(self.store.entry(stem(name)) for case in self.cases for name in case.images)
        digests = noise_digests(self.store, scans)
        manifest = Manifest(run, scans, write_datalist(scans, self.layout.datalist), digests)
        write_statement(manifest, self.layout, self.key)
        manifest.save(self.layout.manifest, self.key)
        logger.info("protected %d scans of %d cases", len(scans), len(self.cases))


def _batches(cases: Sequence[Case], size: int) -> list[Sequence[Case]]:
    """Cases in their order, ``size`` at a time."""
    return [cases[start : start + size] for start in range(0, len(cases), size)]


def _refuse_other_kind(loaded: LoadedCase, perturber: Perturber) -> None:
    """Files may have been replaced since the method was fitted to the dataset."""
    made_for = next(iter(getattr(perturber, "networks", ())), perturber)
    channels = sum(len(scan.voxels) for scan in loaded.scans)
    for what, found in (("in_channels", channels), ("spatial_dims", len(loaded.scans[0].spatial_shape))):
        if (known := getattr(made_for, what, found)) != found:
            reason = f"{what} is {found}, and {known} where the method was made"
            file = loaded.case.root / loaded.case.images[0]
            raise ScanError(reason, case=loaded.case.case_id, file=file, value=found, limit=known)

# SPDX-License-Identifier: Apache-2.0
"""Cases published with their noise: protected files, labels, and the records that undo and prove them."""

from __future__ import annotations

import hashlib
import logging
from collections import ChainMap
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from monai_unlearnable.budget import Budget, VoxelChange, changed_fraction
from monai_unlearnable.crypto.encrypted import Key, place, read_owned
from monai_unlearnable.data import Case, Grid, LabelGeometry, LoadedCase, match_classes, output_name, read_case, stem
from monai_unlearnable.data.formats import digest_of, original_headers
from monai_unlearnable.data.spread import exceeding_spread, spread_remark
from monai_unlearnable.errors import KeyMismatchError, LabelError, NoiseError, OutputError, ScanError
from monai_unlearnable.intensity import WindowRule
from monai_unlearnable.metrics import measure_fidelity
from monai_unlearnable.noise import DECIDED, Manifest, NoiseEntry, NoiseStore, package_versions, run_fingerprint
from monai_unlearnable.perturbers import InputSettings, Perturber, load_perturber, save_perturber
from monai_unlearnable.perturbers.base import encode_perturber
from monai_unlearnable.perturbers.inference import generate_noises
from monai_unlearnable.publishing.label_files import PublishedLabel, label_remarks, publish_label
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.statement import MARK, write_records
from monai_unlearnable.publishing.writing import log_remarks, publish_scan
from monai_unlearnable.utils import distributed
from monai_unlearnable.utils.arrays import fits_channels
from monai_unlearnable.utils.descriptions import describe
from monai_unlearnable.utils.locks import unlock
from monai_unlearnable.utils.progress import Stage

__all__ = ["Publication"]

logger = logging.getLogger(__name__)

OTHER_RUN = "the output belongs to a run with other settings; choose another folder or set overwrite (--overwrite)"


class Publication:
    """Publishes cases with a trained perturber: ``protected/``, ``noise/`` and ``models/``.

    Each scan, as reloaded from disk, is held to the budget and recorded. Under ``torchrun`` each process writes its
    share of the cases and the first one writes the manifest. A run that was stopped goes on where it stopped: scans
    whose noise is stored are not made again, unless they changed since.

    Args:
        cases: the cases to protect.
        perturber: source of the noise, trained already if it needs training.
        output_dir: folder of the output.
        window: rule for the intensity windows.
        budget: budget of every scan.
        label_values: stored label value of each class, background first.
        config: JSON-ready settings to record in the manifest.
        overwrite: whether a finished output, or cases of another run, may be replaced.
        key: the owner's key, to encrypt noise, manifest and checkpoint with and to sign the statement.
        label_geometry: whether labels must lie where their images lie, see
            :func:`~monai_unlearnable.data.labels.read_label`.
        class_names: names of the classes that the perturber knows, see :class:`~monai_unlearnable.data.Case`; by
            default those of the cases. What is published keeps the numbers of the cases.

    Raises:
        LabelError: naming the first case of a class that the perturber does not know.
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
        label_geometry: str = LabelGeometry.MATCH,
        class_names: tuple[tuple[str, ...], ...] = (),
    ) -> None:
        self.cases, self.perturber, self.window, self.budget = list(cases), perturber, window, budget
        self.layout, self.label_values, self.overwrite = Layout(output_dir), label_values, overwrite
        self.label_geometry = label_geometry
        self.class_names = class_names or (self.cases[0].class_names if self.cases else ())
        known = match_classes(self.cases, self.class_names, "the method")
        self.targets = {case.case_id: case.target for case in known}
        self.config, self.key, self.store = config or {}, key, NoiseStore(self.layout.noise, key)
        self.remarks: set[str] = set()
        self.exceeding: dict[str, str] = {}  # scans whose noise may exceed the spread of the labeled voxels

    def run(self) -> Manifest:
        """Protect all cases.

        Returns:
            The manifest, also written to ``noise/``.

        Raises:
            InputError: when the perturber does not take the tasks of the cases.
            OutputError: naming the file, see :meth:`~monai_unlearnable.publishing.layout.Layout.begin`.
            UnlearnableError: naming case and file; what was written for other cases stays and is reused.
        """
        self.perturber.check_tasks(self.cases[0].tasks if self.cases else ())
        self.layout.begin(self.overwrite, self.key)
        try:
            return self._run()
        finally:
            unlock(self.layout.root)

    def _run(self) -> Manifest:
        if distributed.rank() == 0:
            self._save_checkpoint()
        distributed.wait()
        # Always from the file: what is published comes from the checkpoint that is recorded.
        device = next((p.device for p in self.perturber.parameters()), "cpu")
        perturber = load_perturber(self.layout.checkpoint, device, self.key)
        # Batches, and so how they are rounded, are the same on any number of processes and after any interruption.
        starts = range(0, len(self.cases), perturber.batch_size)
        batches = [self.cases[start : start + perturber.batch_size] for start in starts]
        with Stage("publishing case", len(self.cases)) as stage:
            for cases in distributed.share(batches):
                self._protect(cases, perturber)
                stage.advance(len(cases) * distributed.count())  # the others are about as far
        self._tell_remarks()  # of all processes: they are done
        manifest = self._write_records() if distributed.rank() == 0 else None
        distributed.wait()
        return Manifest.load(self.layout.manifest, self.key) if manifest is None else manifest

    def _tell_remarks(self) -> None:
        exceeding = dict(ChainMap(*distributed.gather(self.exceeding)))
        if exceeding:
            self.remarks.add(spread_remark(exceeding, sum(len(case.images) for case in self.cases)))
        log_remarks(self.remarks)

    def _write_records(self) -> Manifest:
        scans = [self.store.entry(stem(name)) for case in self.cases for name in case.images]
        manifest = write_records(self.provenance, scans, self.store, self.layout, self.cases[0].root)
        logger.info("protected %d scans of %d cases", len(scans), len(self.cases))
        return manifest

    def _save_checkpoint(self) -> None:
        settings = InputSettings(self.window, self.label_values, self.budget.fraction, self.class_names)
        path = place(self.layout.checkpoint, self.key)
        matters = path.is_file() and self.store.ids() and not self.overwrite
        if matters and read_owned(path, self.key) != encode_perturber(self.perturber, settings):
            raise OutputError(OTHER_RUN, file=path)
        save_perturber(self.perturber, path, settings, self.key)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Everything that decides on the noise, for the manifest; the checkpoint must be written before."""
        is_traceable, decided = self.perturber.draws_mark and self.key is not None, self.perturber.decided()
        return {
            **({DECIDED: decided} if decided else {}),
            **({MARK: self.perturber.mark_digest()} if is_traceable else {}),
            "method": type(self.perturber).__name__,
            "perturber": describe(self.perturber),
            "checkpoint_sha256": hashlib.sha256(read_owned(self.layout.checkpoint, self.key)).hexdigest(),
            "window": describe(self.window),
            "budget": asdict(self.budget),
            "label_values": None if self.label_values is None else list(self.label_values),
            "config": self.config,
            "versions": package_versions(),
        }

    @cached_property
    def fingerprint(self) -> str:
        """What tells the run apart from others with other settings."""
        return run_fingerprint(self.provenance)

    def _protect(self, cases: Sequence[Case], perturber: Perturber) -> None:
        labels = {case.case_id: _label_digest(case) for case in cases}
        loaded = [read_case(case, self.window, self.label_values, self.label_geometry) for case in cases]
        for case in loaded:
            _refuse_other_kind(case, perturber)
            self.remarks.update(case.remarks)
            self.exceeding.update(exceeding_spread(case, min(self.budget.epsilon, perturber.epsilon)))
            if case.case.label is not None:
                self.remarks.update(label_remarks(case.case.root / case.case.label))
        done = {case.case.case_id for case in loaded if self._is_done(case, labels[case.case.case_id])}
        if len(done) == len(loaded):
            return

        grids = [case.grid_after(perturber.crop) if perturber.uses_grid else None for case in loaded]

        def kind(pair: tuple[LoadedCase, Grid | None]) -> Any:
            return [scan.voxels.shape for scan in pair[0].scans], pair[1]

        for (_, grid), alike in groupby(zip(loaded, grids, strict=True), kind):
            batch = [case for case, _ in alike]
            ids, images = [case.case.case_id for case in batch], [case.image for case in batch]
            source = perturber if grid is None else perturber.for_grid(grid)
            labels_of = [self.targets[case.case.case_id] if case.label is None else case.label for case in batch]
            noises = generate_noises(source, images, ids, labels_of)
            for case, noise in zip(batch, noises, strict=True):
                if case.case.case_id not in done:
                    self._write(case, noise, labels[case.case.case_id])

    def _is_done(self, loaded: LoadedCase, original_label: str | None) -> bool:
        """Whether a case is published as this run would publish it; refuses what another run published."""
        return all(self._is_stored(loaded, index, original_label) for index in range(len(loaded.scans)))

    def _is_stored(self, loaded: LoadedCase, index: int, original_label: str | None) -> bool:
        case, scan_id = loaded.case, stem(loaded.case.images[index])
        if scan_id not in self.store:
            return False
        try:
            entry = self.store.entry(scan_id)
        except (KeyMismatchError, NoiseError):
            if not self.overwrite:
                raise
            return False
        if entry.run != self.fingerprint and not self.overwrite:
            raise OutputError(OTHER_RUN, case=scan_id, file=self.store.path(scan_id))
        made_of = (entry.run, entry.clean_sha256, entry.original_label_sha256, entry.target)
        if made_of != (self.fingerprint, loaded.scans[index].digest(), original_label, case.classes):
            return False
        # Voxels are not all that is published: a name may have been removed from the header since.
        same_file = entry.file_sha256 in (None, digest_of(case.root / case.images[index]))
        # A label does not depend on the voxels of this scan alone: it may refer to the other scans of the case.
        label = None if entry.label is None else self.layout.protected / entry.label
        same_label = label is None or (label.exists() and digest_of(label) == entry.label_sha256)
        return same_file and same_label and self._is_published(entry)

    def _is_published(self, entry: NoiseEntry) -> bool:
        """Whether the protected scan is there, as it was written."""
        try:
            return digest_of(self.layout.protected / entry.output) == entry.output_sha256
        except ScanError:
            return False

    def _write(self, loaded: LoadedCase, noise: NDArray, original_label: str | None) -> None:
        """Write the protected files of a case, its label and the records of its scans.

        Args:
            loaded: the case.
            noise: normalized intensity, (C, spatial...), the channels of all scans one after the other.
            original_label: digest of the label as it was when the case was read.
        """
        case, name, label = loaded.case, loaded.case.case_id, PublishedLabel()
        changed = loaded.with_noise(noise, self.budget)
        if case.label is not None:
            written = ((scan, voxels) for scan, (voxels, _) in zip(loaded.scans, changed, strict=True))
            label = publish_label(case.root / case.label, self.layout.protected / case.label, written)
            if (label.clean_sha256 or label.sha256) != original_label:
                reason = "the label was replaced while its case was being protected; run again"
                raise LabelError(reason, case=name, file=case.root / case.label)
        for index, (voxels, change) in enumerate(changed):
            self._write_scan(loaded, index, voxels, change, label)

    def _write_scan(
        self, loaded: LoadedCase, index: int, voxels: NDArray, change: VoxelChange, label: PublishedLabel
    ) -> None:
        case, scan, window = loaded.case, loaded.scans[index], loaded.windows[index]
        name = case.images[index]
        target = self.layout.protected / output_name(name)
        written = publish_scan(scan, voxels, target)
        measured = measure_fidelity(scan, written, window, loaded.label)
        count = scan.quantization.count_data(scan.voxels)
        fraction, step = changed_fraction(scan.voxels, written.voxels, count), max(window.step(scan.quantization))
        self.budget.check(measured["linf"], fraction=fraction, step=step, case=case.case_id)
        entry = NoiseEntry(
            scan_id=stem(name),
            case_id=case.case_id,
            case_scans=tuple(stem(other) for other in case.images),
            file=name,
            output=output_name(name),
            output_sha256=digest_of(target),
            label=case.label,
            label_sha256=label.sha256,
            clean_label_sha256=label.clean_sha256,
            target=case.classes,
            file_sha256=digest_of(case.root / name),
            shape=scan.voxels.shape,
            affine=tuple(tuple(row) for row in scan.affine.tolist()),
            quantization=scan.quantization,
            window=window,
            budget=self.budget,
            clean_sha256=scan.digest(),
            protected_sha256=written.digest(),
            run=self.fingerprint,
            measured=measured,
        )
        headers = original_headers(scan) if change.steps.size else b""
        self.store.save(entry, change, headers, b"" if index else label.original)


def _label_digest(case: Case) -> str | None:
    """SHA-256 of the label file of a case; None where it has none."""
    if case.label is None:
        return None
    try:
        return digest_of(case.root / case.label)
    except ScanError as error:
        raise LabelError(error.reason, case=case.case_id, file=error.file) from error


def _refuse_other_kind(loaded: LoadedCase, perturber: Perturber) -> None:
    """Files may have been replaced since the method was fitted to the dataset."""
    made_for = next(iter(getattr(perturber, "networks", ())), perturber)
    channels, dims = sum(len(scan.voxels) for scan in loaded.scans), len(loaded.scans[0].spatial_shape)
    for what, found in (("in_channels", channels), ("spatial_dims", dims)):
        known = getattr(made_for, what, found)
        if not (known == found or (what == "in_channels" and fits_channels(found, known, dims))):
            reason = f"{what} is {found}, and {known} where the method was made"
            file = loaded.case.root / loaded.case.images[0]
            raise ScanError(reason, case=loaded.case.case_id, file=file, value=found, limit=known)

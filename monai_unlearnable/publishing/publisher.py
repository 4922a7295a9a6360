# SPDX-License-Identifier: Apache-2.0
"""One case published: protected files, its label, and the records that undo and prove them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.budget import Budget, VoxelChange, apply_noise, changed_fraction
from monai_unlearnable.data import Case, LoadedCase, output_name, stem
from monai_unlearnable.data.formats import original_headers
from monai_unlearnable.errors import KeyMismatchError, LabelError, OutputError, ScanError
from monai_unlearnable.metrics import measure_fidelity
from monai_unlearnable.noise import NoiseEntry, NoiseStore
from monai_unlearnable.publishing.labels import PublishedLabel, publish_label
from monai_unlearnable.publishing.layout import Layout, file_digest, publish_scan

__all__ = ["OTHER_RUN", "Publisher", "label_digest"]

OTHER_RUN = "what is there belongs to a run with other settings; choose another folder or set overwrite"


@dataclass(frozen=True)
class Publisher:
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

    def publish(self, loaded: LoadedCase, noise: NDArray, original_label: str | None) -> None:
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

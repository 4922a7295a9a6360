# SPDX-License-Identifier: Apache-2.0
"""Protect a dataset with a perturber: the final pass, from case to published file."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import ignite.distributed as idist

from monai_unlearnable.budget import Budget
from monai_unlearnable.crypto.encrypted import Key, place, read_owned
from monai_unlearnable.data import Case, LoadedCase, read_case, stem
from monai_unlearnable.errors import OutputError, ScanError
from monai_unlearnable.intensity import WindowRule
from monai_unlearnable.noise import Manifest, NoiseStore, fingerprint, package_versions
from monai_unlearnable.perturbers import InputSettings, Perturber, load_perturber, save_perturber
from monai_unlearnable.perturbers.base import encode_perturber
from monai_unlearnable.perturbers.inference import generate_noises
from monai_unlearnable.publishing.labels import label_remarks
from monai_unlearnable.publishing.layout import Layout, log_remarks, noise_digests, write_datalist
from monai_unlearnable.publishing.publisher import OTHER_RUN, Publisher, label_digest
from monai_unlearnable.publishing.statement import write_statement
from monai_unlearnable.utils.config import describe
from monai_unlearnable.utils.locks import unlock
from monai_unlearnable.utils.progress import track

__all__ = ["Protection"]

logger = logging.getLogger(__name__)


class Protection:
    """Writes ``protected/``, ``noise/`` and ``models/`` of an output folder.

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
        publisher = Publisher(self.layout, self.store, self.budget, fingerprint(run), self.overwrite)
        for cases in track(own, "protect") if idist.get_rank() == 0 else own:
            self._protect(cases, perturber, publisher)
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

    def _protect(self, cases: Sequence[Case], perturber: Perturber, publisher: Publisher) -> None:
        labels = {case.case_id: label_digest(case) for case in cases}
        loaded = [read_case(case, self.window, self.label_values) for case in cases]
        for case in loaded:
            _refuse_other_kind(case, perturber)
        self.remarks.update(remark for case in loaded for scan in case.scans for remark in scan.remarks)
        paths = (case.root / case.label for case in cases if case.label is not None)
        self.remarks.update(remark for path in paths for remark in label_remarks(path))
        done = {case.case.case_id for case in loaded if publisher.is_done(case, labels[case.case.case_id])}
        if len(done) == len(loaded):
            return
        for _, alike in groupby(loaded, lambda case: [scan.voxels.shape for scan in case.scans]):
            batch = list(alike)
            ids, images = [case.case.case_id for case in batch], [case.image for case in batch]
            noises = generate_noises(perturber, images, ids, [case.target for case in batch])
            for case, noise in zip(batch, noises, strict=True):
                if case.case.case_id not in done:
                    publisher.publish(case, noise, labels[case.case.case_id])

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

# SPDX-License-Identifier: Apache-2.0
"""Trial outputs: a dataset protected with several methods at the epsilon that a fidelity allows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from monai_unlearnable.budget import STEP_TOLERANCE, Budget
from monai_unlearnable.crypto import Key
from monai_unlearnable.crypto.encrypted import place
from monai_unlearnable.data import Case, LabelGeometry, load_cases, read_case
from monai_unlearnable.errors import InputError, SkippedCasesError, UnlearnableError, told
from monai_unlearnable.evaluation.sources import digest_cases
from monai_unlearnable.intensity import AutoWindow
from monai_unlearnable.metrics import noise_level
from monai_unlearnable.noise import Manifest
from monai_unlearnable.perturbers import SymmetricLattice
from monai_unlearnable.publishing.admission import Admitted, admit
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.publication import Publication
from monai_unlearnable.publishing.run import apply, protect
from monai_unlearnable.utils.config import build
from monai_unlearnable.utils.files import fingerprint, remove, write_atomic
from monai_unlearnable.utils.progress import track

__all__ = ["OWNERS", "UNSEEN", "Candidate", "Trials"]

OWNERS = ("window", "label_values", "label_geometry", "skip_invalid", "seed")  # settings of protection alone
# What carriers are planned for, by pipeline: the grid, and for label maps what its network learns. Networks whose first
# layer has no stride learn the checkerboard of all axes.
GRIDS = {"monai": "median", "nnunet": "nnunet", "nnunetv2": "nnunet", "nnunetv2_noda": "nnunet"}
FULL_SIZE: dict[str, Any] = {"carriers": "all", "distinct": False}
CARRIERS: dict[str, dict[str, Any]] = {
    "monai": {"carriers": [0, 1]},
    "nnunetv2": FULL_SIZE,
    "nnunetv2_noda": FULL_SIZE,
}
STRONGEST = 64 / 255  # epsilon above which scans are no longer what they were, whatever the PSNR
SAMPLED = 8  # scans that PSNR is measured on, before anything is protected
MEASURED = 8 / 255  # epsilon that it is measured at
STEPS = 16  # storage steps that it is measured at where they are so coarse that noise is truncated by a lot
TOLERANCE = 0.5  # dB by which a trial may miss the PSNR that was asked for
UNSEEN = "unseen"  # in place of a PSNR

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A method at an epsilon, and its trial output.

    Args:
        method: name of the method.
        epsilon: largest change of a voxel, in normalized intensity.
        folder: folder of the output.
    """

    method: str
    epsilon: float
    folder: Path

    @property
    def name(self) -> str:
        """What tables call it: ``"carrier 8.3/255"``."""
        return f"{self.method} {255 * self.epsilon:.3g}/255"


@dataclass
class Trials:
    """Trial outputs of one dataset, in ``auto/data/`` of the output.

    Args:
        dataset_dir: folder of the clean dataset, of which the section ``training`` is protected.
        output_dir: folder of the output.
        stop: pipelines of the exploiter.
        key: the owner's key.
        settings: settings of protection, among others.
        failed: reason by name of each method that cannot protect these data, found by :meth:`protect`.
    """

    dataset_dir: Path
    output_dir: Path
    stop: Sequence[str]
    key: Key | None
    settings: dict[str, Any]
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """The folder of all trials."""
        return self.output_dir / "auto"

    @cached_property
    def admitted(self) -> Admitted:
        """The cases to protect, and why others are skipped, where that is allowed."""
        listed = load_cases(self.dataset_dir, self.settings.get("datalist"))
        return admit(listed, **self.reading) if self.settings.get("skip_invalid") else Admitted(listed)

    @property
    def cases(self) -> list[Case]:
        """The cases to protect."""
        return self.admitted.cases

    @property
    def reading(self) -> dict[str, Any]:
        """How cases are read: windows, label values, and whether labels must lie where their images lie."""
        geometry = self.settings.get("label_geometry", LabelGeometry.MATCH)
        window, values = build(self.settings.get("window")) or AutoWindow(), self.settings.get("label_values")
        return {"window": window, "label_values": values, "label_geometry": geometry}

    @property
    def is_segmentation(self) -> bool:
        """Whether labels are maps, rather than classes of whole images."""
        return any(case.label for case in self.cases)

    @property
    def owners(self) -> dict[str, Any]:
        """The settings of protection."""
        names = (*OWNERS, "datalist", "device")
        given = {name: self.settings[name] for name in names if name in self.settings}
        return given if self.key is None else {**given, "key": self.key}

    def protect(self, methods: Sequence[str], psnr: float | str) -> list[Candidate]:
        """Protect the dataset with each method, at the epsilon that the fidelity allows.

        Raises:
            InputError: when none of the methods can protect the dataset, with the reason of each.
        """
        epsilon = min(STRONGEST, self.epsilon(psnr))
        found = []
        for method in track(methods, "trying method"):
            candidate = Candidate(method, epsilon, self.work / "data" / method.replace("/", "_"))
            try:
                found.append(self._fitting(candidate, psnr))
            except UnlearnableError as error:
                self.failed[method] = told(error)
                logger.warning("%s is not tried: %s", method, told(error))
        if not found:
            reasons = " ".join(f"{name}: {reason}." for name, reason in self.failed.items())
            raise InputError(f"no method can protect these data. {reasons}")
        return found

    def epsilon(self, psnr: float | str) -> float:
        """The epsilon at which noise that uses all of it has a PSNR, by a sample of the scans.

        Raises:
            InputError: when no scan of the sample would change, or has noise of its own.
        """
        sample = self.cases[:: -(-len(self.cases) // SAMPLED)]
        reading = self.reading
        if psnr == UNSEEN:
            images = [channel for case in sample for channel in read_case(case, **reading).image]
            if not (least := min(map(noise_level, images))):
                raise InputError("some scans have no noise of their own that changes could hide in; give psnr in dB")
            return least
        tried = self._measured_at(sample)
        self.work.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.work) as folder:
            made: dict[str, Any] = {"perturber": SymmetricLattice(tried), "budget": Budget(tried), "key": self.key}
            entries = Publication(sample, output_dir=Path(folder), **made, **reading).run().scans
        return float(tried * 10 ** ((_mean_psnr(entries) - float(psnr)) / 20))

    def _measured_at(self, sample: Sequence[Case]) -> float:
        """The epsilon that PSNR is measured at, of which no scan loses much where noise becomes whole storage steps."""
        steps = [step for case in sample for step in read_case(case, **self.reading).step if step]
        least = MEASURED * 10 ** (-TOLERANCE / 20)
        if all(int(MEASURED / step + STEP_TOLERANCE) * step >= least for step in steps):
            return MEASURED
        return min(STEPS * max(steps), 1.0)

    def _make(self, candidate: Candidate) -> None:
        """Make a trial output, unless it is there as it would be made."""
        settings = {**self.owners, "epsilon": candidate.epsilon, **self._planned(candidate.method)}
        kind = "" if self.key is None else "encrypted"
        plain = {name: value for name, value in settings.items() if name != "key"}
        made = fingerprint({"cases": digest_cases(self.cases), "settings": repr(plain), "kind": kind}).encode()
        mark = candidate.folder.with_suffix(".made")
        if mark.is_file() and mark.read_bytes() == made and Layout(candidate.folder).records:
            return
        remove(mark)
        with suppress(SkippedCasesError):  # the others are done
            protect(candidate.method, self.dataset_dir, candidate.folder, overwrite=True, **settings)
        write_atomic(mark, made)

    def _planned(self, method: str) -> dict[str, Any]:
        """Settings of a method that follow from the pipelines to stop, where all of them agree."""
        if method != "carrier":
            return {}
        grids = {GRIDS.get(name, "native") for name in self.stop}
        found: dict[str, Any] = {"grid": grids.pop()} if len(grids) == 1 else {}
        wanted = [CARRIERS.get(name, {}) for name in self.stop]
        if self.is_segmentation and all(one == wanted[0] for one in wanted):
            found |= wanted[0]
        return found

    def _fitting(self, candidate: Candidate, psnr: float | str) -> Candidate:
        """The trial output of a method, at a smaller epsilon where its noise is larger than that of the sample."""
        self._make(candidate)
        if (found := self._below(candidate, psnr)) is None:
            return candidate
        candidate = replace(candidate, epsilon=candidate.epsilon * 10 ** ((found - float(psnr)) / 20))
        self._make(candidate)
        if (found := self._below(candidate, psnr)) is None:
            return candidate
        raise InputError(f"its PSNR is {found:.2f} dB, below {float(psnr):g}", value=found, limit=float(psnr))

    def _below(self, candidate: Candidate, psnr: float | str) -> float | None:
        """The PSNR of a trial output that misses the one that was asked for; None where it does not."""
        if psnr == UNSEEN:
            return None
        found = _mean_psnr(Manifest.load(Layout(candidate.folder).manifest, self.key).scans)
        return found if found < float(psnr) - TOLERANCE else None

    def publish(self, best: Candidate, dataset: str | Path, overwrite: bool) -> Manifest:
        """Publish the dataset with the noise that was examined.

        Args:
            best: the candidate.
            dataset: the dataset; where it came as an archive, the archive.
            overwrite: whether a finished output may be replaced.

        Raises:
            SkippedCasesError: naming the cases that were skipped; the others are published.
            UnlearnableError: when the published files are not those that were examined.
        """
        layout, names = Layout(best.folder), ("datalist", "label_geometry", "skip_invalid", "device", "key")
        settings = {name: value for name, value in self.owners.items() if name in names}
        # The checkpoint does not tell the name of the method.
        settings |= {"overwrite": overwrite, "application#method": best.method}
        skipped: SkippedCasesError | None = None
        try:
            apply(place(layout.checkpoint, self.key), dataset, self.output_dir, **settings)
        except SkippedCasesError as error:  # told once the others are compared
            skipped = error
        published, examined = (Manifest.load(Layout(out).manifest, self.key) for out in (self.output_dir, best.folder))
        if [e.protected_sha256 for e in published.scans] != [e.protected_sha256 for e in examined.scans]:
            raise UnlearnableError("the published files differ from those that were examined", file=self.output_dir)
        if skipped is not None:
            raise skipped
        return published


def _mean_psnr(entries: Sequence[Any]) -> float:
    """The mean over the scans that changed, in dB."""
    found = [entry.measured["psnr"] for entry in entries if entry.measured["l0"] > 0]
    if not found:
        raise InputError("no voxel of the sampled scans may change, so that no epsilon can be found")
    return sum(found) / len(found)

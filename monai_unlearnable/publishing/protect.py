# SPDX-License-Identifier: Apache-2.0
"""A dataset protected, from its folder to the published files: the run of every method's bundle."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from monai.data import CacheDataset, Dataset
from torch import nn

from monai_unlearnable.budget import Budget
from monai_unlearnable.crypto import Key, load_key, secret_seed
from monai_unlearnable.data import (
    Case,
    DatasetSummary,
    LabelGeometry,
    Listing,
    inspect_cases,
    list_dataset,
    match_classes,
)
from monai_unlearnable.data.labels import check_values
from monai_unlearnable.errors import (
    BudgetError,
    InputError,
    LabelError,
    ScanError,
    WindowError,
)
from monai_unlearnable.intensity import AutoWindow, WindowRule
from monai_unlearnable.noise import Manifest
from monai_unlearnable.perturbers import InputSettings, Perturber, load_input_settings, load_perturber
from monai_unlearnable.publishing.admission import Admitted, admit
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.places import check_cases, check_output
from monai_unlearnable.publishing.plan import DatasetPlan
from monai_unlearnable.publishing.publication import Publication
from monai_unlearnable.training import EpochLoader, ProtectionTrainer, training_transforms
from monai_unlearnable.training.data import class_weights
from monai_unlearnable.training.handlers import BudgetAudit, ResumableCheckpoint, TensorBoardCurves, TrainingProgress
from monai_unlearnable.utils import distributed
from monai_unlearnable.utils.descriptions import describe
from monai_unlearnable.utils.enums import look_up
from monai_unlearnable.utils.locks import unlock
from monai_unlearnable.utils.seeding import reset_parameters

__all__ = ["Application", "Protection"]

logger = logging.getLogger(__name__)


class Protection:
    """Protects a dataset: lists its cases, admits and inspects them, fits a method to them, publishes them.

    Facts about the dataset are found on first use, so that a bundle can build networks, masks and the perturber from
    :attr:`summary` and hand them to :meth:`run`. Under ``torchrun`` the processes work together.

    Args:
        dataset_dir: folder of the dataset.
        output_dir: folder of the output: ``protected/``, ``noise/``, ``models/``.
        epsilon: largest change of a voxel, a fraction of its intensity window, in [0, 1].
        fraction: largest fraction of the voxels of a scan that may change, in (0, 1].
        window: rule for the intensity window of each scan; by default :class:`~monai_unlearnable.intensity.AutoWindow`.
        label_values: stored label value of each class, background first; by default all values found.
        label_geometry: ``"match"``: a label must lie where its image lies; ``"ignore"``: voxels belong together by
            their index.
        datalist: Decathlon-style JSON or CSV; by default what is found in ``dataset_dir``.
        seed: random seed; with a key, all randomness follows from :attr:`secret_seed` instead.
        key: the owner's key or its file, to encrypt noise, manifest and models with and to sign the statement.
        overwrite: whether a finished output may be replaced.
        resume: whether the training is saved after each epoch, and continues from the last save.
        skip_invalid: whether cases that cannot be protected are skipped and listed in ``skipped.json``; else the first
            one is an error.
        curves: whether the loss is written for TensorBoard, unencrypted; by default only without a key, and where
            TensorBoard is installed.
        cache_gib: memory for cases that are kept between epochs, in GiB.
        method: name of the method that people know, or its configuration file; by default the perturber's class.

    Example:
        >>> protection = Protection("DATASET", "OUT", epsilon=8 / 255)
        >>> manifest = protection.run(RandomNoise(epsilon=8 / 255))
    """

    measures_roughness = True

    def __init__(
        self,
        dataset_dir: str | Path,
        output_dir: str | Path,
        epsilon: float,
        fraction: float = 1.0,
        window: WindowRule | None = None,
        label_values: Sequence[int] | None = None,
        datalist: str | Path | None = None,
        seed: int = 0,
        key: Key | str | Path | None = None,
        overwrite: bool = False,
        resume: bool = True,
        skip_invalid: bool = False,
        curves: bool | None = None,
        cache_gib: float = 2.0,
        label_geometry: str = LabelGeometry.MATCH,
        method: str | Path | None = None,
    ) -> None:
        self.method = None if method is None else str(method)
        self.dataset_dir, self.datalist, self.layout = dataset_dir, datalist, Layout(output_dir)
        self.budget, self.seed = Budget(epsilon, fraction=fraction), seed
        self.label_values = None if label_values is None else check_values(label_values)
        self.label_geometry = look_up("rule for the geometry of labels", label_geometry, LabelGeometry)
        if self.budget.epsilon == 0:
            raise BudgetError("epsilon is 0: nothing would be changed; a common choice is 8/255", value=0)
        check_output(output_dir, dataset_dir, (datalist,))
        self.key = load_key(key)
        self.overwrite, self.resume, self.skip_invalid = overwrite, resume, skip_invalid
        wants_curves = self.key is None and TensorBoardCurves.is_available() if curves is None else curves
        self.curves = TensorBoardCurves(self.layout.models / "tensorboard") if wants_curves else None
        self.cache_gib, self.window = cache_gib, AutoWindow() if window is None else window
        self.patch_size: Sequence[int] | None = None  # of the training
        self.class_names: tuple[tuple[str, ...], ...] = ()  # that the method knows; by default those of the dataset
        self._announced = False  # bundles begin before they train, and a run begins in any case
        self._processes = ExitStack()
        self._processes.enter_context(distributed.joined())

    @cached_property
    def listing(self) -> Listing:
        """All cases of the dataset, where they were found, and what was passed over."""
        return list_dataset(self.dataset_dir, self.datalist)

    @property
    def listed(self) -> list[Case]:
        """All cases of the dataset."""
        return list(self.listing.cases)

    @property
    def is_segmentation(self) -> bool:
        """Whether labels are maps, rather than classes of whole images."""
        return any(case.label for case in self.listed)

    @cached_property
    def secret_seed(self) -> int:
        """The seed of all randomness; with a key it is secret to everybody else."""
        return secret_seed(self.seed, self.key)

    @cached_property
    def admitted(self) -> Admitted:
        """The cases that are protected, and why others are not."""
        if not self.skip_invalid:
            return Admitted(self.listed)
        return admit(self.listed, self.window, self.label_values, self.budget, self.label_geometry)

    @property
    def cases(self) -> list[Case]:
        """The cases that are protected."""
        return self.admitted.cases

    @cached_property
    def summary(self) -> DatasetSummary:
        """What networks must know of the cases; all of them are read, so that bad input is found first."""
        with _advising_to_skip(not self.skip_invalid and len(self.cases) > 1):
            summary = inspect_cases(
                self.cases,
                self.window,
                self.label_values,
                budget=self.budget,
                roughness=self.measures_roughness,
                label_geometry=self.label_geometry,
            )
            summary.check_labels()
        for remark in summary.label_remarks() if distributed.rank() == 0 else ():
            logger.warning("%s", remark)
        return summary

    def dataset(self, patch_size: Sequence[int]) -> Dataset:
        """The cases as surrogates see them: normalized intensity, class indices, patches of one size.

        Args:
            patch_size: spatial size of the patches, in voxels.

        Raises:
            InputError: when it has another number of axes than the scans.
        """
        if len(patch_size) != (dims := self.summary.spatial_dims):
            raise InputError(f"patch_size is {list(patch_size)}, and the scans have {dims} dimensions")
        self.patch_size = [int(extent) for extent in patch_size]
        return CacheDataset(
            [case.to_dict() for case in self.cases],
            training_transforms(self.summary, self.window, patch_size),
            cache_num=self.summary.cases_within(self.cache_gib),
            progress=False,
        )

    def loader(self, dataset: Dataset, batch_size: int, batches: int) -> EpochLoader:
        """Random batches of a dataset; classes of whole images are drawn equally often.

        Args:
            dataset: made by :meth:`dataset`.
            batch_size: cases a batch and process.
            batches: batches an epoch.
        """
        return EpochLoader(dataset, batch_size, batches, self.secret_seed, class_weights(self.cases))

    def fresh(self, module: nn.Module) -> nn.Module:
        """A module with weights drawn anew from the seed."""
        return reset_parameters(module, self.secret_seed)

    def begin(self, perturber: Perturber) -> None:
        """Inspect the cases, and refuse an output that is complete; called before the training, which may take long.

        Args:
            perturber: source of the noise, whose own epsilon must keep to the budget.

        Raises:
            UnlearnableError: naming the first bad case.
            InputError: when the perturber does not take the labels or tasks of the dataset.
            BudgetError: when the noise would exceed the budget.
            OutputError: naming the file, see :meth:`~monai_unlearnable.publishing.layout.Layout.begin`, or the folder,
                where it lies among originals (:mod:`~monai_unlearnable.publishing.places`).
        """
        self.check(perturber)
        if distributed.rank() == 0 and not self._announced:
            self.understood(perturber).announce()
        self.layout.begin(self.overwrite, self.key, anew=not self._announced)  # later, what is there is of this run
        self._announced = True

    def check(self, perturber: Perturber) -> None:
        """Refuse what :meth:`begin` would refuse; nothing is made, removed or locked."""
        self.summary  # noqa: B018 - bad input is found first
        perturber.check_tasks(tuple(self.summary.tasks), self.method)
        perturber.check_labels(not self.summary.is_segmentation, self.method)
        self.budget.check(perturber.epsilon)
        check_cases(self.cases, self.layout.root)
        self.layout.check(self.overwrite, self.key)

    def understood(self, perturber: Perturber) -> DatasetPlan:
        """What was found in the dataset, and what will be done to it."""
        source, reasons = self.source(perturber), self.admitted.reasons
        return DatasetPlan(self.listing, self.summary, self.budget, source, self.layout.root, reasons)

    def source(self, perturber: Perturber) -> str:
        """What the noise comes from, in the user's words."""
        return self.method or type(perturber).__name__

    def run(self, perturber: Perturber, trainers: Sequence[ProtectionTrainer] = ()) -> Manifest:
        """Fit a perturber to the cases and publish them with its noise.

        A run that was stopped goes on where it stopped.

        Args:
            perturber: source of the noise.
            trainers: engines that train it or its surrogates, one after another.

        Returns:
            The manifest, also written to ``noise/``.

        Raises:
            SkippedCasesError: naming the list, when cases were skipped and all others protected.
            UnlearnableError: naming case and file, when one cannot be protected; what was written stays and is reused.
        """
        settings, root = self._settings(trainers), self.layout.root
        try:
            self.begin(perturber)
            for index, trainer in enumerate(trainers, 1):
                self._attach(trainer, index, settings)
                trainer.run()
            values = self.summary.label_values or None
            named = {} if self.method is None else {"method": Path(self.method).stem}  # which tables call it by
            publication = Publication(
                self.cases,
                perturber,
                root,
                self.window,
                self.budget,
                values,
                {**settings, **named},
                self.overwrite,
                self.key,
                self.label_geometry,
                self.class_names,
            )
            manifest = publication.run()
            if len(manifest.unchanged) == len(manifest.scans):
                distributed.wait()  # the others read the manifest
                with self.layout.locked():
                    if distributed.rank() == 0:
                        self.layout.clear()  # what was written is the originals
                reason = "no voxel of any scan was changed: raise epsilon, or allow noise in a larger region"
                raise BudgetError(f"{reason}; nothing is published", file=self.layout.protected)
            self.admitted.report(self.layout.skipped, self.key)
            return manifest
        finally:
            unlock(root)
            self._processes.close()

    def _settings(self, trainers: Sequence[ProtectionTrainer]) -> dict[str, Any]:
        """All that decides on the noise, except perturber, window and budget, which the manifest records anyway."""
        return {
            "seed": self.seed,
            "cases": [case.case_id for case in self.cases],
            "patch_size": self.patch_size,
            "trainers": [describe(trainer) for trainer in trainers],
        }

    def _attach(self, trainer: ProtectionTrainer, index: int, settings: dict[str, Any]) -> None:
        """Attach what every training needs; the checkpoint last, so that it saves what the others did."""
        BudgetAudit(self.budget).attach(trainer)
        TrainingProgress().attach(trainer)
        if self.curves is not None:
            self.curves.attach(trainer)
        if self.resume:
            path = self.layout.models / ("training.pt" if index == 1 else f"training-{index}.pt")
            settings = {**settings, "window": describe(self.window), "label_values": list(self.summary.label_values)}
            checkpoint = ResumableCheckpoint(path, trainer.stateful(), settings, overwrite=self.overwrite, key=self.key)
            checkpoint.attach(trainer)


@contextmanager
def _advising_to_skip(possible: bool) -> Iterator[None]:
    """Errors of one case name the setting that omits it."""
    try:
        yield
    except (BudgetError, LabelError, ScanError, WindowError) as error:
        if not possible or error.case is None:
            raise
        about = {"case": error.case, "file": error.file, "value": error.value, "limit": error.limit}
        raise type(error)(
            f"{error.reason}. To omit such cases, set skip_invalid (--skip_invalid True)", **about
        ) from error


class Application(Protection):
    """Protects further cases with the checkpoint of an earlier run, without training.

    Args:
        checkpoint: file that a run wrote to ``models/``.
        dataset_dir: folder of the dataset.
        output_dir: folder of the output.
        epsilon: largest change of a voxel; by default that of the earlier run.
        fraction: largest fraction of the voxels of a scan that may change; by default that of the earlier run.
        window: rule for the intensity windows; by default that of the earlier run.
        label_values: stored label value of each class; by default those of the earlier run.
        device: device of the networks.
        key: key that the checkpoint is encrypted with, and the output will be, or its file.
        **arguments: further arguments of :class:`Protection`.
    """

    measures_roughness = False

    def __init__(
        self,
        checkpoint: str | Path,
        dataset_dir: str | Path,
        output_dir: str | Path,
        epsilon: float | None = None,
        fraction: float | None = None,
        window: WindowRule | None = None,
        label_values: Sequence[int] | None = None,
        device: Any = "cpu",
        key: Key | str | Path | None = None,
        **arguments: Any,
    ) -> None:
        key = load_key(key)
        perturber = load_perturber(checkpoint, key=key, epsilon=epsilon)
        given = None if window is None or label_values is None else InputSettings(window, label_values)
        known = load_input_settings(checkpoint, key, given)
        window = known.window if window is None else window
        label_values = known.label_values if label_values is None else label_values
        # Checkpoints of earlier releases know of the fraction only what the perturber does.
        fraction = min(perturber.budget.fraction, known.fraction) if fraction is None else fraction
        super().__init__(
            dataset_dir, output_dir, perturber.epsilon, fraction, window, label_values, key=key, **arguments
        )
        self.checkpoint, self.class_names = checkpoint, known.class_names  # which number the patterns
        self.perturber = perturber.to(device)  # a process has a GPU of its own once it has joined the others

    def check(self, perturber: Perturber) -> None:
        super().check(perturber)  # which labels there are comes before how their classes are called
        match_classes(self.cases, self.class_names, str(self.checkpoint))

    def source(self, perturber: Perturber) -> str:
        return self.method or f"the noise of {self.checkpoint}"

    def apply(self) -> Manifest:
        """Publish the cases with the noise of the checkpoint; see :meth:`Protection.run`."""
        return self.run(self.perturber)

    def _settings(self, trainers: Sequence[ProtectionTrainer]) -> dict[str, Any]:
        return {}

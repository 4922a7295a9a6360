# SPDX-License-Identifier: Apache-2.0
"""What all trainings of a laboratory share: data, task, and networks, recipes and countermeasures by name."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from monai_unlearnable import __version__
from monai_unlearnable.countermeasures import Material, Prepared, prepare
from monai_unlearnable.data import (
    Case,
    DatasetSummary,
    Grid,
    LabelGeometry,
    check_alike,
    check_tasks,
    inspect_cases,
    load_cases,
    match_classes,
    median_spacing,
    nnunet_spacing,
    patch_size,
)
from monai_unlearnable.errors import DatalistError, InputError, LabelError
from monai_unlearnable.evaluation.matrix import Matrix, Run
from monai_unlearnable.evaluation.sources import Source, clean_source, digest_cases, refuse_overlap
from monai_unlearnable.intensity import AutoWindow
from monai_unlearnable.report.rows import NO_COUNTERMEASURE, OWN_RECIPE
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.utils.distributed import check_available
from monai_unlearnable.utils.files import file_digest, fingerprint
from monai_unlearnable.utils.seeding import derive_seed
from monai_unlearnable.utils.text import alternatives
from monai_unlearnable.victims import (
    Classification,
    MultiTaskClassification,
    Recipe,
    Segmentation,
    Task,
    fresh_network,
)
from monai_unlearnable.victims.external import NNUNet

__all__ = ["OWN_SCANS", "Bench"]

LARGEST = 2**18  # voxels of a patch that is not given
SMALLEST = 16  # side of the input where all are smaller: nothing would be left of it in the depth of networks
KINDS = ("networks", "external", "recipes", "countermeasures")
OWN_SCANS = ("other_dir", "other_protected_dir")  # folders of the exploiter's own, for countermeasures


class Bench:
    """What all runs share: the originals, the test cases, the task, and networks and recipes by name.

    Everything is read once, when it is first needed.

    Args:
        matrix: settings; the protected data do not matter here.
    """

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix

    @cached_property
    def originals(self) -> Source:
        """The clean training data."""
        return clean_source(self.matrix.dataset_dir, self.matrix.datalist, self.matrix.omitted)

    @cached_property
    def test(self) -> tuple[Case, ...]:
        """Clean held-out cases.

        Raises:
            DatalistError: when there are none, or one of their images is also trained on, under whatever name.
            LabelError: when their tasks or classes are not those of the training data.
        """
        cases, known = self._held_out(), self.originals.cases[0]
        refuse_overlap(self.originals.cases, cases)
        check_tasks(cases, known.tasks, "the training cases")
        return tuple(match_classes(cases, known.class_names, "the training cases"))

    def _held_out(self) -> list[Case]:
        """The cases of the test folder, or of the dataset's own test section."""
        if self.matrix.test_dir is not None:
            return load_cases(self.matrix.test_dir)
        try:
            return load_cases(self.matrix.dataset_dir, self.matrix.datalist, "test")
        except (DatalistError, LabelError) as error:
            lacks = "no test cases of its own" if isinstance(error, DatalistError) else "test cases without labels"
            reason = f"the dataset has {lacks}; name a folder of clean ones as test_dir (--test_dir FOLDER)"
            raise type(error)(reason, case=error.case, file=error.file) from error

    @cached_property
    def summary(self) -> DatasetSummary:
        """Dimensions, channels, classes and size of the training data."""
        cases, ignore = self.originals.cases, LabelGeometry.IGNORE
        return inspect_cases(cases, AutoWindow(), roughness=False, label_geometry=ignore)

    @property
    def usual_victim(self) -> str:
        """The network that is trained where none is named."""
        return (Segmentation if self.originals.is_segmentation else Classification).victim

    @cached_property
    def task(self) -> Task:
        """The task of the victims: class maps where labels are files, else classes, of several labels at once."""
        channels = self.summary.channels
        if self.originals.is_segmentation:
            return Segmentation(self.summary.label_values, channels)
        if self.summary.tasks:
            counts = dict(zip(self.summary.tasks, self.summary.task_classes, strict=True))
            return MultiTaskClassification.of(counts, channels)
        return Classification(self.summary.num_classes, channels)

    @property
    def size(self) -> tuple[int, ...]:
        """Spatial size of the network input."""
        return self.matrix.size or _input_size(self.summary.median_shape)

    @cached_property
    def catalogs(self) -> dict[str, Catalog]:
        """Networks, recipes and countermeasures, with the user's entries."""
        return {kind: Catalog.load(kind, self.matrix.catalog) for kind in KINDS}

    @property
    def values(self) -> dict[str, Any]:
        """Values that catalog entries may refer to."""
        grids, oriented = self.summary.grids, [grid.oriented for grid in self.summary.grids]
        spacing, ras_spacing = nnunet_spacing(grids), median_spacing(oriented)
        settings = ("width", "iterations", "batch_size", "learning_rate", "weights")
        return {
            "dims": self.summary.spatial_dims,
            "channels": self.summary.channels,
            "classes": self.task.classes,
            "size": list(self.size),
            "ras_size": list(self.matrix.size or _tutorial_patch(_median_shape(oriented, ras_spacing))),
            "ras_spacing": list(ras_spacing),
            "nnunet_size": list(self.matrix.size or _input_size(_median_shape(grids, spacing))),
            "spacing": list(spacing),
            "keys": list(self.task.keys),
            **{name: getattr(self.matrix, name) for name in settings},
        }

    def check(self) -> None:
        """Check that everything the runs need is found: victims, recipes, countermeasures, data and test cases.

        Raises:
            UnlearnableError: naming the first that is missing or unknown, or does not go with the data.
        """
        check_available(self.matrix.device)
        for name in self.matrix.victims:
            self.described(name)
        for kind, wanted in (("recipes", self.matrix.recipes), ("countermeasures", self.matrix.countermeasures)):
            for name in wanted:
                self.catalogs[kind].description(name)
        self.values  # noqa: B018 - the originals are read
        self._weights_digest  # noqa: B018 - and so are files and folders that settings name
        for name in self.matrix.recipes:
            self.recipe(name).check_weights()
        used = [
            self._own_scans_digest(self.catalogs["countermeasures"].description(n)) for n in self.matrix.countermeasures
        ]
        for name in dict.fromkeys(name for digests in used for name in digests):
            scans = load_cases(getattr(self.matrix, name), require_labels=False)
            refuse_overlap(scans, self.test, f"{name}, the exploiter's own data,")
        if len(self.size) != self.summary.spatial_dims:
            raise InputError(f"size is {list(self.size)}, and the scans have {self.summary.spatial_dims} dimensions")
        self._check_victims()
        nothing = "the labels of all {} cases are background: there is nothing to {}"
        if self.summary.is_segmentation and not any(self.summary.class_voxels[1:]):
            raise LabelError(nothing.format("training", "learn"), file=self.matrix.dataset_dir)
        self._refuse_new_classes()
        found = [self._has_target(case) for case in self.test]
        if not any(found):
            raise LabelError(nothing.format("test", "score"), file=self.test[0].root)

    def _check_victims(self) -> None:
        """Try each network on an input of each recipe's size, and the task on victims that other programs train."""
        sizes = dict.fromkeys(tuple(self.recipe(name).size) for name in self.matrix.recipes)
        for name, size in itertools.product(self.matrix.networks, sizes):
            self.network(name, 0, size)
        for name in self.matrix.victims:
            if name in self.matrix.external:
                self.external(name).check_task(self.task)

    def _refuse_new_classes(self) -> None:
        """Refuse test cases of classes beyond those that training cases have."""
        for case in self.test if self.summary.task_classes else ():
            kinds = case.target if isinstance(case.target, tuple) else (case.target,)
            for index, (kind, count) in enumerate(zip(kinds, self.summary.task_classes, strict=True)):
                if kind is not None and kind >= count:
                    names = case.class_names[index] if case.class_names else ()
                    called = f"{kind} ({names[kind]})" if names else str(kind)
                    task = f" of the task {case.tasks[index]}" if case.tasks else ""
                    reason = f"class {called}{task} is in no training case; leave its cases out of the test data"
                    raise LabelError(reason, case=case.case_id, file=case.root / case.images[0])

    def _has_target(self, case: Case) -> bool:
        """Read a test case as victims will, and say whether its label holds anything to score."""
        (load,) = self.task.loading()
        sample = load(case.to_dict())
        known = (self.summary.channels, *self.summary.median_shape)
        check_alike(case, sample["image"].shape, known, "the training cases")
        return not self.summary.is_segmentation or bool(sample["label"].any())

    def described(self, victim: str) -> Any:
        """The configuration of a victim: of a network, or of one that another program trains.

        Raises:
            InputError: listing the names, when there is no such victim.
        """
        networks, external = self.catalogs["networks"], self.catalogs["external"]
        if victim in networks.entries or victim in external.entries:
            return (external if victim in external.entries else networks).description(victim)
        known = alternatives(victim, [*networks.names(), *external.names()])
        raise InputError(f"unknown name {victim!r} among networks{known}")

    @cached_property
    def _weights_digest(self) -> str | None:
        return None if self.matrix.weights is None else file_digest(Path(self.matrix.weights))

    @cached_property
    def _test_digest(self) -> str:
        return digest_cases(self.test)

    def key(self, run: Run, source: Source, version: str | None = None) -> str:
        """SHA-256 of everything that decides on the result of a run.

        Args:
            run: the run.
            source: data that it is trained on.
            version: version of the program, for a victim that another one trains; by default the one that is found.

        Raises:
            InputError: when there is no such victim, recipe or countermeasure.
        """
        matrix = self.matrix
        if run.recipe == OWN_RECIPE:
            return self._external_key(run, source, version)
        countermeasure = self.catalogs["countermeasures"].description(run.countermeasure)
        recipe, own_scans = self.catalogs["recipes"].description(run.recipe), self._own_scans_digest(countermeasure)
        if own_scans and "intensity" in recipe:  # earlier laboratories read these scans with the usual window
            own_scans["own_scans"] = "in the intensity of the recipe"
        return fingerprint(
            {
                **own_scans,
                "version": __version__,
                "victim": self.described(run.victim),
                "recipe": recipe,
                "countermeasure": countermeasure,
                "names": [run.victim, run.recipe, run.countermeasure],
                "seed": run.seed,
                "values": {**self.values, "weights": self._weights_digest},
                # The words of earlier laboratories, so that what they trained is found.
                "looks": matrix.num_validations,
                "validation_share": matrix.validation_fraction,
                "scored": "on the voxels of the file",
                "task": repr(self.task),
                "training": source.digest,
                "originals": self.originals.digest,
                "test": self._test_digest,
                **({"amp": True} if matrix.amp else {}),
                **({"held_out": "cases whose label is not empty"} if self.summary.empty else {}),
            }
        )

    def _own_scans_digest(self, countermeasure: Any) -> dict[str, str]:
        """What the folders hold that a countermeasure refers to; nothing where it refers to none."""
        words = json.dumps(countermeasure)
        named = {name: getattr(self.matrix, name) for name in OWN_SCANS if f"@{name}" in words}
        return {name: self._folder_digest(folder) for name, folder in named.items() if folder is not None}

    def brought(self) -> dict[str, dict[str, str]]:
        """SHA-256 of what the exploiter brings: of the weights by recipe, of his own scans by countermeasure."""
        describe, digest = self.catalogs["countermeasures"].description, self._weights_digest
        weights = {name: digest for name in self.matrix.recipes if digest and self.recipe(name).weights}
        scans = {
            name: fingerprint(found)
            for name in self.matrix.countermeasures
            if (found := self._own_scans_digest(describe(name)))
        }
        return {name: found for name, found in (("weights", weights), ("own_scans", scans)) if found}

    def _folder_digest(self, folder: str) -> str:
        if folder not in self._folder_digests:
            self._folder_digests[folder] = digest_cases(load_cases(folder, require_labels=False))
        return self._folder_digests[folder]

    @cached_property
    def _folder_digests(self) -> dict[str, str]:
        return {}

    def _external_key(self, run: Run, source: Source, version: str | None) -> str:
        """The key of a victim that another program trains: settings of networks of this program do not matter."""
        content = {
            "version": __version__,
            "program": self.external(run.victim).version if version is None else version,
            "victim": self.described(run.victim),
            "names": [run.victim, run.countermeasure],
            "seed": run.seed,
            "iterations": self.matrix.iterations,
            "num_validations": self.matrix.num_validations,
            "amp": self.matrix.amp,
            "task": repr(self.task),
            "training": source.digest,
            "test": self._test_digest,
        }
        if run.countermeasure != NO_COUNTERMEASURE:
            steps = self.catalogs["countermeasures"].description(run.countermeasure)
            content |= {"countermeasure": steps, "values": self.values, "originals": self.originals.digest}
            content |= self._own_scans_digest(steps)
        return fingerprint(content)

    def external(self, name: str) -> NNUNet:
        """A victim that another program trains.

        Raises:
            InputError: when there is none of that name, or it cannot be built.
        """
        settings = {name: getattr(self.matrix, name) for name in ("iterations", "num_validations", "amp")}
        victim: NNUNet = self.catalogs["external"].build(name, dims=self.summary.spatial_dims, **settings)
        return victim

    def network(self, name: str | None, seed: int, size: Sequence[int] | None = None) -> nn.Module:
        """A network with weights drawn from the seed.

        Args:
            name: name of the network; None for one that fits the task.
            seed: random seed.
            size: spatial size of its input, that of its recipe; by default :attr:`size`.

        Raises:
            InputError: when there is none of that name, or it cannot take images of the size, or the task.
        """
        name, seed, maps = name or self.usual_victim, derive_seed(seed, "weights"), self.originals.is_segmentation
        values = {**self.values, "size": list(size or self.size)}
        return self.task.adapted(fresh_network(self.catalogs["networks"], name, seed, maps=maps, **values))

    def recipe(self, name: str) -> Recipe:
        """A recipe."""
        recipe: Recipe = self.catalogs["recipes"].build(name, **self.values)
        return recipe

    def prepare(self, name: str, recipe: Recipe, cases: Sequence[Case], seed: int) -> Prepared:
        """Apply a countermeasure to training cases."""
        own_scans = {name: getattr(self.matrix, name) for name in OWN_SCANS}
        steps = self.catalogs["countermeasures"].build(name, **self.values, **own_scans)
        originals = {case.case_id: case.to_dict() for case in self.originals.cases}
        load, seed = recipe.normalized_images(self.task), derive_seed(seed, "countermeasure")
        offered = [case.to_dict() for case in cases]
        return prepare(steps, Material(offered, load, originals, seed, self.matrix.device, recipe.intensity))

    def split(self, cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
        """Cases to train on, and evenly spaced ones to select a model by, of those whose label is not empty."""
        scored = [index for index, case in enumerate(cases) if case.case_id not in self.summary.empty]
        count = round(self.matrix.validation_fraction * len(scored))
        chosen = {scored[place] for place in np.linspace(0, len(scored) - 1, count).round().astype(int)}
        parts: tuple[list[Case], list[Case]] = ([], [])
        for index, case in enumerate(cases):
            parts[index in chosen].append(case)
        return parts


def _input_size(shape: Sequence[int]) -> tuple[int, ...]:
    """A patch for images of a shape; at least ``SMALLEST`` voxels along each axis where all of them are smaller."""
    size = patch_size(shape)
    return size if max(size) >= SMALLEST else (SMALLEST,) * len(size)


def _tutorial_patch(shape: Sequence[int]) -> tuple[int, ...]:
    """A cube, or a square, of about three quarters of the shortest side of a shape, and of ``LARGEST`` voxels at most.

    In ``unet_segmentation_2d`` it is 96 of 128 pixels. Patches that are as large as the scans would have no positions.
    """
    side = min(0.75 * min(shape), LARGEST ** (1 / len(shape)))
    return (SMALLEST * max(1, round(side / SMALLEST)),) * len(shape)


def _median_shape(grids: Sequence[Grid], spacing: Sequence[float]) -> list[int]:
    """The median shape of scans that are resampled to a spacing."""
    shapes = [np.multiply(grid.shape, grid.spacing) / spacing for grid in grids]
    median: list[int] = np.median(shapes, axis=0).round().astype(int).tolist()
    return median

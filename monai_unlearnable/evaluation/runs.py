# SPDX-License-Identifier: Apache-2.0
"""What the laboratory measures: what victims learn, whether authorized models still work, what detectors see."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import monai.transforms as mt
import numpy as np
from torch import nn

from monai_unlearnable import __version__
from monai_unlearnable.countermeasures import Material, Prepared, label_separability, prepare, separability
from monai_unlearnable.data import Case, DatasetSummary, LabelGeometry, inspect_cases, load_cases, patch_size
from monai_unlearnable.errors import (
    DatalistError,
    DivergedError,
    InputError,
    LabelError,
    ScanError,
    UnlearnableError,
    root_cause,
    told,
)
from monai_unlearnable.evaluation.matrix import PLAIN, Matrix, Run
from monai_unlearnable.evaluation.sources import Source, clean_source, digest_cases, refuse_overlap
from monai_unlearnable.intensity import AutoWindow
from monai_unlearnable.report import VictimRow
from monai_unlearnable.report.rows import CLEAN, DIVERGED, DONE, FAILED, NO_COUNTERMEASURE, OWN_RECIPE
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.utils.files import file_digest, fingerprint, write_json
from monai_unlearnable.utils.seeding import derive_seed
from monai_unlearnable.victims import (
    Classification,
    Placement,
    Recipe,
    Segmentation,
    Task,
    Trained,
    Victim,
    fresh_network,
    median_spacing,
    nnunet_spacing,
)
from monai_unlearnable.victims.external import NNUNet

__all__ = ["UNUSABLE", "Bench", "authorized_scores", "detect", "kept", "train_run"]

logger = logging.getLogger(__name__)

PICTURED = 2  # test cases whose predictions are kept
UNUSABLE = (UnlearnableError, RuntimeError, ValueError)  # of models and data that do not go together
SMALLEST = 16  # side of the input where all are smaller: nothing would be left of it in the depth of networks
KINDS = ("networks", "external", "recipes", "countermeasures")
OTHERS = ("other_dir", "other_protected_dir")  # folders of the matrix that a countermeasure may refer to


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
        return clean_source(self.matrix.dataset_dir, self.matrix.datalist)

    @cached_property
    def test(self) -> tuple[Case, ...]:
        """Clean held-out cases.

        Raises:
            DatalistError: when there are none, or one of their images is also trained on, under whatever name.
        """
        own, matrix = self.matrix.test_dir, self.matrix
        try:
            place = (matrix.dataset_dir, matrix.datalist, "test") if own is None else (own,)
            cases = load_cases(*place)
            refuse_overlap(self.originals.cases, cases)
        except DatalistError as error:
            if own is not None:
                raise
            reason = f"the dataset has no test cases of its own ({error.reason}); give a folder of some as test_dir"
            raise DatalistError(reason, case=error.case, file=error.file) from error
        return tuple(cases)

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
        """The task of the victims: class maps where labels are files, else classes."""
        channels = self.summary.channels
        if self.originals.is_segmentation:
            return Segmentation(self.summary.label_values, channels)
        targets = (case.target for case in self.originals.cases if case.target is not None)
        return Classification(1 + max(targets), channels)

    @property
    def size(self) -> tuple[int, ...]:
        """Spatial size of the network input."""
        return self.matrix.size or _input_size(self.summary.median_shape)

    def _ras(self) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """Median spacing along the axes to the right, front and top, and the size of the network input there."""
        grids = [grid.oriented for grid in self.summary.grids]
        spacing = median_spacing(grids)
        shapes = [np.multiply(grid.shape, grid.spacing) / spacing for grid in grids]
        shape = np.median(shapes, axis=0).round().astype(int).tolist()
        return spacing, self.matrix.size or _input_size(shape)

    @cached_property
    def catalogs(self) -> dict[str, Catalog]:
        """Networks, recipes and countermeasures, with the user's entries."""
        return {kind: Catalog.load(kind, self.matrix.catalog) for kind in KINDS}

    @property
    def values(self) -> dict[str, Any]:
        """Values that catalog entries may refer to."""
        ras_spacing, ras_size = self._ras()
        settings = ("width", "iterations", "batch_size", "learning_rate", "weights")
        return {
            "dims": self.summary.spatial_dims,
            "channels": self.summary.channels,
            "classes": self.task.classes,
            "size": list(self.size),
            "ras_size": list(ras_size),
            "ras_spacing": list(ras_spacing),
            "spacing": list(nnunet_spacing(self.summary.grids)),
            "keys": list(self.task.keys),
            **{name: getattr(self.matrix, name) for name in settings},
        }

    def check(self) -> None:
        """Check that everything the runs need is found: victims, recipes, countermeasures, data and test cases.

        Raises:
            UnlearnableError: naming the first that is missing or unknown.
        """
        for name in self.matrix.victims:
            self.described(name)
        for kind, wanted in (("recipes", self.matrix.recipes), ("countermeasures", self.matrix.countermeasures)):
            for name in wanted:
                self.catalogs[kind].description(name)
        self.values  # noqa: B018 - the originals are read
        nothing = "the labels of all {} cases are background: there is nothing to {}"
        if self.summary.is_segmentation and not any(self.summary.class_voxels[1:]):
            raise LabelError(nothing.format("training", "learn"), file=self.matrix.dataset_dir)
        found = [self._has_target(case) for case in self.test]
        if not any(found):
            raise LabelError(nothing.format("test", "score"), file=self.test[0].root)

    def _has_target(self, case: Case) -> bool:
        """Read a test case as victims will, and say whether its label holds anything to score."""
        (load,) = self.task.loading()
        sample = load(case.to_dict())
        known = (self.summary.channels, self.summary.spatial_dims)
        found = (len(sample["image"]), sample["image"].ndim - 1)
        if found != known:
            reason = "the test case has {} channel(s) in {}D, ".format(*found)
            reason += "where the training cases have {} channel(s) in {}D".format(*known)
            raise ScanError(reason, case=case.case_id, file=case.root / case.images[0])
        return not self.summary.is_segmentation or bool(sample["label"].any())

    def described(self, victim: str) -> Any:
        """The configuration of a victim: of a network, or of one that another program trains.

        Raises:
            InputError: listing the names, when there is no such victim.
        """
        networks, external = self.catalogs["networks"], self.catalogs["external"]
        if victim in networks.entries or victim in external.entries:
            return (external if victim in external.entries else networks).description(victim)
        known = ", ".join([*networks.names(), *external.names()])
        raise InputError(f"unknown name {victim!r} among networks; known are {known}")

    @cached_property
    def _weights_digest(self) -> str | None:
        return None if self.matrix.weights is None else file_digest(Path(self.matrix.weights))

    @cached_property
    def _test_digest(self) -> str:
        return digest_cases(self.test)

    def key(self, run: Run, source: Source) -> str:
        """SHA-256 of everything that decides on the result of a run.

        Raises:
            InputError: when there is no such victim, recipe or countermeasure.
        """
        matrix = self.matrix
        if run.recipe == OWN_RECIPE:
            return self._external_key(run, source)
        countermeasure = self.catalogs["countermeasures"].description(run.countermeasure)
        return fingerprint(
            {
                **self._others_digest(countermeasure),
                "version": __version__,
                "victim": self.described(run.victim),
                "recipe": self.catalogs["recipes"].description(run.recipe),
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
            }
        )

    def _others_digest(self, countermeasure: Any) -> dict[str, str]:
        """What the folders hold that a countermeasure refers to; nothing where it refers to none."""
        words = json.dumps(countermeasure)
        named = {name: getattr(self.matrix, name) for name in OTHERS if f"@{name}" in words}
        return {name: self._folder_digest(folder) for name, folder in named.items() if folder is not None}

    def _folder_digest(self, folder: str) -> str:
        if folder not in self._folder_digests:
            self._folder_digests[folder] = digest_cases(load_cases(folder, require_labels=False))
        return self._folder_digests[folder]

    @cached_property
    def _folder_digests(self) -> dict[str, str]:
        return {}

    def _external_key(self, run: Run, source: Source) -> str:
        """The key of a victim that another program trains: settings of networks of this program do not matter."""
        content = {
            "version": __version__,
            "program": self.external(run.victim).version,
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
            content |= self._others_digest(steps)
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
            InputError: when there is none of that name, or it cannot take images of the size.
        """
        name, seed = name or self.usual_victim, derive_seed(seed, "weights")
        return fresh_network(self.catalogs["networks"], name, seed, **{**self.values, "size": list(size or self.size)})

    def recipe(self, name: str) -> Recipe:
        """A recipe."""
        recipe: Recipe = self.catalogs["recipes"].build(name, **self.values)
        return recipe

    def prepare(self, name: str, recipe: Recipe, cases: Sequence[Case], seed: int) -> Prepared:
        """Apply a countermeasure to training cases."""
        others = {name: getattr(self.matrix, name) for name in OTHERS}
        steps = self.catalogs["countermeasures"].build(name, **self.values, **others)
        originals = {case.case_id: case.to_dict() for case in self.originals.cases}
        load, seed = recipe.normalized_images(self.task), derive_seed(seed, "countermeasure")
        return prepare(steps, Material(_dictionaries(cases), load, originals, seed, self.matrix.device))

    def split(self, cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
        """Cases to train on, and evenly spaced ones to select a model by."""
        count = round(self.matrix.validation_fraction * len(cases))
        chosen = set(np.linspace(0, len(cases) - 1, count).round().astype(int).tolist())
        parts: tuple[list[Case], list[Case]] = ([], [])
        for index, case in enumerate(cases):
            parts[index in chosen].append(case)
        return parts


def train_run(bench: Bench, run: Run, source: Source, folder: Path) -> tuple[VictimRow, bytes | None]:
    """Train and score one victim.

    Args:
        bench: data, task and networks that all runs share.
        run: what is trained.
        source: data that it is trained on.
        folder: folder for the files of victims that other programs train, a folder each.

    Returns:
        What it reached, and a test image with its label and the prediction as .npz bytes. A victim that diverges or
        cannot be trained gives a row that says so.
    """
    fields = {"training": source.role, "method": source.method, "epsilon": source.epsilon, **dataclasses.asdict(run)}
    fields |= {"chance": bench.task.chance, "metric": bench.task.metric}
    try:
        is_external = run.recipe == OWN_RECIPE
        trained = _train_external(bench, run, source, folder) if is_external else _train(bench, run, source)
    except DivergedError:
        return VictimRow(status=DIVERGED, **fields), None
    except UNUSABLE as error:
        logger.debug("%s failed", run, exc_info=True)
        status = FAILED + told(root_cause(error))
        return VictimRow(status=status, **fields), None
    pictures = _pictures(trained) if trained.outputs[0].ndim > 1 else None
    return VictimRow.from_scores(trained.scores, status=DONE, **fields), pictures


def _train(bench: Bench, run: Run, source: Source) -> Trained:
    recipe = bench.recipe(run.recipe)
    training, held_out = bench.split(source.cases)
    prepared = bench.prepare(run.countermeasure, recipe, training, run.seed)
    network, matrix = bench.network(run.victim, run.seed, recipe.size), bench.matrix
    how = (prepared.steps, run.seed, matrix.device, matrix.num_validations, matrix.amp)
    victim = Victim(network, bench.task, recipe, *how)
    test, validation = _dictionaries(bench.test), _dictionaries(held_out)
    names = {case.case_id for case in training}
    originals = [case.to_dict() for case in bench.originals.cases if case.case_id in names]
    words = f"{run.victim} on {run.data}"
    return victim.train_and_score(prepared.cases, test, validation, originals=originals, description=words)


def _input_size(shape: Sequence[int]) -> tuple[int, ...]:
    """A patch for images of a shape; at least ``SMALLEST`` voxels along each axis where all of them are smaller."""
    size = patch_size(shape)
    return size if max(size) >= SMALLEST else (SMALLEST,) * len(size)


def _train_external(bench: Bench, run: Run, source: Source, folder: Path) -> Trained:
    """Train on all cases: what the victim holds out of them is its own matter."""
    recipe = bench.recipe(PLAIN)
    prepared = bench.prepare(run.countermeasure, recipe, source.cases, run.seed)
    load = mt.Compose([*recipe.normalized_images(bench.task).transforms, *prepared.steps]) if prepared.steps else None
    return bench.external(run.victim).train_and_score(
        bench.task,
        prepared.cases,
        _dictionaries(bench.test),
        folder / bench.key(run, source)[:24],
        load,
        run.seed,
        bench.matrix.device,
        f"{run.victim} on {run.data}",
    )


def _dictionaries(cases: Sequence[Case]) -> list[dict[str, Any]]:
    return [case.to_dict() for case in cases]


def kept(path: Path, find: Callable[[], Any]) -> Any:
    """The content of a JSON file; where there is none, the result of ``find``, which is then kept in it."""
    if not path.is_file():
        write_json(path, find())
    return json.loads(path.read_text(encoding="utf-8"))


def _pictures(trained: Trained) -> bytes:
    """Test images as the network got them, in [0, 1] on the voxels of the file; true and predicted classes."""
    arrays: dict[str, Any] = {}
    for index in range(min(PICTURED, len(trained.outputs))):
        sample = trained.inputs[index]
        label = sample["label"][0].numpy()
        image = Placement(sample["view"], label.shape).image(sample["image"][:1])[0].numpy()
        low, high = np.percentile(image, (0.5, 99.5))
        arrays[f"image{index}"] = ((image - low) / max(high - low, 1e-6)).clip(0, 1).astype(np.float16)
        arrays[f"truth{index}"] = label
        arrays[f"prediction{index}"] = trained.outputs[index].numpy()
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def authorized_scores(bench: Bench, victim: str, sources: Sequence[Source], folder: Path) -> list[dict[str, Any]]:
    """Train a network on every other original and score it on the rest, as they are and as they are published.

    No case that is scored was trained on.

    Args:
        bench: data, task and networks that all runs share.
        victim: name of the network; it is trained by the first recipe and the first seed.
        sources: published data.
        folder: folder that keeps what was found.

    Returns:
        For each source ``data``, ``victim``, and the score on ``clean`` and on ``protected`` scans in percent.
    """
    recipe, seed = bench.matrix.first_recipe, bench.matrix.seeds[0]
    run = Run(CLEAN, victim, recipe, NO_COUNTERMEASURE, seed)

    def train() -> list[float]:
        how, matrix = bench.recipe(recipe), bench.matrix
        network = bench.network(victim, seed, how.size)
        model = Victim(network, bench.task, how, (), seed, matrix.device, num_validations=1, amp=matrix.amp)
        trained = model.train_and_score(
            _dictionaries(bench.originals.cases[::2]),
            _dictionaries(bench.originals.cases[1::2]),
            others={source.name: _dictionaries(source.cases[1::2]) for source in sources},
            description=f"authorized {victim}",
        )
        return [trained.scores.value, *(trained.others[source.name].value for source in sources)]

    key = fingerprint(["authorized", *(bench.key(run, source) for source in sources)])
    clean, *protected = kept(folder / f"{key[:24]}.json", train)
    return [
        {"data": source.name, "victim": victim, "clean": clean, "protected": score}
        for source, score in zip(sources, protected, strict=True)
    ]


def detect(bench: Bench, source: Source, folder: Path) -> dict[str, list[float]]:
    """How well simple classifiers do on cases that they did not learn from.

    Args:
        bench: data, task and networks that all runs share.
        source: the published data.
        folder: folder that keeps what was found.

    Returns:
        Area under the ROC curve, 0 to 1, and its 95% interval, by what is told from what; 0.5 is chance.
    """
    victim = (*bench.matrix.networks, bench.usual_victim)[0]
    recipe, seed = bench.matrix.first_recipe, bench.matrix.seeds[0]
    run = Run(source.name, victim, recipe, NO_COUNTERMEASURE, seed)
    key = fingerprint(["detectors", bench.key(run, source)])
    found: dict[str, list[float]] = kept(folder / f"{key[:24]}.json", lambda: _classify(bench, source, recipe, seed))
    return found


def _classify(bench: Bench, source: Source, recipe: str, seed: int) -> dict[str, list[float]]:
    load = bench.recipe(recipe).normalized_images(bench.task)
    samples = [load(case.to_dict()) for case in source.cases]
    originals = [load(case.to_dict()) for case in bench.originals.cases]
    protected, clean = ([sample["image"] for sample in part] for part in (samples, originals))
    judged = {
        "protected from clean scans": separability(protected, clean, seed=seed),
        "labels from residuals": label_separability(samples, seed=seed),
        "labels from clean residuals": label_separability(originals, seed=seed),
    }
    return {
        f"{what} ({kind})": [area.value, *area.interval]
        for what, found in judged.items()
        for kind, area in (("linear", found.linear), ("two layers", found.two_layer))
    }

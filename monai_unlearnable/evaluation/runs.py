# SPDX-License-Identifier: Apache-2.0
"""What the laboratory measures: what victims learn, whether authorized models still work, what detectors see."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import monai.transforms as mt
import numpy as np

from monai_unlearnable.countermeasures import for_test, label_separability, separability
from monai_unlearnable.data import Case
from monai_unlearnable.errors import (
    DivergedError,
    UnlearnableError,
    root_cause,
    told,
)
from monai_unlearnable.evaluation.bench import Bench
from monai_unlearnable.evaluation.matrix import PLAIN, Run
from monai_unlearnable.evaluation.sources import Source
from monai_unlearnable.report import VictimRow
from monai_unlearnable.report.rows import CLEAN, DIVERGED, DONE, FAILED, NO_COUNTERMEASURE, OWN_RECIPE
from monai_unlearnable.utils.files import fingerprint, write_json
from monai_unlearnable.utils.seeding import derive_seed
from monai_unlearnable.victims import (
    Placement,
    Trained,
    Victim,
)
from monai_unlearnable.victims.external import Loading

__all__ = ["authorized_scores", "detect", "kept", "reason_of", "train_run"]

logger = logging.getLogger(__name__)

PICTURED = 2  # test cases whose predictions are kept
TELLING = (UnlearnableError, RuntimeError, ValueError)  # errors whose text says what is wrong by itself


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
        fields["program_version"] = bench.external(run.victim).version if is_external else ""
        trained = _train_external(bench, run, source, folder) if is_external else _train(bench, run, source)
    except DivergedError:
        return VictimRow(status=DIVERGED, **fields), None
    except Exception as error:  # whatever networks, recipes and countermeasures raise: the other runs go on
        logger.debug("%s failed", run, exc_info=True)
        return VictimRow(status=FAILED + reason_of(error), **fields), None
    pictures = _pictures(trained) if bench.originals.is_segmentation else None
    return VictimRow.from_scores(trained.scores, status=DONE, **fields), pictures


def reason_of(error: Exception) -> str:
    """Why something cannot be trained or examined, in one line."""
    cause = root_cause(error)
    words, kind = told(cause), type(cause).__name__
    return words if isinstance(cause, TELLING) or words == kind else f"{kind}: {words}"


def _train(bench: Bench, run: Run, source: Source) -> Trained:
    recipe = bench.recipe(run.recipe)
    training, held_out = bench.split(source.cases)
    prepared = bench.prepare(run.countermeasure, recipe, training, run.seed)
    network, matrix = bench.network(run.victim, run.seed, recipe.size), bench.matrix
    how = (prepared.steps, run.seed, matrix.device, matrix.num_validations, matrix.amp)
    victim = Victim(network, bench.task, recipe, *how)
    test, validation = _dictionaries(bench.test), _dictionaries(held_out)
    names = {case.case_id for case in training}.difference(bench.summary.empty)  # a recovery is scored on its cases
    originals = [case.to_dict() for case in bench.originals.cases if case.case_id in names]
    words = f"{run.victim} on {run.data}"
    return victim.train_and_score(prepared.cases, test, validation, originals=originals, description=words)


def _train_external(bench: Bench, run: Run, source: Source, folder: Path) -> Trained:
    """Train on all cases: what the victim holds out of them is its own matter."""
    recipe = bench.recipe(PLAIN)
    prepared = bench.prepare(run.countermeasure, recipe, source.cases, run.seed)
    loading = None
    if prepared.steps:
        read = recipe.normalized_images(bench.task).transforms
        training = mt.Compose([*read, *prepared.steps]).set_random_state(derive_seed(run.seed, "augmentation"))
        loading = Loading(training, mt.Compose([*read, *for_test(prepared.steps)]))
    return bench.external(run.victim).train_and_score(
        bench.task,
        prepared.cases,
        _dictionaries(bench.test),
        folder / bench.key(run, source)[:24],
        loading,
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
    """Train a network on one half of the originals and score it on the rest, as they are and as they are published.

    No case that is scored was trained on; see :func:`_halves`.

    Args:
        bench: data, task and networks that all runs share.
        victim: name of the network; it is trained by the first recipe and the first seed.
        sources: published data.
        folder: folder that keeps what was found.

    Returns:
        For each source ``data``, ``victim``, and the score on ``clean`` and on ``protected`` scans in percent.
    """
    recipe, seed, originals = bench.matrix.first_recipe, bench.matrix.seeds[0], bench.originals.cases
    run = Run(CLEAN, victim, recipe, NO_COUNTERMEASURE, seed)
    learn, rest = _halves(originals, bench.summary.empty)

    def chosen(cases: Sequence[Case], places: Sequence[int]) -> list[dict[str, Any]]:
        return _dictionaries([cases[place] for place in places])

    def train() -> list[float]:
        how, matrix = bench.recipe(recipe), bench.matrix
        network = bench.network(victim, seed, how.size)
        model = Victim(network, bench.task, how, (), seed, matrix.device, num_validations=1, amp=matrix.amp)
        trained = model.train_and_score(
            chosen(originals, learn),
            chosen(originals, rest),
            others={source.name: chosen(source.cases, rest) for source in sources},
            description=f"authorized {victim}",
        )
        return [trained.scores.value, *(trained.others[source.name].value for source in sources)]

    # Earlier laboratories took every other case; where these are others, what they found is not.
    halves = [] if learn == [*range(0, len(originals), 2)] else ["of each class"]
    key = fingerprint(["authorized", *halves, *(bench.key(run, source) for source in sources)])
    clean, *protected = kept(folder / f"{key[:24]}.json", train)
    return [
        {"data": source.name, "victim": victim, "clean": clean, "protected": score}
        for source, score in zip(sources, protected, strict=True)
    ]


def _halves(cases: Sequence[Case], empty: Collection[str]) -> tuple[list[int], list[int]]:
    """Places of every other case of each class, and of those whose label is empty by its id; and of the rest.

    Every other case of all may be of one class alone, where classes take turns in a list.
    """
    order = sorted(range(len(cases)), key=lambda place: (cases[place].case_id in empty, cases[place].target))
    return sorted(order[::2]), sorted(order[1::2])


def detect(bench: Bench, source: Source, folder: Path) -> dict[str, list[float]]:
    """How well simple classifiers do on cases that they did not learn from.

    Args:
        bench: data, task and networks that all runs share.
        source: the published data.
        folder: folder that keeps what was found.

    Returns:
        Area under the ROC curve, 0 to 1, and its 95% interval, by what is told from what; 0.5 is chance, NaN unknown.
    """
    victim = (*bench.matrix.networks, bench.usual_victim)[0]
    recipe, seed = bench.matrix.first_recipe, bench.matrix.seeds[0]
    run = Run(source.name, victim, recipe, NO_COUNTERMEASURE, seed)
    key = fingerprint(["detectors", bench.key(run, source)])
    found = kept(folder / f"{key[:24]}.json", lambda: _classify(bench, source, recipe, seed))
    # JSON has no NaN, which areas are where there is nothing to tell apart.
    return {what: [math.nan if number is None else number for number in area] for what, area in found.items()}


def _by_label(samples: Sequence[Any], tasks: Sequence[str]) -> Iterator[tuple[str, Sequence[Any]]]:
    """Loaded cases with one label each, and what that is: one task after the other, where there are several."""
    if not tasks:
        yield "labels", samples
    for index, task in enumerate(tasks):
        yield f"labels of {task}", [{**sample, "label": sample["label"][index]} for sample in samples]


def _classify(bench: Bench, source: Source, recipe: str, seed: int) -> dict[str, list[float]]:
    load = bench.recipe(recipe).normalized_images(bench.task)
    samples = [load(case.to_dict()) for case in source.cases]
    originals = [load(case.to_dict()) for case in bench.originals.cases]
    protected, clean = ([sample["image"] for sample in part] for part in (samples, originals))
    judged = {"protected from clean scans": separability(protected, clean, seed=seed)}
    for words, found in (("residuals", samples), ("clean residuals", originals)):
        for which, own in _by_label(found, bench.originals.cases[0].tasks):
            judged[f"{which} from {words}"] = label_separability(own, seed=seed)
    return {
        f"{what} ({kind})": [area.value, *area.interval]
        for what, found in judged.items()
        for kind, area in (("linear", found.linear), ("two layers", found.two_layer))
    }

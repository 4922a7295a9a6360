# SPDX-License-Identifier: Apache-2.0
"""The method that chooses itself: methods tried on the owner's own data, and the best of them confirmed.

It protects the data with several methods at the epsilon that the wanted fidelity allows, and trains the exploiter's
models on each: first half as long as asked for, then in full on the two that leave least (successive halving;
Jamieson and Talwalkar, AISTATS 2016). The first round is not shorter, because protection may be learned late.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from monai_unlearnable.choosing.rounds import Choice, Rounds
from monai_unlearnable.choosing.trials import UNSEEN, Trials
from monai_unlearnable.crypto import Key, load_key
from monai_unlearnable.data import unpack_archive
from monai_unlearnable.data.dicomweb import is_address
from monai_unlearnable.errors import GoalError, InputError
from monai_unlearnable.evaluation.matrix import listed, training_length
from monai_unlearnable.publishing.archives import is_archive
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.pacs import fetched_studies
from monai_unlearnable.publishing.places import check_output
from monai_unlearnable.publishing.run import bundle_root, method_names
from monai_unlearnable.suited import FOR_CLASSES, FOR_MAPS, FOR_TASKS
from monai_unlearnable.utils import distributed
from monai_unlearnable.utils.files import write_json
from monai_unlearnable.utils.values import check_number, check_path, check_whole

__all__ = ["protect_auto"]

DECIDED = ("protected", "originals", "recipes", "control", "seeds")  # settings of the laboratory that are none here

logger = logging.getLogger(__name__)


def protect_auto(
    dataset_dir: str | Path,
    output_dir: str | Path,
    *,
    stop: str | Sequence[str] = "patches",
    psnr: float | str = 40.0,
    minutes: float | None = None,
    methods: str | Sequence[str] | None = None,
    length: str | None = None,
    iterations: int | None = None,
    key: str | Path | Key | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> Choice:
    """Protect a dataset with the method that stops an exploiter, or say that none does.

    A call that was stopped goes on where it stopped: trials and trainings are kept in ``auto/`` of the output.

    Args:
        dataset_dir: the clean dataset: a folder, an archive, or the address of studies (``dicomweb://...``). Its
            section ``training`` is protected. A test set is needed: its section ``test``, which stays as it is, or
            ``test_dir`` of the laboratory.
        output_dir: folder of the output.
        stop: pipelines of the exploiter: names of recipes, or of victims that other programs train.
        psnr: lowest mean PSNR of the changed scans, in dB; ``"unseen"`` for an epsilon of no more than the noise that
            the sampled scans have by themselves, see :func:`~monai_unlearnable.metrics.fidelity.noise_level`.
        minutes: time limit of all trainings of victims, in minutes; the last ones are shortened to fit.
        methods: names of the methods to try; by default those that fit the task.
        length: length of the last trainings: ``"short"``, ``"standard"`` (the default) or ``"long"``.
        iterations: number of steps of the last trainings, in place of ``length``.
        key: the owner's key or its file.
        overwrite: whether a finished output may be replaced.
        **settings: ``window``, ``label_values``, ``label_geometry``, ``skip_invalid`` and ``seed`` of the protection;
            ``datalist`` and ``device``; and settings of the laboratory such as ``test_dir``, ``victims``, ``width``.

    Returns:
        What was chosen, with the manifest of the published output.

    Raises:
        SkippedCasesError: naming the cases that were skipped, if that was allowed; the others are protected.
        GoalError: with the figures, when no method reaches the goal; then nothing is published.
        FailedTrainingsError: when the exploiter's model cannot be trained, or learns little from the originals.
        InputError: when a setting or name is unknown, test cases are missing, or the time does not suffice.
        OutputError: when the output is complete and may not be replaced.

    Example:
        >>> protect_auto("DATASET", "OUT", stop="patches", psnr=43, minutes=120, test_dir="TEST")
    """
    opened, output = load_key(key), Path(output_dir)
    check_path("datalist", settings.get("datalist"))
    check_output(output, None if is_address(dataset_dir) else dataset_dir, (settings.get("datalist"),))
    Layout(output).check(overwrite, opened)
    last, named = _check(psnr, minutes, length, iterations, settings), _named(methods)
    pipelines = listed("stop", stop)
    if not pipelines:
        raise InputError("stop names no pipeline")
    with _folder(dataset_dir, output, overwrite, opened) as folder:
        trials = Trials(folder, output, pipelines, opened, settings)
        tried = named or _suited(trials)
        choice = _choose(trials, tried, psnr, last, minutes)
        if not choice.stops:
            raise GoalError(f"{choice.sentence()}; nothing was published. Lower psnr, or rely on other means")
        logger.info("%s", choice.sentence())
        source = dataset_dir if is_archive(dataset_dir) else folder  # an archive is published as an archive
        return dataclasses.replace(choice, manifest=trials.publish(choice.best, source, overwrite))


@contextmanager
def _folder(dataset: str | Path, output: Path, overwrite: bool, key: Key | None) -> Iterator[Path]:
    """The folder of a dataset that may be given as an archive, or as the address of studies."""
    if is_address(dataset):
        with fetched_studies(dataset, output, overwrite, key) as folder:
            yield folder
    elif is_archive(dataset):
        name = Path(dataset).stem
        with nullcontext(output / "auto" / "unpacked") if key is None else TemporaryDirectory() as place:
            yield unpack_archive(Path(dataset), Path(place) / name, overwrite)
    else:
        yield Path(dataset)


def _check(psnr: Any, minutes: Any, length: str | None, iterations: Any, settings: Mapping[str, Any]) -> int:
    """Check settings before any work; returns the length of the last trainings."""
    if distributed.started() > 1:
        raise InputError("auto runs in one process; start it without torchrun")
    if psnr != UNSEEN:
        check_number("psnr", psnr)
    if minutes is not None:
        check_number("minutes", minutes)
        if minutes <= 0:
            raise InputError(f"minutes is {minutes:g}, not above 0", value=minutes, limit=0)
    for name in DECIDED:
        if name in settings:
            raise InputError(f"{name} cannot be chosen here; auto decides on it")
    if iterations is None:
        return training_length(length or "standard", None)[1]
    check_whole("iterations", iterations, 2)
    return training_length(length, iterations)[1]


def _named(methods: str | Sequence[str] | None) -> Sequence[str]:
    """The names of methods, if any are given.

    Raises:
        InputError: when there is no such method.
    """
    named = listed("methods", methods) or ()
    for name in named:
        if name not in method_names() and not Path(name).suffix:
            bundle_root(name)  # tells what is meant
    return named


def _suited(trials: Trials) -> Sequence[str]:
    """The methods that are tried where none is named."""
    if trials.cases[0].tasks:
        return FOR_TASKS[:2]  # the others are patterns, as the first
    return FOR_MAPS if trials.is_segmentation else FOR_CLASSES


def _choose(
    trials: Trials, methods: Sequence[str], psnr: float | str, iterations: int, minutes: float | None
) -> Choice:
    """Try methods in rounds that fit the time, and keep what was chosen."""
    rounds = Rounds(trials)
    logger.info("%s", rounds.division())
    iterations = rounds.affordable(len(methods), iterations, minutes)
    choice = rounds.choose(trials.protect(methods, psnr), iterations)
    write_json(trials.work / "choice.json", _record(choice))
    return choice


def _record(choice: Choice) -> dict[str, Any]:
    """What is kept of a choice, without paths."""
    rounds = [asdict(found) for found in choice.rounds]
    chosen = {"method": choice.best.method, "epsilon": choice.best.epsilon}
    return {**chosen, "rounds": rounds, "failed": dict(choice.failed)}

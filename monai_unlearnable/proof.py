# SPDX-License-Identifier: Apache-2.0
"""The proof that protection holds: outputs of the owner handed to the exploiter's side as plain folders.

The laboratory (:mod:`monai_unlearnable.evaluation`) reads folders, as an exploiter would. What only the owner knows is
read here: manifests, encrypted or not, and the control, the originals with random noise of equal epsilon.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from monai_unlearnable.crypto import Key, load_key, secret_seed
from monai_unlearnable.crypto.encrypted import place
from monai_unlearnable.data import Case, LabelGeometry, load_cases
from monai_unlearnable.errors import InputError, OutputError, SkippedCasesError
from monai_unlearnable.evaluation.laboratory import Laboratory, check_part
from monai_unlearnable.evaluation.matrix import Matrix, Published, listed
from monai_unlearnable.evaluation.reporting import write_laboratory_report
from monai_unlearnable.masks import Everywhere, MaskProvider, RandomScore, Roi, Sparsity, TopK
from monai_unlearnable.noise import Manifest
from monai_unlearnable.perturbers import RandomNoise
from monai_unlearnable.publishing.admission import skipped_cases
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.origin import refuse_others
from monai_unlearnable.publishing.places import refuse_within
from monai_unlearnable.publishing.publication import Publication
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.report import Results
from monai_unlearnable.report.rows import PROTECTED, RANDOM
from monai_unlearnable.utils.config import build
from monai_unlearnable.utils.files import fingerprint, write_atomic
from monai_unlearnable.utils.grouping import grouped
from monai_unlearnable.utils.progress import track
from monai_unlearnable.utils.text import counted, first_few
from monai_unlearnable.utils.values import PATHS, check_path, check_switch, check_whole

__all__ = ["describe_output", "evaluate", "frontier", "laboratory", "prepare_laboratory", "random_control"]

logger = logging.getLogger(__name__)

RANDOM_METHOD = "RandomNoise"
METHODS, EPSILONS = ("umed",), (6, 8, 10, 12, 14)


def evaluate(
    output_dir: str | Path, dataset_dir: str | Path, *, key: str | Path | Key | None = None, **settings: Any
) -> tuple[Results, Path]:
    """Train victims on the clean, the protected and a control dataset, and write ``report/`` of the output.

    It is a laboratory with one entry, kept in ``laboratory/`` of the output.

    Args:
        output_dir: an output with ``protected/`` and ``noise/``.
        dataset_dir: folder of the originals.
        key: the owner's key or its file, where the output is encrypted.
        **settings: settings of :func:`laboratory`.

    Returns:
        The results and the report's page.

    Raises:
        UnlearnableError: when a setting is unknown, test cases are missing, or the output cannot be read.
    """
    _refuse(settings, "protected", "report_dir")
    layout, opened = Layout(Path(output_dir)), load_key(key)
    name = Manifest.load(layout.manifest, opened).method
    folder, report = layout.root / "laboratory", layout.report
    return laboratory(dataset_dir, folder, {name: output_dir}, report_dir=report, key=opened, **settings)


def laboratory(
    dataset_dir: str | Path,
    output_dir: str | Path,
    protected: Mapping[str, str | Path] | None = None,
    *,
    part: tuple[int, int] = (0, 1),
    workers: int = 1,
    report_dir: str | Path | None = None,
    pictured: int = 2,
    **settings: Any,
) -> tuple[Results, Path]:
    """Train victims on the originals, on protected data and on a control, and write a report.

    Args:
        dataset_dir: folder of the originals.
        output_dir: folder of the laboratory; one that was stopped goes on where it stopped.
        protected: folders that stand for the originals, by the name they get in tables: outputs of this program, or
            data protected by any other.
        part: part of the trainings: ``(i, n)`` takes every n-th one from the i-th on, for n machines side by side.
        workers: number of processes on this machine, which share its cores.
        report_dir: folder of the report; by default ``report/`` of the laboratory.
        pictured: number of scans of each protected dataset that the report shows.
        **settings: ``control`` and ``key`` of :func:`prepare_laboratory`, and the settings of the
            :class:`~monai_unlearnable.evaluation.matrix.Matrix`.

    Returns:
        The results and the report's page.

    Raises:
        UnlearnableError: when a setting or name is unknown, or data cannot be read.
    """
    check_part(part, workers)
    check_whole("pictured", pictured, 0)
    check_path("report_dir", report_dir)
    prepared = prepare_laboratory(dataset_dir, output_dir, protected, **settings)
    results = prepared.run((part[0], part[1]), workers)
    folder = Path(report_dir) if report_dir is not None else Path(output_dir) / "report"
    return results, write_laboratory_report(prepared, results, folder, pictured)


def prepare_laboratory(
    dataset_dir: str | Path,
    output_dir: str | Path,
    protected: Mapping[str, str | Path] | None = None,
    *,
    control: bool = True,
    key: str | Path | Key | None = None,
    **settings: Any,
) -> Laboratory:
    """Prepare a laboratory over outputs of this program; from then on it needs neither their manifests nor their key.

    Args:
        dataset_dir: folder of the originals.
        output_dir: folder of the laboratory; the control goes to its ``control/``.
        protected: folders that stand for the originals, by the name they get in tables.
        control: whether to add random noise with the epsilon of the first of ``protected`` that records one.
        key: the owner's key or its file, where outputs are encrypted.
        **settings: settings of the :class:`~monai_unlearnable.evaluation.matrix.Matrix`.

    Raises:
        UnlearnableError: when a setting or name is unknown, or data or test cases cannot be read.
    """
    check_switch("control", control)
    if not isinstance(protected or {}, Mapping) or not all(isinstance(name, str) for name in protected or {}):
        raise InputError(f"protected is {protected!r}; give folders by name, such as {{'umed': 'OUT'}}")
    refuse_within(output_dir, dataset_dir)
    folders, opened = dict(protected or {}), load_key(key)
    for name, folder in folders.items():
        check_path(f"protected {name!r}", folder)
    data = {name: describe_output(folder, opened) for name, folder in folders.items()}
    outputs = [layout for layout in map(Layout, folders.values()) if layout.records]
    settings["omitted"] = _omitted(settings.get("omitted"), outputs, opened)
    prepared = Laboratory(Matrix.of(dataset_dir=str(dataset_dir), protected=data, **settings), output_dir)
    refuse_others(prepared.bench.originals.cases, ((layout, _manifest(layout, opened)) for layout in outputs))
    prepared.check()
    model = next((folders[name] for name, known in data.items() if known.epsilon is not None), None)
    if not control or model is None:
        return prepared
    if RANDOM in data:
        raise InputError(f"protected data cannot be called {RANDOM!r}, which the control is called")
    sealing = opened if Layout(Path(model)).is_encrypted else None
    folder = random_control(prepared.bench.originals.cases, Path(model), Path(output_dir) / "control", key=sealing)
    return prepared.extended(RANDOM, describe_output(folder, sealing))


def _omitted(given: Any, outputs: Iterable[Layout], key: Key | None) -> list[str]:
    """The cases that are omitted: those that are given, and those that outputs lack because they were skipped."""
    skipped = {case for layout in outputs for case in skipped_cases(layout, key if layout.is_encrypted else None)}
    if skipped:
        count = f"{counted(len(skipped), 'case')} {'was' if len(skipped) == 1 else 'were'} skipped"
        logger.warning("%s when others were protected: %s", count, first_few(sorted(skipped)))
    return sorted({*(listed("omitted", given) or ()), *skipped})


def random_control(
    cases: Sequence[Case], output_dir: Path, control_dir: Path, seed: int = 0, key: Key | None = None
) -> Path:
    """Write the control of a protected dataset: the same cases with random noise of equal epsilon in the region.

    Where the budget allows only a fraction of the voxels, as many are drawn at random in each case. Where cases have no
    label files, as in datasets with classes of whole images, the noise is everywhere.

    Args:
        cases: the clean cases; those that the output lacks are omitted.
        output_dir: output whose budget, window and label values are taken.
        control_dir: folder of the control; an earlier control there is kept if it fits, else replaced.
        seed: random seed of the noise.
        key: the owner's key. It encrypts the control too, since output and control each give the originals away.

    Returns:
        The folder of the control.
    """
    manifest, known = Manifest.load(Layout(output_dir).manifest, key), Layout(control_dir)
    found = place(known.manifest, key)
    if found.is_file() and _likeness(Manifest.load(found, key)) == _likeness(manifest):
        return control_dir
    seed, known_cases = secret_seed(seed, key), {scan.case_id for scan in manifest.scans}
    cases = [case for case in cases if case.case_id in known_cases]
    budget, window = manifest.scans[0].budget, build(manifest.run["window"])
    support: MaskProvider = Roi() if all(case.label for case in cases) else Everywhere()
    if budget.fraction < 1:
        support = TopK(Sparsity(budget.fraction, RandomScore(seed)), within=support)
    noise, again = RandomNoise(budget.epsilon, support, seed), bool(known.records)
    values, geometry = manifest.run["label_values"], LabelGeometry.IGNORE  # as for the output, which was admitted
    Publication(
        cases, noise, control_dir, window, budget, values, overwrite=again, key=key, label_geometry=geometry
    ).run()
    return control_dir


def _likeness(manifest: Manifest) -> list[tuple[Any, ...]]:
    return [
        (scan.scan_id, scan.clean_sha256, scan.original_label_sha256, scan.budget, scan.window)
        for scan in manifest.scans
    ]


def describe_output(folder: str | Path, key: Key | None = None) -> Published:
    """The view of an output that the exploiter gets: its published folder, and what tables say of its noise.

    Args:
        folder: an output of this program, or any folder of data.
        key: the owner's key, for outputs that are encrypted.

    Raises:
        KeyMismatchError: naming the manifest, when it takes another key.
        NoiseError: naming the manifest, when it cannot be read.
    """
    layout = Layout(Path(folder))
    published = str(layout.protected if layout.protected.is_dir() else folder)
    if not layout.records:
        return Published(published)
    manifest = _manifest(layout, key)
    role = RANDOM if manifest.run["method"] == RANDOM_METHOD else PROTECTED
    epsilon = manifest.scans[0].budget.epsilon
    return Published(published, role, epsilon=epsilon, window=manifest.run["window"])


def _manifest(layout: Layout, key: Key | None) -> Manifest:
    """The record of an output, which need not be encrypted where others are."""
    return Manifest.load(layout.manifest, key if layout.is_encrypted else None)


def frontier(
    dataset_dir: str | Path,
    output_dir: str | Path,
    methods: Sequence[str] = METHODS,
    epsilons: Sequence[float] = EPSILONS,
    bundle: Mapping[str, Any] | None = None,
    *,
    control: bool = True,
    key: str | Path | None = None,
    **settings: Any,
) -> tuple[Results, Path]:
    """Protect a dataset with every method at every budget, examine all, and draw score against fidelity.

    Args:
        dataset_dir: folder of the originals.
        output_dir: folder for ``data/<name>/``, one output each, ``laboratory/`` and ``report/``.
        methods: names of methods, or configuration files.
        epsilons: largest changes, in 1/255 of the intensity window.
        bundle: settings of the methods' bundles.
        control: whether random noise is swept too.
        key: file of the owner's key, to encrypt all outputs.
        **settings: settings of :func:`laboratory`.

    Returns:
        The results and the report's page.

    Raises:
        UnlearnableError: when a setting or name is unknown, two methods have one name, or test cases are missing,
            before anything is protected; when a method cannot protect the dataset, or did so with other settings.
    """
    _refuse(settings, "protected", "report_dir", "pictured")
    _refuse(bundle or {}, "epsilon", "output_dir")
    if not methods or not epsilons:
        raise InputError("a sweep needs at least one method and one epsilon")
    for name, alike in grouped(dict.fromkeys(methods), _output_name).items():
        if len(alike) > 1:
            raise InputError(f"methods {' and '.join(alike)} would both be {name!r}; rename one of the files")
    examined, root = Path(output_dir) / "laboratory", Path(output_dir)
    choices = {name: value for name, value in settings.items() if name not in ("part", "workers")}
    prepare_laboratory(dataset_dir, examined, control=False, **choices)
    paths = {"dataset_dir": dataset_dir, "datalist": settings.get("datalist"), **({"key": key} if key else {})}
    shared = {**(bundle or {}), **{name: None if path is None else Path(path) for name, path in paths.items()}}
    opened = load_key(key)
    outputs = _sweep(root / "data", methods, epsilons, shared, control, opened)
    report: dict[str, Any] = {"report_dir": root / "report", "pictured": 1}
    return laboratory(dataset_dir, examined, outputs, control=False, key=opened, **report, **settings)


def _refuse(settings: Mapping[str, Any], *decided: str) -> None:
    """Refuse settings that are decided already."""
    for name in decided:
        if name in settings:
            raise InputError(f"{name} cannot be chosen here; the command decides on it")


def _output_name(method: str) -> str:
    """What outputs of a method, or of its configuration file, are called."""
    return Path(method).stem.replace(" ", "_")


def _sweep(
    folder: Path,
    methods: Sequence[str],
    epsilons: Sequence[float],
    settings: Mapping[str, Any],
    control: bool,
    key: Key | None,
) -> dict[str, Path]:
    """Outputs by names such as ``"umed 8/255"``; those that are complete already are left as they are.

    Raises:
        OutputError: naming one that was made with other settings.
    """
    outputs: dict[str, Path] = {}
    for epsilon in track(sorted(epsilons), "protecting with epsilon"):
        for method in methods:
            output = folder / f"{_output_name(method)}_{epsilon:g}"
            _protect(output, method, {**settings, "epsilon": epsilon / 255})
            outputs[f"{Path(method).stem} {epsilon:g}/255"] = output
        if control:
            model, output = next(reversed(outputs.values())), folder / f"{RANDOM.replace(' ', '_')}_{epsilon:g}"
            if not Layout(output).records:
                cases = load_cases(settings["dataset_dir"], settings["datalist"])
                random_control(cases, model, output, key=key)
            outputs[f"{RANDOM} {epsilon:g}/255"] = output
    return outputs


def _protect(output: Path, method: str, settings: Mapping[str, Any]) -> None:
    """Make an output of a sweep, unless it is there.

    Raises:
        OutputError: naming the output, when it was made with other settings.
    """
    mark, file = output.parent / f"{output.name}.made", Path(method)
    decisive = sorted((name, repr(value)) for name, value in settings.items() if name not in PATHS)
    content = file.read_text(encoding="utf-8") if file.is_file() else method
    made = fingerprint([content, decisive]).encode()
    if not Layout(output).records:
        with suppress(SkippedCasesError):  # the others are done
            run_bundle(method, output_dir=output, **settings)
        write_atomic(mark, made)
    elif mark.is_file() and mark.read_bytes() != made:
        reason = "was made with other settings of its method; give another folder for the sweep, or remove this one"
        raise OutputError(reason, file=output)

# SPDX-License-Identifier: Apache-2.0
"""The frontier: methods protected at several budgets, each examined, drawn in one figure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_unlearnable.crypto import load_key
from monai_unlearnable.data import load_cases
from monai_unlearnable.errors import InputError
from monai_unlearnable.evaluation.laboratory import Laboratory
from monai_unlearnable.evaluation.matrix import Matrix
from monai_unlearnable.evaluation.reporting import write_laboratory_report
from monai_unlearnable.publishing.bundles import run_bundle
from monai_unlearnable.publishing.control import random_control
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.report import Results
from monai_unlearnable.report.rows import RANDOM

__all__ = ["check_sweep", "sweep", "draw_frontier"]


def check_sweep(output_dir: str | Path, **settings: Any) -> None:
    """Look for what the examination of a sweep will need, before any time is spent on protection.

    Args:
        output_dir: of the sweep.
        settings: as for :func:`draw_frontier`.

    Raises:
        UnlearnableError: when test cases are missing, or a setting or name is unknown.
    """
    matrix = Matrix.of(protected={}, control=False, **settings)
    # With the cells of the originals, whether or not they are wanted: there are no others before the protection.
    Laboratory(dataclasses.replace(matrix, originals=True), Path(output_dir) / "laboratory").check()


def sweep(
    dataset_dir: str | Path,
    output_dir: str | Path,
    methods: Mapping[str, str],
    epsilons: Sequence[float],
    datalist: str | Path | None = None,
    control: bool = True,
    key: str | None = None,
    **overrides: Any,
) -> dict[str, str]:
    """Protect a dataset with every method at every budget; what is complete already is left as it is.

    Args:
        dataset_dir: the originals.
        output_dir: gets ``data/<name>/``, one output each.
        methods: what :func:`~monai_unlearnable.publishing.bundles.run_bundle` takes, by the name it gets in tables.
        epsilons: radii of the noise, in 1/255 of the intensity window.
        datalist: of the originals.
        control: whether random noise is swept too.
        key: file of the owner's key, to seal all outputs.
        overrides: settings of the bundles.

    Returns:
        The outputs by name, such as ``"umed 8/255"``.

    Raises:
        InputError: when there is no method or no epsilon.
    """
    if not methods or not epsilons:
        raise InputError("a sweep needs at least one method and one epsilon")
    opened = load_key(key)
    outputs: dict[str, str] = {}
    for epsilon in sorted(epsilons):
        for name, method in methods.items():
            folder = _folder(output_dir, name, epsilon)
            if not Layout(folder).records:
                settings: dict[str, Any] = {"dataset_dir": str(dataset_dir), "output_dir": str(folder), **overrides}
                settings |= {} if key is None else {"key": key}
                settings["datalist"] = None if datalist is None else str(datalist)
                run_bundle(method, epsilon=epsilon / 255, **settings)
            outputs[f"{name} {epsilon:g}/255"] = str(folder)
        if control:
            model, folder = Path(next(reversed(outputs.values()))), _folder(output_dir, RANDOM, epsilon)
            if not Layout(folder).records:
                random_control(load_cases(dataset_dir, datalist), model, folder, key=opened)
            outputs[f"{RANDOM} {epsilon:g}/255"] = str(folder)
    return outputs


def _folder(output_dir: str | Path, name: str, epsilon: float) -> Path:
    return Path(output_dir) / "data" / f"{name.replace(' ', '_')}_{epsilon:g}"


def draw_frontier(outputs: Mapping[str, str], output_dir: str | Path, **settings: Any) -> tuple[Results, Path]:
    """Examine the outputs of a sweep and write the report, whose frontier shows all methods.

    Args:
        outputs: as :func:`sweep` gives them.
        output_dir: gets ``laboratory/`` and ``report/``.
        settings: of the :class:`~monai_unlearnable.evaluation.matrix.Matrix`, ``dataset_dir`` among them.

    Returns:
        The results and the report's page.
    """
    matrix = Matrix.of(protected=dict(outputs), control=False, **settings)
    laboratory = Laboratory(matrix, Path(output_dir) / "laboratory")
    results = laboratory.run()
    return results, write_laboratory_report(laboratory, results, Path(output_dir) / "report", pictured=1)

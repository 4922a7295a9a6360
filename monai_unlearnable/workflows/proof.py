# SPDX-License-Identifier: Apache-2.0
"""The proof of one protected dataset: its control, its victims, its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai_unlearnable.noise import Manifest, load_key
from monai_unlearnable.report import Results
from monai_unlearnable.workflows.laboratory import Laboratory
from monai_unlearnable.workflows.layout import Layout
from monai_unlearnable.workflows.matrix import Matrix
from monai_unlearnable.workflows.reporting import write_laboratory_report

__all__ = ["evaluate_folders"]


def evaluate_folders(output_dir: str | Path, dataset_dir: str | Path, **settings: Any) -> tuple[Results, Path]:
    """Train victims on the clean, the protected and a control dataset, and write ``report/`` of the output.

    Args:
        output_dir: an output with ``protected/`` and ``noise/``; control and cells go to its ``laboratory/``.
        dataset_dir: the clean dataset.
        **settings: of the :class:`~monai_unlearnable.workflows.matrix.Matrix`.

    Returns:
        The results and the report's page.
    """
    layout = Layout(Path(output_dir))
    method = str(Manifest.load(layout.manifest, load_key(settings.get("key"))).run["method"])
    matrix = Matrix.of(dataset_dir=str(dataset_dir), protected={method: str(output_dir)}, **settings)
    laboratory = Laboratory(matrix, layout.root / "laboratory")
    results = laboratory.run()
    return results, write_laboratory_report(laboratory, results, layout.report)

# SPDX-License-Identifier: Apache-2.0
"""A demonstration on phantom scans of our own making: protected, verified, and learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai_unlearnable.phantoms import write_phantom_dataset
from monai_unlearnable.proof import evaluate
from monai_unlearnable.publishing.places import check_output
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.report import Results

__all__ = ["run_demo"]


def run_demo(output_dir: str | Path, seed: int = 0, iterations: int = 200, **overrides: Any) -> tuple[Results, Path]:
    """Run the main job on a phantom dataset of our own making, in minutes on two cores.

    Args:
        output_dir: folder for ``phantoms/`` and ``umed/`` (the protected dataset, its control and its report).
        seed: random seed of phantoms, noise and victims.
        iterations: training steps of each victim.
        **overrides: settings of the umed bundle.

    Returns:
        The results and the report's page.

    Raises:
        OutputError: when the folder holds other data.
    """
    check_output(output_dir)
    data, protected = Path(output_dir) / "phantoms", Path(output_dir) / "umed"
    write_phantom_dataset(data, seed=seed)
    run_bundle("umed", dataset_dir=data, output_dir=protected, seed=seed, overwrite=True, **overrides)
    verify(protected, data)
    return evaluate(protected, data, iterations=iterations, seeds=(seed,), validation_fraction=0)

# SPDX-License-Identifier: Apache-2.0
"""The control of a protected dataset: random noise of equal epsilon in the region, or everywhere without one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_unlearnable.crypto import secret_seed
from monai_unlearnable.crypto.encrypted import Key, place
from monai_unlearnable.data import Case
from monai_unlearnable.masks import Everywhere, MaskProvider, RandomScore, Roi, Sparsity, TopK
from monai_unlearnable.noise import Manifest
from monai_unlearnable.perturbers import RandomNoise
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.publication import Publication
from monai_unlearnable.utils.config import build

__all__ = ["random_control"]


def random_control(
    cases: Sequence[Case], output_dir: Path, control_dir: Path, seed: int = 0, key: Key | None = None
) -> Path:
    """Write the control of a protected dataset: the same cases with random noise of equal epsilon in the region.

    Where the budget grants a fraction of the voxels only, as many are drawn by chance in each case.
    Where cases have no label files, as in datasets of classes of whole images, the noise is everywhere.

    Args:
        cases: the clean cases.
        output_dir: output whose budget, window and label values are taken.
        control_dir: folder of the control; an earlier control there is kept if it fits, else replaced.
        seed: random seed of the noise.
        key: key that the output is encrypted with, and the control will be: either gives the originals away.

    Returns:
        The folder of the control.
    """
    manifest, known = Manifest.load(Layout(output_dir).manifest, key), Layout(control_dir)
    found = place(known.manifest, key)
    if found.is_file() and _likeness(Manifest.load(found, key)) == _likeness(manifest):
        return control_dir
    seed = secret_seed(seed, key)
    budget, window = manifest.scans[0].budget, build(manifest.run["window"])
    support: MaskProvider = Roi() if all(case.label for case in cases) else Everywhere()
    if budget.fraction < 1:
        support = TopK(Sparsity(budget.fraction, RandomScore(seed)), within=support)
    noise, again = RandomNoise(budget.epsilon, support, seed), bool(known.records)
    Publication(cases, noise, control_dir, window, budget, manifest.run["label_values"], overwrite=again, key=key).run()
    return control_dir


def _likeness(manifest: Manifest) -> list[tuple[Any, ...]]:
    return [
        (scan.scan_id, scan.clean_sha256, scan.original_label_sha256, scan.budget, scan.window)
        for scan in manifest.scans
    ]

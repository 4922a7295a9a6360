# SPDX-License-Identifier: Apache-2.0
"""The control of a protected dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from monai_unlearnable.budget import Budget
from monai_unlearnable.data import load_cases
from monai_unlearnable.intensity import DtypeWindow
from monai_unlearnable.perturbers import LinearPatterns
from monai_unlearnable.proof import random_control
from monai_unlearnable.publishing.publication import Publication
from monai_unlearnable.publishing.verify import verify
from tests.helpers import BUDGET, protect, stored_voxels, tree, write_dataset


def test_regions_get_noise_of_the_full_epsilon(tmp_path: Path) -> None:
    clean = write_dataset(tmp_path / "clean")
    protect(clean, tmp_path / "out", label_values=(0, 1, 2))
    control = random_control(load_cases(clean), tmp_path / "out", tmp_path / "control")
    verify(control, clean)
    for name in ("a", "b"):
        before, after, label = (
            stored_voxels(root / folder / f"{name}.nii.gz")
            for root, folder in ((clean, "images"), (control / "protected", "images"), (clean, "labels"))
        )
        assert np.array_equal(before != after, label > 0)


def test_classes_of_whole_images_get_it_everywhere(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index in range(4):
        path = tmp_path / "clean" / "bd"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(50, 200, (20, 16), "uint8")).save(path)
    cases = load_cases(tmp_path / "clean")
    Publication(cases, LinearPatterns(BUDGET.epsilon), tmp_path / "out", DtypeWindow(), BUDGET).run()
    control = random_control(cases, tmp_path / "out", tmp_path / "control")
    verify(control, tmp_path / "clean")
    made = tree(control)
    assert tree(random_control(cases, tmp_path / "out", control)) == made
    for case in cases:
        before, after = (
            stored_voxels(root / case.images[0]).astype(int) for root in (case.root, control / "protected")
        )
        assert (abs(before - after) == int(255 * BUDGET.epsilon)).all()


def test_where_voxels_are_counted_as_many_are_drawn_by_chance(tmp_path: Path) -> None:
    clean, budget = write_dataset(tmp_path / "clean"), Budget(0.1, fraction=0.02)
    protect(clean, tmp_path / "out", budget=budget, label_values=(0, 1, 2))
    control = random_control(load_cases(clean), tmp_path / "out", tmp_path / "control")
    changed = []
    for entry in verify(control, clean).scans:
        before, after, label = (
            stored_voxels(path)
            for path in (clean / entry.file, control / "protected" / entry.output, clean / entry.label)
        )
        changed.append(before != after)
        assert changed[-1].sum() == int(0.02 * before.size) and not changed[-1][label == 0].any()
    assert (changed[0] & changed[1]).sum() < changed[0].sum() / 2, "not the same voxels in each case"


def test_another_budget_another_control(tmp_path: Path) -> None:
    clean = write_dataset(tmp_path / "clean")
    for epsilon in (0.1, 0.05):
        protect(clean, tmp_path / f"out{epsilon}", budget=Budget(epsilon), label_values=(0, 1, 2))
    first = tree(random_control(load_cases(clean), tmp_path / "out0.1", tmp_path / "control"))
    assert tree(random_control(load_cases(clean), tmp_path / "out0.05", tmp_path / "control")) != first

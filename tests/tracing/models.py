# SPDX-License-Identifier: Apache-2.0
"""A small model of voxels, which learns carriers as a network would, in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from monai_unlearnable.countermeasures.classifiers import fit_classifier
from monai_unlearnable.data import Case, read_case
from monai_unlearnable.intensity import AutoWindow
from monai_unlearnable.perturbers.carriers import alternating, carrier, carrier_axes

WINDOW = AutoWindow()


def features(image: NDArray) -> torch.Tensor:
    """Intensity around each voxel, and what its neighborhood holds of each carrier, (voxels, features)."""
    values = torch.from_numpy(image)[None]
    lines = alternating(values.shape[2:])
    found = [F.avg_pool3d(values, 5, 1, 2)]
    for axes in carrier_axes(image.ndim - 1):
        found.append(F.avg_pool3d(values * carrier(axes, lines), 5, 1, 2).abs())
    return torch.cat(found).reshape(len(found), -1).T


class VoxelModel:
    """Tells the class of each voxel from its surroundings.

    Args:
        cases: labeled cases to learn from.
        values: stored value of each class.
    """

    def __init__(self, cases: Sequence[Case], values: Sequence[int]) -> None:
        rows, classes = [], []
        for case in cases:
            loaded = read_case(case, WINDOW, values)
            assert loaded.label is not None
            rows.append(features(loaded.image)[::3])
            classes.append(torch.from_numpy(loaded.label.reshape(-1)[::3].astype(np.int64)))
        targets = F.one_hot(torch.cat(classes), len(values)).float()
        self.model = fit_classifier(torch.cat(rows), targets, hidden=12, by_feature=True, penalty=1e-3, iterations=80)

    def __call__(self, files: list[str]) -> NDArray:
        """Class of each voxel, (spatial...)."""
        path = Path(files[0])
        image = read_case(Case("probe", path.parent, (path.name,)), WINDOW).image
        found = self.model.log_probabilities(features(image)).argmax(1)
        return found.reshape(image.shape[1:]).numpy()

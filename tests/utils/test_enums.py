# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from monai.utils.enums import StrEnum

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import Sparsity
from monai_unlearnable.perturbers import (
    Augmentation,
    AutoregressiveNoise,
    ClasswiseNoise,
    GradientNoise,
    Objective,
    RandomNoise,
    SymmetricLattice,
)
from monai_unlearnable.utils.enums import look_up


class Color(StrEnum):
    RED = "red"
    GREEN = "green"


def test_options_are_found_by_name_or_member() -> None:
    assert look_up("color", "red", Color) is look_up("color", Color.RED, Color) is Color.RED
    assert look_up("color", "red", {"red": 3}) == 3 and look_up("color", "red", ("red", "green")) == "red"


@pytest.mark.parametrize("options", [Color, ("red", "green"), {"red": 1, "green": 2}])
def test_unknown_options_are_errors_of_one_line(options: Any) -> None:
    with pytest.raises(InputError, match=r"^unknown color 'reed'; known are red, green; did you mean 'red'\?$"):
        look_up("color", "reed", options)
    for name in ("turquoise", 3, ["red"], None):
        with pytest.raises(InputError, match=r"^unknown color .*; known are red, green[^\n]*$"):
            look_up("color", name, options)


@pytest.mark.parametrize(
    ("make", "kind", "meant"),
    [
        (lambda: Sparsity(of="foregroud"), "base of a fraction", "foreground"),
        (lambda: Sparsity(per="voxels"), "unit of a fraction", "voxel"),
        (lambda: Objective("maximise"), "goal", "maximize"),
        (lambda: GradientNoise([], mask_refresh="rounds"), "mask_refresh", "round"),
        (lambda: AutoregressiveNoise(granularity="clas"), "granularity", "class"),
        (lambda: ClasswiseNoise(1, 2, (2, 2), granularity="clas"), "granularity", "class"),
        (lambda: SymmetricLattice(code="axis"), "code", "axes"),
        (lambda: RandomNoise(distribution="lowpass"), "distribution", "low_pass"),
        (lambda: Augmentation.of_recipe("nnUNet"), "recipe", "nnunet"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_misspelled_options_of_objects(make: Callable[[], object], kind: str, meant: str) -> None:
    with pytest.raises(InputError, match=rf"^unknown {kind} '.*'; known are .*; did you mean '{meant}'\?$"):
        make()

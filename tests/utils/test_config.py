# SPDX-License-Identifier: Apache-2.0
"""Descriptions of objects, and what is not built from them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import ContourBand, Everywhere, MaskProvider, OfClasses, Roi, TextureMap
from monai_unlearnable.perturbers import UMed
from monai_unlearnable.utils.config import Configurable, build, describe

MASKS = [
    Everywhere(),
    Roi(2),
    ContourBand(1, 4),
    TextureMap(2, 0.5, 0.1),
    (Roi(3) & ~ContourBand()) | TextureMap(),
    Everywhere() & ~OfClasses([1, 3]),
]


@pytest.mark.parametrize("mask", MASKS, ids=repr)
def test_masks_round_trip_through_json(mask: MaskProvider) -> None:
    assert build(json.loads(json.dumps(describe(mask)))) == mask


def test_perturbers_round_trip_through_json() -> None:
    perturber = UMed(2, 3, 0.05, (4, 8), 0.5, support=Roi(1), texture=TextureMap() & ~Roi())
    description = json.loads(json.dumps(describe(perturber)))
    assert description["_target_"] == "monai_unlearnable.perturbers.generators.UMed"
    again = build(description)
    assert isinstance(again, UMed) and describe(again) == description


@pytest.mark.parametrize("value", [3, 0.5, "text", None, True, [1, [2.0, "x"]]])
def test_plain_values_describe_themselves(value: Any) -> None:
    assert build(describe(value)) == value


def test_what_cannot_be_described() -> None:
    with pytest.raises(TypeError, match="set"):
        describe({1, 2})


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "torch.nn.Linear",
        "monai.networks.nets.UNet",
        "monai_unlearnable_evil.masks.Roi",
        "monai_unlearnable.noise.NoiseStore",
        "monai_unlearnable.utils.files.os.system",
        "monai_unlearnable.masks.Nothing",
        "monai_unlearnable.nothing.Roi",
        "monai_unlearnable..masks.Roi",
        "Roi",
        "",
    ],
)
def test_foreign_targets_are_refused(target: str) -> None:
    with pytest.raises(InputError, match="no class of monai_unlearnable"):
        build({"_target_": target, "command": "true"})


def test_foreign_targets_are_refused_inside_others() -> None:
    description = describe(~Roi())
    description["inner"] = {"_target_": "os.system", "command": "true"}
    with pytest.raises(InputError, match=r"os\.system"):
        build(description)


def test_dictionaries_without_target_are_refused() -> None:
    with pytest.raises(InputError):
        build({"margin": 3})


@pytest.mark.parametrize(
    "description",
    [
        {"_target_": "monai_unlearnable.masks.Roi", "nothing": 1},
        {"_target_": "monai_unlearnable.masks.Complement"},
        {"_target_": "monai_unlearnable.masks.MaskProvider"},
        {"_target_": "monai_unlearnable.perturbers.UMed", "spatial_dims": 2, "channels": []},
        {"_target_": "monai_unlearnable.perturbers.UMed", "spatial_dims": 7},
    ],
    ids=str,
)
def test_wrong_arguments_are_input_errors(description: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="cannot be built"):
        build(description)


def test_only_configurable_classes_are_built() -> None:
    class Local(Configurable):
        pass

    with pytest.raises(InputError):
        build({"_target_": f"{Local.__module__}.{Local.__qualname__}"})

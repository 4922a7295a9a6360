# SPDX-License-Identifier: Apache-2.0
"""Descriptions of objects, and what is not built from them."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.intensity import DtypeWindow, FixedWindow, PercentileWindow
from monai_unlearnable.masks import (
    ContourBand,
    Everywhere,
    ForegroundScore,
    GradientScore,
    MaskProvider,
    OfClasses,
    Roi,
    Sparsity,
    TextureMap,
    TopK,
    VarianceScore,
)
from monai_unlearnable.perturbers import (
    Augmentation,
    AutoregressiveNoise,
    ClassConvolution,
    ClasswiseNoise,
    FixedVoxels,
    GradientNoise,
    InputSettings,
    LinearPatterns,
    LinearSurrogate,
    Objective,
    RandomNoise,
    SalientVoxels,
    Surrogate,
    SymmetricLattice,
    UMed,
    VoxShield,
)
from monai_unlearnable.utils.config import Configurable, Described, build, check_buildable
from monai_unlearnable.utils.descriptions import describe

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
    assert description["_target_"] == "monai_unlearnable.perturbers.UMed"
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
    with pytest.raises(InputError, match="not a class of monai_unlearnable"):
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


SURROGATE = Surrogate("UNet", 2, 1, 3, (16, 16), 4)
AUGMENTATION = Augmentation(flip=True, noise=0.1, prob=0.5)
ON_FOREGROUND = Sparsity(0.1, ForegroundScore(3), "foreground", "voxel", 2)
EARLIER = [  # what the descriptions in the file, which an earlier version wrote, are of
    UMed(2, 1, 0.03, (4, 8), 0.5, support=Roi(1) & ~ContourBand(1, 2), carrier_axis=1),
    VoxShield(2, channels=(4, 8)),
    ClasswiseNoise(1, 3, (4, 4), 0.05, "universal", OfClasses([1])),
    GradientNoise(
        [SURROGATE],
        0.05,
        Objective("target", [1, 2, 0]),
        2,
        support=Roi(),
        sparsity=ON_FOREGROUND,
        mask_refresh="step",
        augmentation=AUGMENTATION,
        divisor=8,
    ),
    SalientVoxels(
        SURROGATE, Sparsity(0.2, GradientScore(True)), augmentation=AUGMENTATION, within=Roi() | TextureMap()
    ),
    TopK(Sparsity(0.1, VarianceScore(2))),
    AutoregressiveNoise(0.05, seed=3),
    ClassConvolution(0.05, Everywhere(), "case"),
    FixedVoxels(0.05, None, "class", 0.2, 4),
    LinearPatterns(cells=6),
    LinearSurrogate(3, (4, 4)),
    SymmetricLattice(0.05, axes=(0, 1), code="axes"),
    RandomNoise(0.05, distribution="low_pass", rms=0.02),
    InputSettings(FixedWindow(-160, 240), [0, 7]),
    InputSettings(PercentileWindow()),
    InputSettings(DtypeWindow()),
]
EARLIER_DESCRIPTIONS = json.loads((Path(__file__).parent / "earlier_descriptions.json").read_text())


@pytest.mark.parametrize(("expected", "description"), [*zip(EARLIER, EARLIER_DESCRIPTIONS, strict=True)], ids=str)
def test_descriptions_of_an_earlier_version_are_understood(expected: Any, description: Any) -> None:
    assert describe(build(description)) == describe(expected)


def test_classes_are_named_by_the_package_that_exports_them() -> None:
    for mask in (*MASKS, *EARLIER):
        assert describe(mask)["_target_"].count(".") == 2


def test_arguments_are_those_of_the_signature() -> None:
    class Two(Described):
        undescribed, held_as = ("device",), {"second": "other"}

        def __init__(self, first: int, second: int = 2, device: str = "cpu") -> None:
            self.first, self.other = first, second

    assert Two(3, 4).arguments() == {"first": 3, "second": 4}


def test_an_argument_that_no_attribute_holds_is_named() -> None:
    class Forgetful(Described):
        def __init__(self, kept: int, lost: int) -> None:
            self.kept = kept

    with pytest.raises(TypeError, match="Forgetful cannot be described: keep its argument 'lost' in an attribute"):
        Forgetful(1, 2).arguments()


LAYERS = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())


def loss(logits: Any, label: Any) -> Any:
    return logits - label


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LAYERS, nn.Sequential(nn.Conv2d(1, 2, 5), nn.ReLU())),
        (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)),
        (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(torch.tensor([1.0, 2.0]))),
        (torch.optim.SGD(LAYERS.parameters(), 0.1), torch.optim.SGD(LAYERS.parameters(), 0.2)),
        (torch.optim.SGD(LAYERS.parameters(), 0.1), torch.optim.SGD(LAYERS[:1].parameters(), 0.1, momentum=0.5)),
        (loss, torch.nn.functional.cross_entropy),
        (functools.partial(loss, label=1), functools.partial(loss, label=2)),
        ({"a": 1}, {"a": 2}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_torch_makes_is_described_by_its_settings(one: Any, other: Any) -> None:
    assert describe(one) == describe(one) == json.loads(json.dumps(describe(one))) != describe(other)
    assert " at 0x" not in json.dumps(describe(one))


def test_weights_are_not_described() -> None:
    before = describe(LAYERS)
    nn.init.zeros_(LAYERS[0].weight)
    assert describe(LAYERS.eval()) == before


def test_what_cannot_be_built_again_is_found_when_it_is_saved() -> None:
    with pytest.raises(InputError, match=r"torch\.nn\.Sequential"):
        check_buildable(describe(SalientVoxels(LAYERS) & Roi()))
    for mask in MASKS:
        check_buildable(describe(mask))

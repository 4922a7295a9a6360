# SPDX-License-Identifier: Apache-2.0
"""The description of a trainer tells any two runs apart that would make other noise."""

from __future__ import annotations

import copy
import inspect
import json
from typing import Any

import pytest
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from torch import nn

from monai_unlearnable.budget import Budget
from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import Everywhere, Roi
from monai_unlearnable.perturbers import Augmentation, Objective
from monai_unlearnable.training import (
    Alternating,
    BudgetAudit,
    EpochLoader,
    LogitDivergence,
    ProtectionTrainer,
    SignDescent,
    Snapshots,
    StopAtError,
    SurrogatePool,
    TrainingProgress,
    Unrolled,
)
from monai_unlearnable.utils.config import build
from monai_unlearnable.utils.descriptions import describe
from tests.helpers import small_surrogate, small_umed
from tests.training.test_trainer import batches

DATA = batches(2)
NETWORK = UNet(2, 1, 2, (4, 8), (2,))
UMED = small_umed(2)
LOADER = {"dataset": DATA, "batch_size": 2, "batches": 4}
POOL = {"networks": NETWORK, "size": 2, "lifetime": 5}
ADAM = torch.optim.Adam(UMED.parameters(), 0.01)
ARGUMENTS: dict[str, Any] = {
    "device": "cpu",
    "max_epochs": 3,
    "train_data_loader": EpochLoader(**LOADER),
    "surrogates": SurrogatePool(**POOL),
    "perturber": UMED,
    "perturber_optimizer": ADAM,
}
CHANGES = [
    ("max_epochs", 4),
    ("train_data_loader", EpochLoader(**{**LOADER, "dataset": batches(2, 5)})),
    ("train_data_loader", EpochLoader(**{**LOADER, "batch_size": 3})),
    ("train_data_loader", EpochLoader(**{**LOADER, "batches": 5})),
    ("train_data_loader", EpochLoader(**LOADER, seed=1)),
    ("train_data_loader", EpochLoader(**LOADER, weights=[1.0] * len(DATA))),
    ("surrogates", SurrogatePool(**{**POOL, "networks": UNet(2, 1, 2, (4, 8), (1,))})),
    ("surrogates", SurrogatePool(**{**POOL, "networks": [NETWORK, NETWORK]})),
    ("surrogates", SurrogatePool(**{**POOL, "networks": small_surrogate("UNet")})),
    ("surrogates", SurrogatePool(**{**POOL, "size": 3})),
    ("surrogates", SurrogatePool(**{**POOL, "lifetime": None})),
    ("surrogates", SurrogatePool(**POOL, learning_rate=1e-3)),
    ("surrogates", SurrogatePool(**POOL, warmup=3)),
    ("surrogates", SurrogatePool(**POOL, seed=3)),
    ("perturber", None),
    ("perturber", small_umed(2, support=Everywhere())),
    ("perturber_optimizer", None),
    ("perturber_optimizer", torch.optim.Adam(UMED.parameters(), 0.02)),
    ("perturber_optimizer", torch.optim.SGD(UMED.parameters(), 0.01)),
    ("perturber_optimizer", SignDescent(UMED.parameters(), 0.01, 0.1)),
    ("loss_function", Objective("maximize")),
    ("loss_function", DiceCELoss(softmax=True, to_onehot_y=True)),
    ("strategy", Alternating(2)),
    ("strategy", Alternating(None)),
    ("strategy", Unrolled()),
    ("augmentation", Augmentation(flip=True)),
    ("penalties", [LogitDivergence()]),
    ("seed", 1),
    ("epoch_length", 2),
    ("train_handlers", [StopAtError(0.1)]),
    ("train_handlers", [Snapshots(NETWORK, nn.ModuleList(), 2)]),
    ("amp", True),
]


def description(**changes: Any) -> Any:
    return describe(ProtectionTrainer(**{**ARGUMENTS, **changes}))


def test_every_argument_has_a_change_here() -> None:
    assert {"device", *(name for name, _ in CHANGES)} == set(inspect.signature(ProtectionTrainer).parameters)


def test_what_decides_on_the_noise_changes_the_description() -> None:
    found = [description(), *(description(**{name: value}) for name, value in CHANGES)]
    texts = [json.dumps(one, sort_keys=True) for one in found]
    assert len(set(texts)) == len(texts) and not any(" at 0x" in text for text in texts)


@pytest.mark.parametrize(
    "changes",
    [
        {"device": torch.device("cpu")},
        {"train_handlers": [ARGUMENTS["train_data_loader"], TrainingProgress(), BudgetAudit(Budget(0.1))]},
        {"surrogates": SurrogatePool(**POOL, device=torch.device("cpu"))},
        {"surrogates": SurrogatePool(**{**POOL, "networks": copy.deepcopy(NETWORK)})},
        {"loss_function": inspect.signature(ProtectionTrainer).parameters["loss_function"].default},
        {"strategy": Alternating(), "augmentation": Augmentation()},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_what_does_not_decide_leaves_it_as_it_is(changes: Any) -> None:
    assert description(**changes) == description()


@pytest.mark.parametrize("perturber", [small_umed(2), small_umed(2, support=Roi(1))])
def test_the_description_is_the_same_after_training(perturber: Any) -> None:
    optimizer = torch.optim.Adam(perturber.parameters(), 0.01)
    loader = EpochLoader(**LOADER)
    handlers = [loader, StopAtError(0.9)]
    arguments = {"perturber": perturber, "perturber_optimizer": optimizer, "train_handlers": handlers}
    trainer = ProtectionTrainer(**{**ARGUMENTS, **arguments, "train_data_loader": loader})
    before = describe(trainer)
    trainer.run()
    assert trainer.state.iteration and describe(trainer) == before


def test_trainers_are_never_built_from_a_description() -> None:
    with pytest.raises(InputError, match="may build"):
        build(description())

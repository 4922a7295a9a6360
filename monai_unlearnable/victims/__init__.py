# SPDX-License-Identifier: Apache-2.0
"""The exploiter: recipes and training; it reads folders and knows nothing of how noise was made."""

from .networks import DeepSupervision, FirstOutput, Padded, SliceWise, checked_network, fresh_network, planned_dynunet
from .patches import RandAffinePatchD, RandAffinePatchd, RandAffinePatchDict
from .recipes import (
    AdversarialBatch,
    RandChannelWiseD,
    RandChannelWised,
    RandChannelWiseDict,
    Recipe,
    mirroring,
    nnunet_augmentation,
)
from .tasks import Classification, Segmentation, Task
from .training import Trained, Victim, score_victim, train_victim
from .weights import ENCODER, Loaded, freeze, load_pretrained, pretrain_encoder, save_weights

__all__ = [
    "AdversarialBatch",
    "Classification",
    "DeepSupervision",
    "ENCODER",
    "FirstOutput",
    "Loaded",
    "Padded",
    "RandAffinePatchD",
    "RandAffinePatchDict",
    "RandAffinePatchd",
    "RandChannelWiseD",
    "RandChannelWiseDict",
    "RandChannelWised",
    "Recipe",
    "Segmentation",
    "SliceWise",
    "Task",
    "Trained",
    "Victim",
    "checked_network",
    "freeze",
    "fresh_network",
    "load_pretrained",
    "mirroring",
    "nnunet_augmentation",
    "planned_dynunet",
    "pretrain_encoder",
    "save_weights",
    "score_victim",
    "train_victim",
]

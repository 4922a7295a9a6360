# SPDX-License-Identifier: Apache-2.0
"""Surrogate networks and the losses that noise minimizes or maximizes on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss
from monai.utils.enums import StrEnum
from torch import Tensor, nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.utils.config import Configurable
from monai_unlearnable.utils.enums import look_up
from monai_unlearnable.utils.seeding import isolated_seed
from monai_unlearnable.utils.tensors import is_map

__all__ = ["Goal", "Objective", "Surrogate", "task_loss", "error_rate"]


class Surrogate(nn.Module, Configurable):
    """A network of the package's catalog, named so that a checkpoint can make it again.

    Args:
        name: entry of ``catalogs/networks.yaml``, such as ``"ResNet18"`` or ``"UNet"``.
        spatial_dims: 2 or 3.
        in_channels: image channels.
        num_classes: number of classes, which is that of the outputs.
        size: spatial size of the input.
        width: number of channels of the first layer.

    Raises:
        InputError: listing the names, when there is no such network, or it cannot be built for this size.
    """

    def __init__(
        self, name: str, spatial_dims: int, in_channels: int, num_classes: int, size: Sequence[int], width: int = 8
    ) -> None:
        super().__init__()
        # Numbers only: checkpoints travel, and the catalog would evaluate a string.
        self.name, self.spatial_dims, self.in_channels = name, int(spatial_dims), int(in_channels)
        self.num_classes, self.size, self.width = int(num_classes), tuple(int(extent) for extent in size), int(width)
        values = {"dims": self.spatial_dims, "channels": self.in_channels, "classes": self.num_classes}
        with isolated_seed(0):
            self.network = Catalog.load("networks").build(name, **values, size=list(self.size), width=self.width)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes[, spatial...]) of network input; of deep supervision the finest."""
        logits: Tensor = self.network(image)
        return logits[:, 0] if logits.ndim > image.ndim else logits


class Goal(StrEnum):
    """What noise does to the loss; see :class:`Objective`."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"
    TARGET = "target"


def task_loss(logits: Tensor, label: Tensor) -> Tensor:
    """The exploiter's loss: cross-entropy for classes of whole images, Dice plus cross-entropy for class maps.

    Args:
        logits: (B, classes[, spatial...]), or (B, classes, tasks), see
            :class:`~monai_unlearnable.utils.heads.TaskHeads`.
        label: class indices, (B,), (B, 1, spatial...) or (B, tasks).
    """
    if not is_map(label):
        return F.cross_entropy(logits, label)
    return DiceCELoss(softmax=True, to_onehot_y=True, include_background=False)(logits, label)


@torch.no_grad()
def error_rate(logits: Tensor, label: Tensor) -> float:
    """Fraction of images, or of the voxels that are foreground by label or prediction, whose class is wrong."""
    found = logits.max(1).indices  # on a CPU in a tenth of the time of argmax
    if not is_map(label):
        return float((found != label).float().mean())
    truth = label[:, 0]
    foreground = (truth > 0) | (found > 0)
    return float((found != truth)[foreground].float().mean()) if bool(foreground.any()) else 0.0


@dataclass(frozen=True)
class Objective(Configurable):
    """A loss that noise minimizes.

    ``"minimize"``: the loss at the true label (Huang et al., ICLR 2021); ``"maximize"``: its negative, untargeted
    adversarial poisoning; ``"target"``: the loss at another class, targeted adversarial poisoning (Fowl et al.,
    "Adversarial examples make strong poisons", NeurIPS 2021).

    Args:
        goal: goal of the noise, one of the three.
        targets: class that stands for each class with ``"target"``; by default the next one, cyclically, which in a
            binary segmentation exchanges region and background.

    Raises:
        InputError: when the goal is unknown, or a class stands for itself.
    """

    goal: str = "minimize"
    targets: Sequence[int] | None = None

    def __post_init__(self) -> None:
        look_up("goal", self.goal, Goal)
        if self.targets is not None:
            if sorted(self.targets) != list(range(len(self.targets))):
                raise InputError(f"the targets {list(self.targets)} do not hold each class once")
            fixed = [own for own, other in enumerate(self.targets) if own == other]
            if fixed:
                raise InputError(f"the targets leave class {fixed[0]} as it is; each class needs another one")

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        """The mean loss of logits (B, classes[, spatial...]) at labels (B,) or (B, 1, spatial...).

        Raises:
            InputError: when the number of targets is not that of the classes.
        """
        sign, target = self._aim(logits, label)
        return sign * task_loss(logits, target)

    def of_cases(self, logits: Tensor, label: Tensor) -> Tensor:
        """The loss of each case by itself, (B,); arguments and errors as in :meth:`__call__`."""
        sign, target = self._aim(logits, label)
        if label.ndim == 1:
            return sign * F.cross_entropy(logits, target, reduction="none")
        return sign * torch.stack([task_loss(*case) for case in zip(logits.split(1), target.split(1), strict=True)])

    def _aim(self, logits: Tensor, label: Tensor) -> tuple[int, Tensor]:
        """The sign of the loss, and the classes it is taken at."""
        if self.goal != Goal.TARGET:
            return (1 if self.goal == Goal.MINIMIZE else -1), label
        classes = logits.shape[1]
        targets = [(own + 1) % classes for own in range(classes)] if self.targets is None else list(self.targets)
        if len(targets) != classes:
            raise InputError("the number of targets is not that of the classes", value=len(targets), limit=classes)
        return 1, torch.tensor(targets, device=label.device)[label]

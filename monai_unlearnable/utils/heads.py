# SPDX-License-Identifier: Apache-2.0
"""One network for several classification tasks: a head for each on a common trunk."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from monai_unlearnable.errors import InputError

__all__ = ["TaskHeads"]

ABSENT = -1e4  # the logit of a class that a task lacks: of probability 0, and finite, so that differences are numbers


class TaskHeads(nn.Module):
    """Divides the outputs of a classifier among tasks, in the layout that torch's cross-entropy takes.

    Its last layer, which sees one vector of features, then holds a linear head for each task. With logits
    (B, classes, tasks) and labels (B, tasks), ``cross_entropy`` is the mean over images and tasks. With a single task
    logits stay as they are, (B, classes).

    Args:
        network: classifier with as many outputs as all tasks have classes together.
        num_classes: number of classes of each task.

    Raises:
        InputError: when a task has no classes, or there is no task.

    Example:
        >>> logits = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]])
        >>> TaskHeads(nn.Identity(), (2, 3))(logits)[0].T
        tensor([[ 1.0000e+00,  2.0000e+00, -1.0000e+04],
                [ 3.0000e+00,  4.0000e+00,  5.0000e+00]])
    """

    def __init__(self, network: nn.Module, num_classes: Sequence[int]) -> None:
        super().__init__()
        if min(num_classes, default=0) < 1:
            raise InputError(f"heads for tasks of {list(num_classes)} classes leave nothing to tell apart")
        self.network, self.num_classes = network, tuple(num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of images (B, C, spatial...): (B, classes, tasks), where the task with the most classes counts."""
        logits: Tensor = self.network(image)
        if len(self.num_classes) == 1:
            return logits
        heads = logits.split(self.num_classes, dim=1)
        return nn.utils.rnn.pad_sequence([head.T for head in heads], padding_value=ABSENT).permute(2, 0, 1)

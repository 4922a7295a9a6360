# SPDX-License-Identifier: Apache-2.0
"""Noise for images with several labels, one a task: all of them at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

from monai_unlearnable.errors import InputError, LabelError
from monai_unlearnable.masks import Everywhere, MaskProvider
from monai_unlearnable.perturbers.base import Perturber
from monai_unlearnable.perturbers.patterns import ClassPatterns
from monai_unlearnable.utils.tensors import is_map

__all__ = ["MultiTaskNoise", "TaskPatterns"]


def _check_names(known: Sequence[str], tasks: Sequence[str]) -> None:
    """Refuse a dataset of other tasks than those that noise was made for."""
    if tuple(known) != tuple(tasks):
        made, found = (f"the tasks {', '.join(names)}" if names else "one label an image" for names in (known, tasks))
        raise InputError(f"the noise was made for {made}, and the dataset has {found}")


def _by_task(label: Tensor | None, count: int) -> Tensor:
    """Classes of images, (B, tasks).

    Raises:
        LabelError: when there are none, they are those of voxels, or of another number of tasks.
    """
    if label is None or is_map(label):
        raise LabelError("the method needs a class of the whole image, and the cases have none")
    label = label[:, None] if label.ndim == 1 else label
    if label.shape[1] != count:
        raise LabelError("the images have another number of labels", value=label.shape[1], limit=count)
    return label


class TaskPatterns(Perturber):
    r"""The patterns of an image's classes in all tasks, added up.

    .. math:: \delta = \epsilon\, \mathrm{clip}_{[-1, 1]} \sum_t S_t\, P_{t, y_t}

    The sum is clipped, not divided by the number of tasks: where most images carry few patterns, as with findings that
    are rare, each keeps its strength. Our choice.

    Args:
        patterns: patterns of each task, with a seed and a support of its own.
        tasks: names of the tasks, in the order of the patterns.
        epsilon: largest change of a voxel, in normalized intensity.

    Raises:
        InputError: when there are not as many patterns as tasks, or a pattern has no budget.
    """

    takes_tasks = True
    windowed = False  # coordinates are those of the whole image
    needs_label = True  # type: ignore[assignment]

    def __init__(self, patterns: Sequence[ClassPatterns], tasks: Sequence[str], epsilon: float = 8 / 255) -> None:
        super().__init__()
        if len(patterns) != len(tasks) or not tasks:
            raise InputError("each task needs its patterns", value=len(patterns), limit=len(tasks))
        if not all(part.epsilon > 0 for part in patterns):
            raise InputError("patterns with epsilon 0 cannot be scaled")
        self.patterns, self.tasks, self.epsilon = nn.ModuleList(patterns), tuple(tasks), epsilon
        self.allowed = Everywhere()

    def check_tasks(self, tasks: Sequence[str], method: str | None = None) -> None:
        _check_names(self.tasks, tasks)

    def _parts(self, label: Tensor | None) -> Iterator[tuple[Perturber, Tensor]]:
        """The patterns of each task, and the classes of the images in it, (B,)."""
        return zip(self.patterns, _by_task(label, len(self.tasks)).T, strict=True)  # type: ignore[arg-type]

    def support(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.stack([part.support(image, own) for part, own in self._parts(label)]).amax(0)

    def delta(
        self, image: Tensor, case_ids: Sequence[str], label: Tensor | None = None, support: Tensor | None = None
    ) -> Tensor:
        total = torch.zeros_like(image)
        for part, own in self._parts(label):
            total = total + part.delta(image, case_ids, own) / part.epsilon
        return self.epsilon * total.clamp(-1, 1)


CELLS = 4  # of an embedding along each axis


class MultiTaskNoise(Perturber):
    r"""Noise of a generator that is told the class of each task, after MTL-UE (arXiv 2505.05279), our reading.

    .. math:: \delta = \epsilon\, S \tanh\Big(D\big(E(x) + \sum_t e_{t, y_t}\big) - D\big(E(x)\big)\Big)

    with an encoder :math:`E`, a decoder :math:`D`, and an embedding :math:`e_{t, k}` of each class of each task: a map
    of 4 cells along each axis, stretched over the image, so that it stays the same when an exploiter resizes images.
    The difference to the decoder's output without embeddings is ours: the noise holds nothing but what the classes say.
    So an unperturbed class, whose embedding is zero, adds nothing, and models take an image without noise for it.

    The generator learns to minimize the loss of a surrogate with a head for each task;
    :class:`~monai_unlearnable.training.EmbeddingContrast` holds the two terms that keep embeddings apart.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels.
        num_classes: number of classes of each task.
        tasks: names of the tasks; none where images have one label.
        epsilon: largest change of a voxel, in normalized intensity.
        channels: widths of the stages of the encoder, each of which halves the resolution.
        unperturbed: unperturbed class of each task, or None; by default none at all.
        support: mask of where noise is allowed; by default the whole image.

    Raises:
        InputError: when the numbers of tasks, of their classes and of unperturbed classes do not fit.
    """

    takes_tasks = True
    takes_maps = False
    windowed = False  # embeddings span the whole image
    needs_label = True  # type: ignore[assignment]

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        num_classes: Sequence[int],
        tasks: Sequence[str] = (),
        epsilon: float = 8 / 255,
        channels: Sequence[int] = (16, 32),
        unperturbed: Sequence[int | None] | None = None,
        support: MaskProvider | None = None,
    ) -> None:
        super().__init__()
        self.spatial_dims, self.in_channels, self.epsilon = spatial_dims, in_channels, epsilon
        self.num_classes, self.tasks, self.channels = tuple(num_classes), tuple(tasks), tuple(channels)
        self.unperturbed = (None,) * len(self.num_classes) if unperturbed is None else tuple(unperturbed)
        if not len(self.num_classes) == len(self.unperturbed) == max(1, len(self.tasks)) or min(self.num_classes) < 1:
            reason = f"{len(self.num_classes)} numbers of classes and {len(self.unperturbed)} unperturbed classes"
            raise InputError(f"{reason} for {max(1, len(self.tasks))} task(s)")
        self.allowed = Everywhere() if support is None else support
        self._depend_on(self.allowed)
        self.divisor = 2 ** len(self.channels)
        self.encoder = self._stages([in_channels, *self.channels])
        self.decoder = self._stages([*reversed(self.channels), in_channels], up=True)
        shape = (sum(self.num_classes), self.channels[-1], *[CELLS] * spatial_dims)
        self.embedding = nn.Parameter(torch.empty(shape))
        self.reset_parameters()
        kept = torch.ones(len(self.embedding))
        for first, kind in zip(self._first, self.unperturbed, strict=True):
            if kind is not None:
                kept[first + kind] = 0
        self.register_buffer("kept", kept.reshape(-1, *[1] * (spatial_dims + 1)), persistent=False)

    kept: Tensor

    def _stages(self, widths: Sequence[int], up: bool = False) -> nn.Sequential:
        conv = Conv[Conv.CONVTRANS if up else Conv.CONV, self.spatial_dims]
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(widths):
            layers.append(conv(fan_in, fan_out, 4, stride=2, padding=1))
            layers += [Norm[Norm.INSTANCE, self.spatial_dims](fan_out, affine=True), nn.LeakyReLU(0.1)]
        return nn.Sequential(*(layers[:-2] if up else layers))

    @property
    def _first(self) -> list[int]:
        """The row of the first class of each task among the embeddings."""
        return list(itertools.accumulate(self.num_classes[:-1], initial=0))

    def reset_parameters(self) -> None:
        """Draw embeddings of unit variance, as large as the features that they are added to."""
        nn.init.normal_(self.embedding)

    def embeddings(self) -> list[Tensor]:
        """The embeddings of each task, (classes, numbers); zero for unperturbed classes."""
        return list((self.embedding * self.kept).flatten(1).split(self.num_classes))

    def check_tasks(self, tasks: Sequence[str], method: str | None = None) -> None:
        _check_names(self.tasks, tasks)

    def support(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        self._rows(label)  # the error comes before the work
        return super().support(image, label)

    def _rows(self, label: Tensor | None) -> Tensor:
        """The rows of the embeddings of images, (B, tasks)."""
        label = _by_task(label, len(self.num_classes))
        excess = label - torch.tensor(self.num_classes, device=label.device)
        if bool((excess >= 0).any()):
            index = int((excess >= 0).any(0).nonzero()[0])
            value, limit = int(label[:, index].max()), self.num_classes[index] - 1
            raise LabelError("the class is not known to the method", value=value, limit=limit)
        return label + torch.tensor(self._first, device=label.device)

    def delta(
        self, image: Tensor, case_ids: Sequence[str], label: Tensor | None = None, support: Tensor | None = None
    ) -> Tensor:
        rows = self._rows(label)
        support = self.support(image, label) if support is None else support
        features = self.encoder(image)
        told = (self.embedding * self.kept)[rows].sum(1)
        told = F.interpolate(told, features.shape[2:], mode="bilinear" if self.spatial_dims == 2 else "trilinear")
        change = self.decoder(features + told) - self.decoder(features)
        return self.epsilon * support * torch.tanh(change)

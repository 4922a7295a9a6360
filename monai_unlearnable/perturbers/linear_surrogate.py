# SPDX-License-Identifier: Apache-2.0
"""The code of a linear model that was fitted to the dataset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import MaskProvider
from monai_unlearnable.perturbers.base import check_image_classes
from monai_unlearnable.perturbers.patterns import ClassPatterns
from monai_unlearnable.utils.tensors import averaged

__all__ = ["LinearSurrogate"]


class LinearSurrogate(ClassPatterns):
    r"""Removes from an image what a linear model knows its class by, and puts the same code into all images of a class.

    The model is :math:`f(x) = W A x`: :math:`A` averages the image over a coarse grid of cells, and :math:`W` has a row
    for each class, no bias, and rows that sum to zero. It is fitted by ridge regression to :math:`e_y - 1/K`, with
    all classes of equal weight.

    After PIL, perturbations from a bias-free linear surrogate (known to us second-hand), which publishes
    :math:`x - d` where d minimizes

    .. math::
        \lambda\, \mathrm{CE}(f(d), y) + (1 - \lambda)\, \mathrm{KL}(f(x - d) \,\|\, \mathrm{uniform})

    by 30 steps of projected gradient descent. Ours takes one step, to the border of the budget, in closed form. At
    :math:`d = 0` the gradient of the first term is :math:`-A^T W_y`, since the rows sum to zero. Near uniform
    predictions the second is :math:`\|f(x - d)\|^2 / 2K`, with gradient :math:`-A^T W^T f(x) / K`. With K drawn into
    :math:`\lambda` the noise is

    .. math:: \delta = -\epsilon\, \mathrm{sign}\, A^T \left(\lambda\, W_y + (1 - \lambda)\, W^T f(x)\right)

    The first part is a shortcut, the same for a class, and contradicts the class; the second hides the evidence that
    the model finds in this image. This is for classes of whole images only: for a filter that tells the classes of
    voxels apart, the same derivation gives a constant inside a region, the sum of its taps.

    Args:
        num_classes: number of classes K.
        size: cells along each spatial axis; images of any size are averaged to it, and noise is spread from it.
        in_channels: image channels.
        epsilon: change of a voxel, in normalized intensity.
        mix: the fraction lambda of the class code, in [0, 1].
        ridge: penalty as a fraction of the mean second moment of the cells.
        support: mask of where noise is allowed; by default everywhere.

    Attributes:
        weight: W, (K, C, cells...); zero until :meth:`fit`.

    Raises:
        InputError: when ``mix`` is outside [0, 1].
    """

    takes_maps = False
    weight: Tensor

    def __init__(
        self,
        num_classes: int,
        size: Sequence[int],
        in_channels: int = 1,
        epsilon: float = 8 / 255,
        mix: float = 0.9,
        ridge: float = 0.01,
        support: MaskProvider | None = None,
    ) -> None:
        super().__init__(epsilon, support)
        if not 0 <= mix <= 1:
            raise InputError("the fraction of the class code must lie in [0, 1]", value=mix, limit=1.0)
        self.num_classes, self.size, self.in_channels = num_classes, tuple(size), in_channels
        self.mix, self.ridge = mix, ridge
        self.register_buffer("weight", torch.zeros(num_classes, in_channels, *self.size))

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> LinearSurrogate:
        """Fit the linear model; memory holds one batch and the second moments of each class.

        Args:
            batches: image (B, C, spatial...) in normalized intensity and classes (B,); sizes may differ among batches.

        Returns:
            This object.

        Raises:
            LabelError: when labels are maps, or a class is not below ``num_classes``.
        """
        cells = self.weight[0].numel()
        counts = torch.zeros(self.num_classes, dtype=torch.float64)
        sums, moments = counts.new_zeros(len(counts), cells), counts.new_zeros(len(counts), cells, cells)
        for image, label in batches:
            check_image_classes(label, self.num_classes)
            features = self._features(image).cpu().double()
            for kind in torch.unique(label).tolist():
                rows = features[label.cpu() == kind]
                counts[kind] += len(rows)
                sums[kind] += rows.sum(0)
                moments[kind] += rows.T @ rows
        counts.clamp_(min=1)
        means, moment = sums / counts[:, None], (moments / counts[:, None, None]).sum(0)
        penalty = self.ridge * moment.diagonal().mean() * torch.eye(cells, dtype=torch.float64)
        weight = torch.linalg.solve(moment + penalty, (means - means.mean(0)).T).T
        self.weight.copy_(weight.reshape(self.weight.shape))
        return self

    def support(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        if label is not None:
            check_image_classes(label, self.num_classes)
        return super().support(image, label)

    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        weight = self.weight.to(image)
        if not weight.any():
            raise InputError("the linear model has not been fitted")
        scores = weight.flatten(1) @ self._features(image[None])[0]
        known = self.mix * weight[kind] + (1 - self.mix) * torch.tensordot(scores, weight, 1)
        return F.interpolate(-torch.sign(known)[None], image.shape[1:])[0]

    def _features(self, image: Tensor) -> Tensor:
        return averaged(image, self.size).flatten(1)

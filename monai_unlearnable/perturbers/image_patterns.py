# SPDX-License-Identifier: Apache-2.0
"""Noise without a surrogate network: patterns made from the image by a filter or a linear model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import MaskProvider
from monai_unlearnable.perturbers.base import check_image_classes
from monai_unlearnable.perturbers.patterns import ClassPatterns
from monai_unlearnable.utils.seeding import seeded
from monai_unlearnable.utils.tensors import averaged

__all__ = ["ClassConvolution", "LinearSurrogate"]


class ClassConvolution(ClassPatterns):
    r"""A slight blur by a kernel that is drawn for each class.

    .. math::
        \epsilon P_k = \mathrm{clip}_{[-\epsilon, \epsilon]}(x * w_k - x), \qquad
        w_k = \tilde w_k / \textstyle\sum \tilde w_k

    with :math:`\tilde w_k` 1 in the center and :math:`\mathcal{U}(0, b)` elsewhere, the same for all channels. After
    CUDA (Sadasivan et al., Convolution-based Unlearnable Datasets, CVPR 2023), which has no bound; the clipping is
    ours, and it hides part of the kernel at sharp edges. Public code puts the 1 anywhere in the kernel and divides the
    filtered image by its largest value; here the image stays in place, and intensities are kept by the sum of 1. Flat
    parts of an image carry no noise.

    Args:
        epsilon, support, granularity: see :class:`ClassPatterns`.
        blur: upper bound of the entries around the center.
        size: size of the kernel along each axis, odd.
        seed: random seed of the kernels.

    Raises:
        InputError: when the size is not odd.
    """

    is_drawn = True

    def __init__(
        self,
        epsilon: float = 8 / 255,
        support: MaskProvider | None = None,
        granularity: str = "class",
        blur: float = 0.3,
        size: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__(epsilon, support, granularity, seed)
        if size < 1 or size % 2 == 0:
            raise InputError("the size of a kernel must be odd", value=size)
        self.blur, self.size = blur, size

    def kernel(self, kind: int, spatial_dims: int) -> Tensor:
        """The kernel of a class, applied as a correlation; (size, size) or (size, size, size), its sum is 1."""
        shape = [self.size] * spatial_dims
        weights = self.blur * torch.rand(shape, generator=seeded(self.seed, "class", kind))
        weights[tuple(extent // 2 for extent in shape)] = 1
        return weights / weights.sum()

    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        spatial_dims = image.ndim - 1
        convolve = F.conv2d if spatial_dims == 2 else F.conv3d
        # Channels are the batch. The border repeats its last voxel: zeros would darken it.
        padded = F.pad(image[:, None], [self.size // 2] * (2 * spatial_dims), mode="replicate")
        filtered = convolve(padded, self.kernel(kind, spatial_dims)[None, None].to(image))[:, 0]
        return ((filtered - image) / max(self.epsilon, 1e-12)).clamp(-1, 1)


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

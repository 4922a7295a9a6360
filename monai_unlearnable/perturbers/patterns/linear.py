# SPDX-License-Identifier: Apache-2.0
"""Linearly separable patterns, and patterns of a linear surrogate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_unlearnable.errors import InputError, LabelError
from monai_unlearnable.masks import MaskProvider
from monai_unlearnable.perturbers.base import check_classes
from monai_unlearnable.perturbers.patterns.base import ClassPatterns, centered, random_signs
from monai_unlearnable.utils.seeding import seeded

__all__ = ["LinearPatterns", "LinearSurrogate"]

GRID = 32  # cells along an axis after which a grid of patches repeats


class LinearPatterns(ClassPatterns):
    r"""A vertex of a hypercube for each class, drawn on a coarse grid of cells.

    .. math::
        P_k(s) = \mathrm{clip}_{[-1, 1]}(v_k + \sigma\, g)_{\mathrm{cell}(s)}, \qquad
        v_k \in \{-1, 1\}^{\mathrm{channels} \times \mathrm{cells}}, \quad g \sim \mathcal{N}(0, 1)

    After LSP (Yu et al., Availability Attacks Create Shortcuts, KDD 2022): normal clusters around vertices of a
    hypercube, one a class, each value repeated over a patch. Public code scales the noise of an image to a length; here
    it is clipped (our choice), so that it uses a bound on each voxel in full. The deviations in a cluster are about 0.4
    of the vertex there, and correlated.

    Args:
        epsilon: largest change of a voxel, in normalized intensity.
        support: where noise is allowed, see :class:`ClassPatterns`.
        granularity: see :class:`ClassPatterns`.
        patch: voxels along the side of a cell. Cells are counted from the center of the image: images of different
            sizes that are padded or cropped around it show the same pattern. It repeats after 32 cells.
        cells: number of cells along each axis of an image of any size, in place of ``patch``: images of different sizes
            that are resized to one show the same pattern.
        spread: deviation of the cells of a case from those of its class, as a fraction of ``epsilon``; 0 for the same
            pattern in all cases.
        seed: decides on the patterns.

    Raises:
        InputError: when ``patch`` or ``cells`` is less than 1.
    """

    def __init__(
        self,
        epsilon: float = 8 / 255,
        support: MaskProvider | None = None,
        granularity: str = "class",
        patch: int = 8,
        cells: int | None = None,
        spread: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(epsilon, support, granularity)
        if patch < 1 or (cells is not None and cells < 1):
            raise InputError("cells have at least one voxel, and axes at least one cell", value=(patch, cells), limit=1)
        self.patch, self.cells, self.spread, self.seed = patch, cells, spread, seed

    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        shape = (image.shape[0], *[self.cells or GRID] * (image.ndim - 1))
        grid = random_signs(shape, seeded(self.seed, "class", kind))
        if self.spread:
            grid = grid + self.spread * torch.randn(shape, generator=seeded(self.seed, "case", case_id))
        grid = grid.clamp(-1, 1)
        for axis, extent in enumerate(image.shape[1:], 1):
            grid = grid.index_select(axis, self._cell_of_voxel(extent))
        return grid

    def _cell_of_voxel(self, extent: int) -> Tensor:
        if self.cells is None:
            return centered(extent) // self.patch % GRID
        return torch.arange(extent) * self.cells // extent


class LinearSurrogate(ClassPatterns):
    r"""Takes from an image what a linear model knows its class by, and puts the same code into all images of a class.

    The model is :math:`f(x) = W A x`: :math:`A` averages the image over a coarse grid of cells, and :math:`W` has a row
    for each class, no bias, and rows that sum to zero. It is fitted by ridge regression to :math:`e_y - 1/K`, with
    all classes of equal weight.

    After PIL, perturbations from a bias-free linear surrogate (known to us second-hand), which publishes
    :math:`x - d` where d minimizes

    .. math::
        \lambda\, \mathrm{CE}(f(d), y) + (1 - \lambda)\, \mathrm{KL}(f(x - d) \,\|\, \mathrm{uniform})

    by 30 steps of projected gradient descent. Ours takes a single one, to the border of the budget, which has a closed
    form. At :math:`d = 0` the gradient of the first term is :math:`-A^T W_y`, since the rows sum to zero. Near uniform
    predictions the second is :math:`\|f(x - d)\|^2 / 2K`, whose gradient is :math:`-A^T W^T f(x) / K`. With K drawn
    into :math:`\lambda` the noise is

    .. math::
        \delta = -\epsilon\, \mathrm{sign}\, A^T \left(\lambda\, W_y + (1 - \lambda)\, W^T f(x)\right)

    The first part is the same for a class, a shortcut, and contradicts the class; the second hides the evidence that
    the model finds in this image. For classes of whole images only: the same derivation for a filter that tells the
    classes of voxels gives a constant inside a region, as the sum of its taps.

    Args:
        num_classes: K.
        size: cells along each spatial axis; images of any size are averaged to it, and noise is spread from it.
        in_channels: image channels.
        epsilon: change of a voxel, in normalized intensity.
        mix: the fraction lambda of the class code, in [0, 1].
        ridge: penalty as a fraction of the mean second moment of the cells.
        support: where noise is allowed; everywhere by default.

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
        """Fit the linear model; in memory are one batch and the second moments of each class.

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
            self._check(label)
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
            self._check(label)
        return super().support(image, label)

    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        weight = self.weight.to(image)
        if not weight.any():
            raise InputError("the linear model has not been fitted")
        scores = weight.flatten(1) @ self._features(image[None])[0]
        known = self.mix * weight[kind] + (1 - self.mix) * torch.tensordot(scores, weight, 1)
        return F.interpolate(-torch.sign(known)[None], image.shape[1:])[0]

    def _features(self, image: Tensor) -> Tensor:
        pool = F.adaptive_avg_pool2d if len(self.size) == 2 else F.adaptive_avg_pool3d
        return pool(image, self.size).flatten(1)  # type: ignore[arg-type]

    def _check(self, label: Tensor) -> None:
        if label.ndim != 1:
            raise LabelError("classes of whole images are needed, not label maps")
        check_classes(label, self.num_classes)

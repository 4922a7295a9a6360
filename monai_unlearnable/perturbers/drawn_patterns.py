# SPDX-License-Identifier: Apache-2.0
"""Patterns that are drawn from the seed for each class: cells, waves, single voxels, and kernels of a blur."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import MaskProvider
from monai_unlearnable.perturbers.patterns import ClassPatterns, centered, random_signs
from monai_unlearnable.utils.seeding import seeded
from monai_unlearnable.utils.values import check_at_least

__all__ = ["AutoregressiveNoise", "ClassConvolution", "FixedVoxels", "LinearPatterns"]

GRID = 32  # cells along an axis after which a grid of patches repeats


class LinearPatterns(ClassPatterns):
    r"""A vertex of a hypercube for each class, drawn on a coarse grid of cells.

    .. math::
        P_k(s) = \mathrm{clip}_{[-1, 1]}(v_k + \sigma\, g)_{\mathrm{cell}(s)}, \qquad
        v_k \in \{-1, 1\}^{\mathrm{channels} \times \mathrm{cells}}, \quad g \sim \mathcal{N}(0, 1)

    After LSP (Yu et al., Availability Attacks Create Shortcuts, KDD 2022): normal clusters around vertices, one a
    class, each value repeated over a patch. Public code scales the noise of an image to a length, with correlated
    deviations of about 0.4 of the vertex; here it is clipped (our choice), to use a bound on each voxel in full.

    Args:
        epsilon, support, granularity: see :class:`ClassPatterns`.
        patch: voxels along the side of a cell, counted from the center of the image, so that images of different sizes
            that are padded or cropped around it agree. The pattern repeats after 32 cells.
        cells: cells along each axis of an image of any size, in place of ``patch``, so that images of different sizes
            that are resized to one agree.
        spread: deviation of the cells of a case from those of its class, as a fraction of ``epsilon``.
        seed: random seed of the patterns.

    Raises:
        InputError: when ``patch`` or ``cells`` is less than 1, or ``spread`` less than 0.
    """

    is_drawn = True

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
        super().__init__(epsilon, support, granularity, seed)
        if patch < 1 or (cells is not None and cells < 1):
            raise InputError("cells have at least one voxel, and axes at least one cell", value=(patch, cells), limit=1)
        check_at_least(0, spread=spread)
        self.patch, self.cells, self.spread = patch, cells, spread

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


# Bounds on the angle of the poles: slower waves are stripes that readers see, faster ones are all alike.
ANGLES = (0.2 * math.pi, 0.8 * math.pi)


class AutoregressiveNoise(ClassPatterns):
    r"""A process in which each voxel follows from the earlier ones of its 3x3 (3x3x3) neighborhood.

    With the shift :math:`z_a` to the voxel before along axis :math:`a` and angles :math:`\omega_{k,a}` that are drawn
    for each class and channel, the pattern of class k solves

    .. math::
        \prod_a \left(1 - 2 \cos\omega_{k,a}\, z_a + z_a^2\right) P_k = 0

    from a random start of the case. Written out, each voxel is a fixed linear combination of the 8 (26) voxels up to
    two steps before it, so a filter of this size, :meth:`coefficients`, is silent on the noise of its class and on no
    other.

    After Sandoval-Segura et al., Autoregressive Perturbations for Data Poisoning, NeurIPS 2022. There all coefficients
    are drawn independently, scaled to a sum of 1, and kept if the noise of a 36x36 image does not grow. Our choice, all
    poles on the unit circle, neither grows nor fades at any size. Its solutions are sums of waves, one along each axis,
    with a phase for every line (the random start), so that no recursion has to be run. And the filters are palindromes:
    a mirrored image obeys the same rule.

    Noise is scaled to ``epsilon`` by its largest value, as any clipping would break the rule. The root mean square is
    about half of epsilon in 2D and 0.4 of it in 3D.

    Args:
        epsilon, support: see :class:`ClassPatterns`.
        granularity: owner of a rule, see :class:`ClassPatterns`; the start is always drawn for the case.
        seed: random seed of the rules and the starts.
    """

    is_drawn = True

    def coefficients(self, kind: int, channels: int, spatial_dims: int) -> Tensor:
        """The filters of a class, (C, 3, 3) or (C, 3, 3, 3): the correlation of the noise with them is zero.

        The last entry, 1, is that of the voxel itself.
        """
        filters = torch.ones(channels, *[1] * spatial_dims, dtype=torch.float64)
        for axis, angles in enumerate(self._angles(kind, channels, spatial_dims).T):
            taps = torch.stack([torch.ones_like(angles), -2 * torch.cos(angles), torch.ones_like(angles)], dim=1)
            filters = filters * _along(taps, axis, spatial_dims)
        return filters.float()

    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        channels, shape = image.shape[0], image.shape[1:]
        angles, start = self._angles(kind, channels, len(shape)), seeded(self.seed, "case", case_id)
        field = torch.zeros(image.shape, dtype=torch.float64)
        for axis, extent in enumerate(shape):
            lines = (channels, *shape[:axis], 1, *shape[axis + 1 :])
            phase = 2 * math.pi * torch.rand(lines, generator=start, dtype=torch.float64)
            field += torch.cos(_along(torch.outer(angles[:, axis], torch.arange(extent)), axis, len(shape)) + phase)
        return field / field.abs().max()

    def _angles(self, kind: int, channels: int, spatial_dims: int) -> Tensor:
        low, high = ANGLES
        draw = torch.rand(channels, spatial_dims, generator=seeded(self.seed, "class", kind), dtype=torch.float64)
        return low + (high - low) * draw


def _along(values: Tensor, axis: int, spatial_dims: int) -> Tensor:
    """Values (C, N) laid along one spatial axis: (C, 1, ..., N, ..., 1)."""
    shape: Sequence[int] = [-1 if other == axis else 1 for other in range(spatial_dims)]
    return values.reshape(len(values), *shape)


class FixedVoxels(ClassPatterns):
    r"""Plus or minus epsilon at voxels that are drawn for each class; the rest of the image is left as it is.

    After OPS (Wu et al., One-Pixel Shortcut, ICLR 2023), our reading: that method has no bound and searches, for each
    class, the pixel and the value that change its images most and most alike. Nothing is searched here, so that the
    voxels depend on no data.

    Voxels are drawn in relative coordinates: images of all sizes carry them at the same places.

    Args:
        epsilon, support, granularity: see :class:`ClassPatterns`.
        fraction: number of voxels that are drawn for each class as a fraction of all, at least one. Some are drawn
            twice, so that fewer change: 39% of them with 0.5, 63% with 1. They are drawn over the whole image: a region
            holds its fraction of them, which may be none. 0 for a single one, as in the paper.
        seed: random seed of the voxels and signs.

    Raises:
        InputError: when the fraction is outside [0, 1].
    """

    is_drawn = True

    def __init__(
        self,
        epsilon: float = 8 / 255,
        support: MaskProvider | None = None,
        granularity: str = "class",
        fraction: float = 0.01,
        seed: int = 0,
    ) -> None:
        super().__init__(epsilon, support, granularity, seed)
        if not 0 <= fraction <= 1:
            raise InputError("a fraction of voxels must lie in [0, 1]", value=fraction, limit=1.0)
        self.fraction = fraction

    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        channels, shape = image.shape[0], image.shape[1:]
        count = max(1, round(self.fraction * shape.numel()))
        places = torch.rand(count, len(shape), generator=seeded(self.seed, "place", kind), dtype=torch.float64)
        signs = random_signs((count, channels), seeded(self.seed, "sign", kind))
        voxels = (places * torch.tensor(shape)).long().T
        noise = torch.zeros(*shape, channels).numpy()
        noise[tuple(voxels.numpy())] = signs.numpy()  # numpy: of voxels drawn twice the last sign is kept, always
        return torch.from_numpy(noise).movedim(-1, 0)


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
        InputError: when the size is not odd, or ``blur`` less than 0.
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
        check_at_least(0, blur=blur)
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

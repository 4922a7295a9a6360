# SPDX-License-Identifier: Apache-2.0
"""Noise without a surrogate network: patterns that tell the class, independent of the image."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from monai.utils.enums import StrEnum
from torch import Tensor

from monai_unlearnable.errors import InputError, LabelError
from monai_unlearnable.masks import Everywhere, MaskProvider, Roi
from monai_unlearnable.perturbers.base import Perturber
from monai_unlearnable.utils.arrays import bounding_box
from monai_unlearnable.utils.enums import look_up
from monai_unlearnable.utils.seeding import derive_seed, seeded


class Granularity(StrEnum):
    """The owner of the pattern that a voxel carries: its class, its case, or all cases together."""

    CLASS = "class"
    CASE = "case"
    UNIVERSAL = "universal"


def random_signs(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Minus or plus one, drawn independently, float32."""
    return torch.randint(0, 2, tuple(shape), generator=generator, dtype=torch.int8).float() * 2 - 1


def centered(extent: int) -> Tensor:
    """The coordinates of the voxels along an axis.

    Zero is where even padding, as MONAI's ``SpatialPad`` does it, puts the middle of any even size: patterns of images
    of all sizes agree once these are padded for a network.
    """
    return torch.arange(extent) - (extent + 1) // 2


class ClassPatterns(Perturber):
    r"""Base of the methods that add the pattern of the class, independent of the image.

    .. math::
        \delta(s) = \epsilon\, S(s)\, P_{y(s)}(s), \qquad |P_k| \le 1

    With a label map :math:`y(s)` is the class of the voxel; with classes of whole images, label (B,), it is that of the
    image. Patterns are drawn from the seed and the class, or from the seed and the case id: the noise of a case depends
    neither on the other cases nor on how many there are of which class.

    Args:
        epsilon: largest change of a voxel, in normalized intensity.
        support: mask of where noise is allowed. By default the exact region of a label map, so that the background has
            no noise, and the whole of an image that has one class. Where the support holds background, the background
            carries pattern 0.
        granularity: owner of a pattern. ``"class"``: each class has its own. ``"case"``: one is drawn for the case.
            ``"universal"``: all cases carry pattern 0. The last two say nothing about classes of whole images, and of
            regions no more than where they are.
        seed: random seed of the patterns, for methods that draw them.

    Attributes:
        is_drawn: whether patterns are drawn from the seed alone.

    Raises:
        InputError: when the granularity is unknown.
    """

    allowed: MaskProvider | None  # type: ignore[assignment]
    is_drawn: bool = False
    windowed = False  # coordinates are those of the whole image

    def __init__(
        self, epsilon: float = 8 / 255, support: MaskProvider | None = None, granularity: str = "class", seed: int = 0
    ) -> None:
        super().__init__()
        self.epsilon, self.allowed, self.seed = epsilon, support, seed
        self.granularity = look_up("granularity", granularity, Granularity)
        self._depend_on(support)

    @property
    def draws_mark(self) -> bool:  # type: ignore[override]
        return self.is_drawn and self.granularity != Granularity.CASE

    @property
    def needs_label(self) -> bool:
        return self.granularity == Granularity.CLASS or self.allowed is None or self.allowed.needs_label

    def support(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        if self.allowed is not None:
            return self.allowed(image, label)
        of_images = label is not None and label.ndim == 1
        return (Everywhere() if of_images else Roi())(image, label)

    def delta(
        self, image: Tensor, case_ids: Sequence[str], label: Tensor | None = None, support: Tensor | None = None
    ) -> Tensor:
        support = self.support(image, label) if support is None else support
        noise = torch.zeros_like(image)
        for index, case_id in enumerate(case_ids):
            box = (slice(None), *bounding_box((support[index, 0] > 0).cpu().numpy()))
            own = self._noise(image[index], case_id, support[index], None if label is None else label[index], box)
            noise[index][box] = self.epsilon * own * support[index][box]
        return noise

    def _noise(
        self, image: Tensor, case_id: str, support: Tensor, label: Tensor | None, box: tuple[slice, ...]
    ) -> Tensor:
        """Patterns in the box of the support."""
        if self.granularity != Granularity.CLASS:
            kind = 0 if self.granularity == Granularity.UNIVERSAL else derive_seed("case", case_id)
            return self.pattern(kind, case_id, image).to(image)[box]
        if label is None:
            raise LabelError("the method needs a label, and the case has none", case=case_id)
        noise = torch.zeros_like(image[box])
        classes = label if label.ndim == 0 else label[box]
        for kind in torch.unique(classes if label.ndim == 0 else classes[support[box] > 0]).tolist():
            noise = torch.where(classes == kind, self.pattern(kind, case_id, image).to(image)[box], noise)
        return noise

    @abstractmethod
    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        """The pattern of a class over a whole image; subclasses implement it.

        Args:
            kind: class, or a number of the case where each case has a pattern of its own.
            case_id: name of the case, for methods whose patterns differ among the cases of a class.
            image: normalized intensity, (C, spatial...), 2D or 3D.

        Returns:
            Pattern in [-1, 1], of the shape of ``image``.
        """


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
        InputError: when ``patch`` or ``cells`` is less than 1.
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
        fraction: fraction of the voxels that each class changes, at least one voxel. Voxels are drawn over the whole
            image: a region holds its fraction of them. 0 for a single one, as in the paper.
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


class LatticeCode(StrEnum):
    """How the classes of a :class:`SymmetricLattice` differ."""

    NONE = "none"
    AXES = "axes"
    SIGN = "sign"


class SymmetricLattice(ClassPatterns):
    r"""The product over the axes of one mirror-symmetric sequence of signs, + - - + with the default period of 4.

    .. math::
        P(s) = \prod_{a} \mathrm{sign} \cos\frac{2 \pi (s_a + 1/2)}{p}

    with coordinates :math:`s_a` that are counted from the center of the image, and the sign of 0 positive. Our own
    method: a pattern that an augmentation leaves as it is, by construction. Images of even size, or padded to one, show
    the same lattice after mirroring along any axis. A period that is a multiple of the strides of a network's first
    layers keeps in step with them. Nothing is random: there is no seed, and anyone can know the lattice.

    Args:
        epsilon, support, granularity: see :class:`ClassPatterns`.
        axes: spatial axes of the product; None for all.
        period: period of the sequence in voxels, at least 3.
        code: difference between classes. ``"none"``: none; noise tells region from background alone, and nothing about
            classes of whole images. ``"sign"``: classes of even number carry the opposite sign. ``"axes"``: each class
            takes another subset of the axes, class 1 all of them; after 3 subsets of 2 axes or 7 of 3 they repeat.

    Raises:
        InputError: when the period is less than 3, no axis is given, or the code is unknown.
    """

    def __init__(
        self,
        epsilon: float = 8 / 255,
        support: MaskProvider | None = None,
        granularity: str = "class",
        axes: Sequence[int] | None = None,
        period: int = 4,
        code: str = "none",
    ) -> None:
        super().__init__(epsilon, support, granularity)
        if period < 3:
            raise InputError("no symmetric sequence has a period of less than 3 voxels", value=period, limit=3)
        if axes is not None and len(axes) == 0:
            raise InputError("a lattice needs at least one axis")
        self.axes, self.period = None if axes is None else tuple(axes), period
        self.code = look_up("code", code, LatticeCode)

    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        dims = image.ndim - 1
        lattice = torch.ones([1] * dims)
        for axis in self._axes(kind, dims):
            lattice = lattice * self._signs(image.shape[1 + axis]).reshape([-1, *[1] * (dims - 1 - axis)])
        flip = self.code == LatticeCode.SIGN and kind % 2 == 0
        return (-lattice if flip else lattice).expand(image.shape)

    def _axes(self, kind: int, spatial_dims: int) -> Sequence[int]:
        axes = tuple(range(spatial_dims)) if self.axes is None else self.axes
        if self.code != LatticeCode.AXES:
            return axes
        subsets = [subset for size in range(len(axes), 0, -1) for subset in itertools.combinations(axes, size)]
        return subsets[(kind - 1) % len(subsets)]

    def _signs(self, extent: int) -> Tensor:
        phase = centered(extent) % self.period
        mirrored = torch.minimum(phase, self.period - 1 - phase)
        return torch.where(4 * mirrored + 2 <= self.period, 1.0, -1.0)  # the cosine in whole numbers

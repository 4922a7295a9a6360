# SPDX-License-Identifier: Apache-2.0
"""Noise that keeps its form wherever a patch is cut: carriers of the highest frequency."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_unlearnable.data.grids import Grid
from monai_unlearnable.errors import InputError, LabelError
from monai_unlearnable.masks import MaskProvider
from monai_unlearnable.perturbers.base import check_classes
from monai_unlearnable.perturbers.patterns import ClassPatterns, Granularity, centered, random_signs
from monai_unlearnable.perturbers.planned import Line, PlannedGrid
from monai_unlearnable.utils.seeding import seeded

__all__ = ["NyquistCarriers", "carrier_axes", "carrier_energy"]

STRENGTH = 0.5  # of a line from which on an axis is fine enough for the planned grid
BLOCK = 4  # voxels along the side of the blocks in which a scan's own content is measured


def carrier_axes(spatial_dims: int) -> list[tuple[int, ...]]:
    """The axes along which each carrier alternates: all nonempty subsets, the largest first."""
    axes = range(spatial_dims)
    return [subset for size in range(spatial_dims, 0, -1) for subset in itertools.combinations(axes, size)]


def alternating(shape: Sequence[int]) -> list[Tensor]:
    """For each axis of an image the values -1 and 1 that alternate from voxel to voxel, 1 in the middle."""
    return [1 - 2 * (centered(extent) % 2).float() for extent in shape]


def carrier(axes: Sequence[int], lines: Sequence[Tensor]) -> Tensor:
    """The product of the lines of some axes, over the whole image."""
    product = torch.ones([1] * len(lines))
    for axis in axes:
        product = product * lines[axis].reshape([-1, *[1] * (len(lines) - 1 - axis)])
    return product.expand([len(line) for line in lines])


def carrier_energy(image: Tensor, region: Tensor) -> Tensor:
    """What images hold of each carrier by themselves, inside a region.

    An image is multiplied by the carrier and averaged over blocks of 4 voxels a side: what is left is the content of
    a band around the carrier's frequency, as a filter of that size sees it.

    Args:
        image: normalized intensity, (B, C, spatial...).
        region: mask, (B, 1, spatial...).

    Returns:
        Mean square over the region and the channels, (carriers,), in the order of :func:`carrier_axes`; zero where the
        region is empty.
    """
    shape = image.shape[2:]
    pool = F.avg_pool2d if len(shape) == 2 else F.avg_pool3d
    padding = [side for extent in reversed(shape) for side in (0, -extent % BLOCK)]
    weight = pool(F.pad((region > 0).to(image), padding), BLOCK)
    energies = []
    for axes in carrier_axes(len(shape)):
        content = pool(F.pad(image * carrier(axes, alternating(shape)).to(image), padding), BLOCK)
        energies.append((content.square() * weight).sum() / (image.shape[1] * weight.sum()).clamp(min=1e-12))
    return torch.stack(energies)


class NyquistCarriers(ClassPatterns):
    r"""A carrier of the highest frequency for each class: rows or checkerboards of period 2.

    .. math::
        P_k(s) = \sum_A w_{k,A} \prod_{a \in A} (-1)^{s_a}, \qquad
        \emptyset \ne A \subseteq \{1, \dots, d\}, \quad \sum_A |w_{k,A}| = 1

    Our own method. These products, three in 2D and seven in 3D, are all that change nothing but their sign under
    every translation and every mirroring of the grid. Whatever patch an exploiter cuts, the same filter answers to
    the same class; patterns of longer periods have as many phases as their period has voxels, and random patches undo
    them. Scans hold little at these frequencies, least where all axes alternate, so that a faint carrier stands out:
    :meth:`fit` gives each class the carrier that its region holds least of.

    Args:
        num_classes: number of classes, background included.
        spatial_dims: dimensions of the images, 2 or 3.
        epsilon, support: see :class:`ClassPatterns`.
        carriers: axes along which the carrier of each class alternates, such as ``[[], [0, 1, 2], [0, 1]]``; with
            none, a class has no noise. By default :meth:`fit` chooses.
        grid: grid that an exploiter is expected to resample the scans to, so that carriers come out of it as carriers;
            by default that of the files. Along axes on which a scan is too coarse for that, its carriers do not
            alternate, unless it is too coarse along all.
        distinct: whether :meth:`fit` gives classes different carriers. When there are more classes than carriers, the
            others get means of two or more.
        seed: random seed of the sign of each carrier.

    Attributes:
        weights: w, (num_classes, carriers), in the order of :func:`carrier_axes`; zero until :meth:`fit`, if that
            chooses.

    Raises:
        InputError: when ``carriers`` are those of another number of classes, or have other axes than the images.
    """

    weights: Tensor
    lines: list[Line] | None  # of one scan, where carriers are planned for its grid

    def __init__(
        self,
        num_classes: int,
        spatial_dims: int,
        epsilon: float = 8 / 255,
        support: MaskProvider | None = None,
        carriers: Sequence[Sequence[int]] | None = None,
        grid: PlannedGrid | None = None,
        distinct: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(epsilon, support, Granularity.CLASS, seed)
        self.num_classes, self.spatial_dims, self.distinct = num_classes, spatial_dims, distinct
        self.grid, self.lines = grid, None
        self.carriers = None if carriers is None else [tuple(axes) for axes in carriers]
        self.register_buffer("weights", torch.zeros(num_classes, len(carrier_axes(spatial_dims))))
        if self.carriers is not None:
            self._set([() if not axes else (self._number(axes),) for axes in self.carriers])

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> NyquistCarriers:
        """Choose the carrier of each class by what the scans hold; those that were given stay.

        The class with most voxels chooses first.

        Args:
            batches: image (B, C, spatial...) in normalized intensity and classes of voxels (B, 1, spatial...) or of
                whole images (B,); sizes may differ among batches.

        Returns:
            This object.

        Raises:
            LabelError: when a class is not below ``num_classes``.
        """
        if self.carriers is not None:
            return self
        energies = torch.zeros(self.weights.shape, dtype=torch.float64)
        counts = torch.zeros(self.num_classes, dtype=torch.float64)
        for image, label in batches:
            check_classes(label, self.num_classes)
            support = self.support(image, label) > 0
            classes = label.reshape(-1, *[1] * (image.ndim - 1)) if label.ndim == 1 else label
            for kind in torch.unique(label).tolist():
                region = support & (classes == kind)
                count = int(region.sum())
                counts[kind] += count
                energies[kind] += count * carrier_energy(image, region).cpu().double()
        if not counts.any():
            raise LabelError("no voxel may carry noise, so that no carrier can be chosen")
        self._set(self._chosen(energies / counts.clamp(min=1)[:, None], counts))
        return self

    def _chosen(self, energies: Tensor, counts: Tensor) -> list[tuple[int, ...]]:
        """Numbers of the carriers of each class, by their energies in the classes and the voxels of these."""
        chosen: list[tuple[int, ...]] = [()] * self.num_classes
        if not self.distinct:
            best = int((energies * counts[:, None]).sum(0).argmin())
            return [(best,) if count else () for count in counts.tolist()]
        numbers = range(energies.shape[1])
        groups = [group for size in range(1, len(numbers) + 1) for group in itertools.combinations(numbers, size)]
        left: list[tuple[int, ...]] = []
        for kind in counts.argsort(descending=True, stable=True).tolist():
            if counts[kind]:
                left = left or list(groups)
                size = len(left[0])  # single carriers before means of several
                options = [group for group in left if len(group) == size]
                chosen[kind] = min(options, key=lambda group: sum(energies[kind, number].item() for number in group))
                left.remove(chosen[kind])
        return chosen

    def _set(self, chosen: Sequence[tuple[int, ...]]) -> None:
        if len(chosen) != self.num_classes:
            reason = "carriers are given for another number of classes than there are"
            raise InputError(reason, value=len(chosen), limit=self.num_classes)
        self.weights.zero_()
        for kind, group in enumerate(chosen):
            signs = random_signs((len(group),), seeded(self.seed, "sign", kind))
            for number, sign in zip(group, signs.tolist(), strict=True):
                self.weights[kind, number] = sign / len(group)

    def _number(self, axes: tuple[int, ...]) -> int:
        known = carrier_axes(self.spatial_dims)
        if axes not in known:
            raise InputError(f"no carrier alternates along the axes {list(axes)}; known are {list(map(list, known))}")
        return known.index(axes)

    def support(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        if image.ndim - 2 != self.spatial_dims:
            raise InputError(f"carriers of {self.spatial_dims} dimensions do not fit images of {image.ndim - 2}")
        if label is not None:
            check_classes(label, self.num_classes)
        return super().support(image, label)

    @property
    def uses_grid(self) -> bool:  # type: ignore[override]
        return self.grid is not None

    def for_grid(self, grid: Grid) -> NyquistCarriers:
        if self.grid is None:
            return self
        planned = copy.copy(self)
        planned.lines = self.grid.lines(grid)
        return planned

    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        if not self.weights.any():
            raise InputError("no carriers were chosen yet: fit them to scans, or give them")
        shape = image.shape[1:]
        if self.lines is None:
            lines, reached = alternating(shape), set(range(len(shape)))
        else:
            lines = [torch.as_tensor(line.values, dtype=torch.float32) for line in self.lines]
            reached = {axis for axis, line in enumerate(self.lines) if line.strength >= STRENGTH}
        pattern = torch.zeros(shape)
        for weight, axes in zip(self.weights[kind].tolist(), carrier_axes(len(shape)), strict=True):
            if weight:
                pattern = pattern + weight * carrier(tuple(reached & set(axes)) or tuple(reached) or axes, lines)
        return pattern.expand(image.shape)

# SPDX-License-Identifier: Apache-2.0
"""Noise that keeps its form wherever a patch is cut: carriers of the highest frequency."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_unlearnable.data.grids import Crop, Grid
from monai_unlearnable.errors import InputError, LabelError
from monai_unlearnable.masks import MaskProvider
from monai_unlearnable.perturbers.base import check_classes
from monai_unlearnable.perturbers.patterns import ClassPatterns, Granularity, centered, random_signs
from monai_unlearnable.perturbers.planned import Line, PlannedGrid
from monai_unlearnable.utils.enums import look_up
from monai_unlearnable.utils.seeding import seeded
from monai_unlearnable.utils.values import check_switch

__all__ = ["NyquistCarriers", "carrier_axes", "carrier_codes", "carrier_energies", "check_mixture"]

KEYED, ROWS, ALL = CHOICES = ("keyed", "rows", "all")  # in the place of carriers that are given
STRENGTH = 0.5  # of a line from which on an axis is fine enough for the planned grid
BLOCK = 4  # voxels along the side of the blocks in which a scan's own content is measured


def carrier_axes(spatial_dims: int) -> list[tuple[int, ...]]:
    """The axes along which each carrier alternates: all nonempty subsets, the largest first."""
    axes = range(spatial_dims)
    return [subset for size in range(spatial_dims, 0, -1) for subset in itertools.combinations(axes, size)]


def check_mixture(mixture: Any, spatial_dims: int) -> tuple[float, ...]:
    """The weights of a mixture.

    Raises:
        InputError: when they are not positive numbers of sum 1, or more than there are carriers.
    """
    count = len(carrier_axes(spatial_dims))
    try:
        weights = tuple(float(weight) for weight in mixture)
    except (TypeError, ValueError):
        weights = ()
    if not 0 < len(weights) <= count or min(weights) <= 0 or not math.isclose(sum(weights), 1):
        raise InputError(f"a mixture has 1 to {count} positive weights of sum 1, not {mixture!r}")
    return weights


def carrier_codes(spatial_dims: int, mixture: Sequence[float]) -> list[tuple[int, ...]]:
    """What can be drawn for a class: the numbers of carriers, in the order of the weights of the mixture."""
    numbers, count = range(len(carrier_axes(spatial_dims))), len(mixture)
    alike = len(set(mixture)) == 1
    return list(itertools.combinations(numbers, count) if alike else itertools.permutations(numbers, count))


def alternating(shape: Sequence[int]) -> list[Tensor]:
    """For each axis of an image the values -1 and 1 that alternate from voxel to voxel, 1 in the middle."""
    return [1 - 2 * (centered(extent) % 2).float() for extent in shape]


def carrier(axes: Sequence[int], lines: Sequence[Tensor]) -> Tensor:
    """The product of the lines of some axes, over the whole image."""
    product = torch.ones([1] * len(lines))
    for axis in axes:
        product = product * lines[axis].reshape([-1, *[1] * (len(lines) - 1 - axis)])
    return product.expand([len(line) for line in lines])


def carrier_energies(image: Tensor, classes: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """What images hold of each carrier by themselves, in the region of each class.

    An image is multiplied by the carrier and averaged over blocks of 4 voxels a side: what is left is the content of
    a band around the carrier's frequency, as a filter of that size sees it. Incomplete blocks at the ends of an axis
    are omitted; axes of less than 4 voxels are one block, of an even number of voxels where that is possible.

    Args:
        image: normalized intensity, (B, C, spatial...).
        classes: class of each voxel, (B, 1, spatial...); negative where it does not count.
        num_classes: number of classes.

    Returns:
        Mean square over the voxels of each class and the channels, (num_classes, carriers), in the order of
        :func:`carrier_axes`, zero where a class has none; and the number of voxels of each class, (num_classes,).
    """
    shape = image.shape[2:]
    blocks = [BLOCK if extent >= BLOCK else max(1, extent - extent % 2) for extent in shape]
    whole = [slice(0, extent - extent % block) for extent, block in zip(shape, blocks, strict=True)]
    box = (slice(None), slice(None), *whole)
    image, classes = image[box], classes[box]
    pool = F.avg_pool2d if len(shape) == 2 else F.avg_pool3d
    counted = classes.flatten() >= 0
    chosen = classes.flatten()[counted]
    counts = torch.bincount(chosen, minlength=num_classes).double()
    energies = torch.zeros(num_classes, len(carrier_axes(len(shape))), dtype=torch.float64)
    for number, axes in enumerate(carrier_axes(len(shape))):
        product = image * carrier(axes, alternating(image.shape[2:])).to(image)
        content = pool(product, blocks).square().mean(1, keepdim=True)
        everywhere = F.interpolate(content, image.shape[2:]).flatten()[counted]
        energies[:, number] = torch.bincount(chosen, everywhere.double(), minlength=num_classes)
    return energies / counts.clamp(min=1)[:, None], counts


def _for_classes(carriers: Any, num_classes: int) -> list[tuple[int, ...]]:
    """The axes of the carrier of each class, from those of each or those of all.

    Raises:
        InputError: when they are neither.
    """
    if isinstance(carriers, Sequence):
        if carriers and all(type(axis) is int for axis in carriers):
            return [tuple(carriers)] * num_classes
        if all(isinstance(axes, Sequence) for axes in carriers):
            return [tuple(axes) for axes in carriers]
    raise InputError(f"carriers are axes, such as [0, 1], or those of each class, not {carriers!r}")


class NyquistCarriers(ClassPatterns):
    r"""A carrier of the highest frequency for each class: rows or checkerboards of period 2.

    .. math::
        P_k(s) = \sum_A w_{k,A} \prod_{a \in A} (-1)^{s_a}, \qquad
        \emptyset \ne A \subseteq \{0, \dots, d - 1\}, \quad \sum_A |w_{k,A}| = 1

    Our own method. These products, three in 2D and seven in 3D, are all that change nothing but their sign under
    every translation and every mirroring of the grid. Whatever patch an exploiter cuts, the same filter answers to
    the same class; patterns of longer periods have as many phases as their period has voxels, and random patches undo
    them. Scans hold little at these frequencies, so that a faint carrier stands out: :meth:`fit` takes what the regions
    hold least of.

    Scans hold least of the checkerboard along all axes, and small networks learn it late or never: their filters become
    edges, which answer to rows along one axis and not to checkerboards. And where the classes are regions, one carrier
    for all of them is learned sooner than one for each. These are the defaults for label maps.

    Args:
        num_classes: number of classes, background included.
        spatial_dims: dimensions of the images, 2 or 3.
        epsilon, support: see :class:`ClassPatterns`.
        carriers: axes along which the carrier of each class alternates, such as ``[[], [0, 1, 2], [0, 1]]``; with
            none, a class has no noise. A single list of axes, such as ``[0, 1]``, is that of all classes. ``"rows"``
            and ``"all"`` let :meth:`fit` choose, among those along one axis or among all; by default rows for label
            maps, and all for classes of whole images. ``"keyed"`` draws them from the seed, whatever the scans hold, so
            that they are a mark.
        grid: grid that an exploiter is expected to resample the scans to, so that carriers come out of it as carriers;
            by default that of the files. Carriers alternate along its axes. Along an axis on which a scan is too coarse
            for that, its carriers do not alternate, unless it is too coarse along all. What the exploiter is expected
            to cut off carries nothing, so that his crop of the protected scan is that of the original. :meth:`fit`
            takes images along the axes of the grid, with the voxels of the files.
        distinct: whether classes get different carriers, where they are not given; by default only those of whole
            images, and those that are drawn. When there are more classes than carriers, the others get means of two or
            more, which are fainter: 0.7 of epsilon (root mean square) for two, 0.6 for three. After 7 classes in 2D
            and 127 in 3D they repeat.
        same_sign: whether classes of regions that share a carrier also share its sign, where it is not drawn; by
            default they take turns.
        mixture: weights of the carriers that are drawn for each class, of sum 1; by default it is one carrier.
        seed: random seed of the sign of each carrier, and of carriers that are drawn.

    Attributes:
        weights: w, (num_classes, carriers), in the order of :func:`carrier_axes`; zero until :meth:`fit`, if that
            chooses.

    Raises:
        InputError: when ``carriers`` are those of another number of classes, or have other axes than the images; when
            the weights of a mixture are not positive numbers of sum 1, or more than there are carriers.
    """

    weights: Tensor
    lines: list[Line] | None  # of one scan, where carriers are planned for its grid
    box: tuple[slice, ...]  # of that scan, which the lines run along
    order: tuple[int, ...]  # for each axis of the file that of the carriers

    def __init__(
        self,
        num_classes: int,
        spatial_dims: int,
        epsilon: float = 8 / 255,
        support: MaskProvider | None = None,
        carriers: Sequence[Sequence[int]] | Sequence[int] | str | None = None,
        grid: PlannedGrid | None = None,
        distinct: bool | None = None,
        mixture: Sequence[float] = (1.0,),
        seed: int = 0,
        same_sign: bool = False,
    ) -> None:
        super().__init__(epsilon, support, Granularity.CLASS, seed)
        if distinct is not None:
            check_switch("distinct", distinct)
        check_switch("same_sign", same_sign)
        self.same_sign = same_sign
        self.num_classes, self.spatial_dims, self.distinct = num_classes, spatial_dims, distinct
        self.grid, self.lines, self.box, self.order = grid, None, (), tuple(range(spatial_dims))
        self.mixture = check_mixture(mixture, spatial_dims)
        self.register_buffer("weights", torch.zeros(num_classes, len(carrier_axes(spatial_dims))))
        self.carriers: str | list[tuple[int, ...]] | None
        if isinstance(carriers, str):
            self.carriers = look_up("carriers", carriers, CHOICES)
            if self.is_drawn:
                self._set(self._drawn(), self.mixture)
        elif carriers is not None:
            self.carriers = _for_classes(carriers, num_classes)
            self._set([() if not axes else (self._number(axes),) for axes in self.carriers])
        else:
            self.carriers = None

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
        if self.carriers not in (None, ROWS, ALL):
            return self
        are_regions = False
        energies = torch.zeros(self.weights.shape, dtype=torch.float64)
        counts = torch.zeros(self.num_classes, dtype=torch.float64)
        for image, label in batches:
            check_classes(label, self.num_classes)
            support = self.support(image, label) > 0
            classes = (label.reshape(-1, *[1] * (image.ndim - 1)) if label.ndim == 1 else label).long()
            found, voxels = carrier_energies(image, torch.where(support, classes, -1), self.num_classes)
            energies, counts = energies + found * voxels[:, None], counts + voxels
            are_regions = label.ndim > 1
        if not counts.any():
            raise LabelError("no voxel may carry noise, so that no carrier can be chosen")
        self._set(self._chosen(energies, counts, are_regions))
        return self

    def _chosen(self, energies: Tensor, counts: Tensor, are_regions: bool) -> list[tuple[int, ...]]:
        """Numbers of the carriers of each class, by sums of their energies in it, and its voxels.

        A class without voxels, as one that no case of a sample has, chooses last, by all regions together.
        """
        overall = energies.sum(0) / counts.sum()
        only_rows = self.carriers == ROWS or (self.carriers is None and are_regions)
        numbers = [n for n, axes in enumerate(carrier_axes(self.spatial_dims)) if len(axes) == 1 or not only_rows]
        distinct = self.distinct if self.distinct is not None else not are_regions
        if not distinct:
            return [(min(numbers, key=lambda number: overall[number].item()),)] * self.num_classes
        means = torch.where(counts[:, None] > 0, energies / counts.clamp(min=1)[:, None], overall)
        groups = [group for size in range(1, len(numbers) + 1) for group in itertools.combinations(numbers, size)]
        chosen: list[tuple[int, ...]] = [()] * self.num_classes
        left: list[tuple[int, ...]] = []
        for kind in counts.argsort(descending=True, stable=True).tolist():
            left = left or list(groups)
            size = len(left[0])  # single carriers before means of several
            options = [group for group in left if len(group) == size]
            chosen[kind] = min(options, key=lambda group: sum(means[kind, number].item() for number in group))
            left.remove(chosen[kind])
        return chosen

    def _drawn(self) -> list[tuple[int, ...]]:
        """Codes of all classes, drawn from the seed: all that can be drawn are alike likely."""
        codes = carrier_codes(self.spatial_dims, self.mixture)
        order = torch.randperm(len(codes), generator=seeded(self.seed, "code")).tolist()
        return [codes[order[0 if self.distinct is False else kind % len(codes)]] for kind in range(self.num_classes)]

    def _set(self, chosen: Sequence[tuple[int, ...]], mixture: Sequence[float] | None = None) -> None:
        """Take carriers for each class, with given or else equal weights, and signs.

        The sign of a mark is drawn for each class. Otherwise classes of regions that share carriers take turns with it
        or, with ``same_sign``, have one: at low epsilon networks learn rows only where the sign changes.
        """
        if len(chosen) != self.num_classes:
            reason = "carriers are given for another number of classes than there are"
            raise InputError(reason, value=len(chosen), limit=self.num_classes)
        self.weights.zero_()
        last: dict[tuple[int, ...], Tensor] = {}
        for kind, group in enumerate(chosen):
            if self.is_drawn or group not in last:
                signs = random_signs((len(group),), seeded(self.seed, "sign", kind))
            else:
                signs = last[group] if self.same_sign else -last[group]
            if kind:  # the background mostly carries no noise
                last[group] = signs
            shares = [1 / len(group) for _ in group] if mixture is None else mixture
            for number, sign, share in zip(group, signs.tolist(), shares, strict=True):
                self.weights[kind, number] = sign * share

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

    def decided(self) -> dict[str, Any]:
        """For each class its carriers: the axes, and the weight with its sign."""
        known = carrier_axes(self.spatial_dims)
        rows = [zip(known, row, strict=True) for row in self.weights.tolist()]
        return {"carriers": [[{"axes": list(a), "weight": round(w, 6)} for a, w in row if w] for row in rows]}

    @property
    def is_drawn(self) -> bool:  # type: ignore[override]
        return self.carriers == KEYED

    @property
    def uses_grid(self) -> bool:  # type: ignore[override]
        return self.grid is not None

    @property
    def crop(self) -> str:  # type: ignore[override]
        return Crop.NONE if self.grid is None else self.grid.crop

    def for_grid(self, grid: Grid) -> NyquistCarriers:
        if self.grid is None:
            return self
        planned = copy.copy(self)
        planned.lines, planned.box = self.grid.lines(grid), tuple(slice(*side) for side in grid.box)
        planned.order = self.grid.axes_of(grid)
        return planned

    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        return self.pattern_in((slice(None),) * image.ndim, kind, case_id, image)

    def pattern_in(self, box: tuple[slice, ...], kind: int, case_id: str, image: Tensor) -> Tensor:
        if not self.weights.any():
            raise InputError("no carriers were chosen yet: fit them to scans, or give them")
        if self.grid is not None and self.lines is None:
            raise InputError("carriers for a planned grid need to know where voxels lie: take those of for_grid")
        lines = [[line[side] for line in pair] for pair, side in zip(self._lines(image), box[1:], strict=True)]
        pattern = torch.zeros([len(line) for line, _ in lines])
        reached, weights = self._reached(), self.weights[kind]
        signs: dict[tuple[int, ...], float] = {}  # that of the heaviest of those that became the same: none cancel out
        for number in sorted(reached, key=lambda number: -abs(float(weights[number]))):
            signs.setdefault(reached[number], math.copysign(1, float(weights[number])))
        for number, axes in reached.items():
            if weight := abs(float(weights[number])):
                chosen = [pair[0 if axis in axes else 1] for axis, pair in zip(self.order, lines, strict=True)]
                pattern += signs[axes] * weight * carrier(range(len(lines)), chosen)
        return pattern.expand(len(image), *pattern.shape)

    def _lines(self, image: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each axis the values of carriers that alternate along it, and of the others; 0 outside of the box."""
        shape = image.shape[1:]
        if self.lines is None:
            return [(line, torch.ones_like(line)) for line in alternating(shape)]
        found = []
        for line, side, extent in zip(self.lines, self.box, shape, strict=True):
            pair = torch.zeros(2, extent)
            pair[:, side] = torch.stack([line.values, torch.ones_like(line.values)])
            found.append((pair[0], pair[1]))
        return found

    def _reached(self) -> dict[int, tuple[int, ...]]:
        """The axes along which each carrier in use alternates, by its number.

        Those that a scan is too coarse for are left out; a carrier of which nothing is left takes others, as many if
        there are. Carriers that would become the same stay different as long as there are enough; those of one class
        that become the same all the same add up.
        """
        known = carrier_axes(self.spatial_dims)
        used = torch.nonzero(self.weights.any(dim=0)).flatten().tolist()
        fine = {self.order[axis] for axis, line in enumerate(self.lines or ()) if line.strength >= STRENGTH}
        if not fine:
            return {number: known[number] for number in used}
        left = [axes for axes in known if fine.issuperset(axes)]
        reached: dict[int, tuple[int, ...]] = {}
        for number in used:
            wanted = tuple(axis for axis in known[number] if axis in fine)
            free = [axes for axes in left if axes not in reached.values()] or left
            alike = min(free, key=lambda axes: abs(len(axes) - len(known[number])))  # rows stay rows
            reached[number] = wanted if wanted in free else alike
        return reached

# SPDX-License-Identifier: Apache-2.0
"""What networks and owners must know of a dataset."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from monai_unlearnable.data.grids import Grid
from monai_unlearnable.errors import LabelError
from monai_unlearnable.utils.arrays import network_sides
from monai_unlearnable.utils.text import first_few

__all__ = ["DatasetSummary", "patch_size"]


@dataclass(frozen=True)
class DatasetSummary:
    """The facts that a network needs about a dataset: dimensions, channels, classes and typical size.

    Args:
        spatial_dims: 2 or 3.
        channels: number of channels of an image.
        label_values: stored label value of each class, background first; empty where labels are no maps.
        median_shape: median shape of the images.
        roughness: root mean square of the second difference along each spatial axis.
        targets: number of cases of each class of whole images; empty where labels are maps, or there are several tasks.
        tasks: number of cases of each class of each task, by its name; empty where images have one label.
        class_voxels: number of voxels of each class, in all cases together; empty where labels are no maps.
        ignored_voxels: number of voxels that belong to no class: their label value is negative.
        empty: cases whose label is all background.
        doubtful: errors of the cases whose label looks like a smooth mask, or an image.
        class_names: what label files call a label value, by that value; several names where they differ.
        dtypes: number of files by the type of their stored voxels.
        window_range: the lowest and the highest end of all intensity windows, in physical units.
        window_widths: the least and the largest width of an intensity window, in physical units.
        sizes: number of voxels of each case, channels included.
        exceeding: scans whose noise may exceed the spread of the labeled voxels, see
            :func:`~monai_unlearnable.data.spread.exceeding_spread`; known where a budget was given.
        blank: scans that lie outside of their intensity window, see
            :func:`~monai_unlearnable.data.spread.blank_scans`.
        grids: where the voxels of each case lie.
    """

    spatial_dims: int
    channels: int
    label_values: tuple[int, ...]
    median_shape: tuple[int, ...]
    roughness: tuple[float, ...] = ()
    targets: tuple[int, ...] = ()
    tasks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    class_voxels: tuple[int, ...] = ()
    ignored_voxels: int = 0
    empty: tuple[str, ...] = ()
    doubtful: tuple[LabelError, ...] = ()
    class_names: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    dtypes: Mapping[str, int] = field(default_factory=dict)
    window_range: tuple[float, float] = (0.0, 1.0)
    window_widths: tuple[float, float] = (1.0, 1.0)
    sizes: tuple[int, ...] = ()
    exceeding: Mapping[str, str] = field(default_factory=dict)
    blank: Mapping[str, str] = field(default_factory=dict)
    grids: tuple[Grid, ...] = ()

    @property
    def is_segmentation(self) -> bool:
        """Whether each voxel has a class, rather than each image."""
        return bool(self.label_values)

    @property
    def smoothest_axis(self) -> int:
        """The spatial axis along which neighboring voxels differ least: the axis of their emptiest spectrum."""
        return int(np.argmin(self.roughness))

    @property
    def num_classes(self) -> int:
        """Number of classes, background included; of several tasks, those of all together."""
        return len(self.label_values) or sum(self.task_classes)

    @property
    def task_classes(self) -> tuple[int, ...]:
        """Number of classes of each task, of the only one where images have one label; empty where labels are maps."""
        counts = self.tasks.values() or ([self.targets] if self.targets else [])
        return tuple(map(len, counts))

    def check_labels(self) -> None:
        """Check that label maps are label maps, and hold something that noise can follow.

        Raises:
            LabelError: when one looks like a smooth mask or an image, or all are background.
        """
        for error in self.doubtful:
            raise error
        if self.is_segmentation and not any(self.class_voxels[1:]):
            reason = f"the labels of all cases hold one value, {self.label_values[0]}: there is nothing to follow"
            raise LabelError(f"{reason}; --label_values tells which value is background")

    def label_remarks(self) -> list[str]:
        """What the owner should know of the labels: cases that are empty, numbers that may mean several things."""
        remarks = []
        if self.empty:
            remarks.append(f"{len(self.empty)} of {len(self.sizes)} labels are empty: {first_few(self.empty)}")
        for value, called in self.class_names.items():
            if len(called) > 1:
                names = " and ".join(map(repr, called[:3]))
                remarks.append(f"label value {value} is called {names}; it must mean the same in all cases")
        return remarks

    def cases_within(self, gib: float) -> int:
        """The number of cases of typical size that fit into ``gib`` GiB, with float32 images and int64 label maps."""
        size = math.prod(self.median_shape) * (4 * self.channels + 8 * self.is_segmentation)
        return int(gib * 2**30 / size)

    def patch_size(self, divisor: int = 8, limit: int = 2**18) -> tuple[int, ...]:
        """A patch to train on, see :func:`patch_size`, of the median shape."""
        return patch_size(self.median_shape, divisor, limit)


def patch_size(shape: Sequence[int], divisor: int = 8, limit: int = 2**18) -> tuple[int, ...]:
    """A patch to train on: the shape, padded as a whole scan is, long axes halved to ``limit`` voxels."""
    size = [extent + sum(sides) for extent, sides in zip(shape, network_sides(shape, divisor), strict=True)]
    while np.prod(size) > limit and max(size) > divisor:
        axis = int(np.argmax(size))
        size[axis] = max(divisor, size[axis] // 2 // divisor * divisor)
    return tuple(size)

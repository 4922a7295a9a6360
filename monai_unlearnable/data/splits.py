# SPDX-License-Identifier: Apache-2.0
"""The arrays of a MedMNIST archive, read one split at a time and checked."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.data.datalist import SECTIONS
from monai_unlearnable.errors import DatalistError

__all__ = ["Archive", "Split", "is_volume"]

NAMES = ("train", "val", "test")
# What zipfile and numpy raise for files that were cut or damaged, are no archives, or hold objects.
BROKEN = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)


def is_volume(shape: tuple[int, ...]) -> bool:
    """Whether an image of that shape is (D, H, W), rather than (H, W) or (H, W, 3)."""
    return len(shape) == 3 and shape[-1] != 3


@dataclass(frozen=True)
class Split:
    """One split of an archive.

    Args:
        name: ``"train"``, ``"val"`` or ``"test"``.
        images: (N, H, W), (N, H, W, 3) or (N, D, H, W), uint8.
        labels: one class an image (N,).
    """

    name: str
    images: NDArray
    labels: NDArray

    @property
    def section(self) -> str:
        """The name of the split in a datalist."""
        return SECTIONS[self.name]

    @property
    def volumes(self) -> bool:
        """Whether the images are 3D."""
        return is_volume(self.images.shape[1:])

    def file(self, index: int) -> str:
        """The relative name of the file that an image is unpacked to."""
        return f"{self.name}/{index:05d}.{'nii.gz' if self.volumes else 'png'}"

    def voxels(self, index: int) -> NDArray:
        """An image as a scan has it: (1, D, H, W), or (C, x, y)."""
        image = self.images[index]
        return image[None] if self.volumes else image.reshape(*image.shape[:2], -1).T

    def replace(self, index: int, voxels: NDArray) -> None:
        """Put another image in place, given as :meth:`voxels` gives it."""
        self.images[index] = voxels[0] if self.volumes else voxels.T.reshape(self.images.shape[1:])


class Archive:
    """An archive opened for reading, to be used with ``with``.

    Args:
        path: the ``.npz`` file.

    Raises:
        DatalistError: naming the file, when it is no archive; so do the methods, when a part of it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.source = zipfile.ZipFile(path)
        except FileNotFoundError as error:
            raise DatalistError("the archive does not exist", file=path) from error
        except BROKEN as error:
            raise DatalistError(f"not an .npz archive: {error}", file=path) from error

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *error: object) -> None:
        self.source.close()

    def members(self) -> list[zipfile.ZipInfo]:
        """What is in the archive, in its order."""
        return self.source.infolist()

    def splits(self) -> Iterator[Split]:
        """The splits that the archive has images of."""
        return (split for member in self.members() if (split := self.split_of(member.filename)) is not None)

    def split_of(self, member: str) -> Split | None:
        """The split whose images are a member of the archive, or None for other members."""
        name = next((name for name in NAMES if member == f"{name}_images.npy"), None)
        return None if name is None else self._split(name)

    def read(self, member: str) -> bytes:
        """The bytes of a member."""
        try:
            return self.source.read(member)
        except BROKEN as error:
            raise DatalistError(f"{member} cannot be read: {error}", file=self.path) from error

    def _split(self, name: str) -> Split:
        images, labels = self._array(f"{name}_images"), self._array(f"{name}_labels")
        count, *extents = images.shape or (0,)
        shape = tuple(extents)
        if images.dtype != np.uint8 or len(shape) not in (2, 3) or min(shape) < (2 if is_volume(shape) else 1):
            raise DatalistError(
                f"{name}_images has shape {images.shape} and type {images.dtype}; "
                "known are (N, H, W), (N, H, W, 3) and (N, D, H, W) of uint8",
                file=self.path,
            )
        if labels.dtype.kind not in "iu" or labels.shape not in ((count,), (count, 1)) or (labels < 0).any():
            raise DatalistError(
                f"{name}_labels has shape {labels.shape} and type {labels.dtype}; "
                f"needed is one class an image, counted from 0, for {count} images",
                file=self.path,
            )
        return Split(name, images, labels.reshape(count))

    def _array(self, key: str) -> NDArray:
        if f"{key}.npy" not in self.source.namelist():
            raise DatalistError(f"the archive has no {key}", file=self.path)
        try:
            with self.source.open(f"{key}.npy") as file:
                return np.lib.format.read_array(file, allow_pickle=False)
        except BROKEN as error:
            raise DatalistError(f"{key} cannot be read: {error}", file=self.path) from error

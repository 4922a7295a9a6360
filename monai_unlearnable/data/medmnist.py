# SPDX-License-Identifier: Apache-2.0
"""MedMNIST archives: ``.npz`` files of ``train_images`` and ``train_labels``, and the same for ``val`` and ``test``.

Images are uint8: gray (N, H, W), color (N, H, W, 3) or volumes (N, D, H, W); a last axis of 3 is color. Labels hold one
class an image, (N, 1) or (N,), or 0 or 1 for each of several findings, (N, T): T tasks of two classes. One archive's
arrays must fit into memory."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip
from numpy.typing import NDArray
from PIL import Image

from monai_unlearnable.data.formats import read_scan
from monai_unlearnable.data.listing.tables import SECTIONS
from monai_unlearnable.errors import DatalistError, OutputError, ScanError, told
from monai_unlearnable.utils.enums import CaseKeys
from monai_unlearnable.utils.files import encode_json, write_atomic
from monai_unlearnable.utils.progress import track

__all__ = ["Archive", "Split", "is_volume", "archive_images", "pack_archive", "unpack_archive"]

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
        labels: class of each image, (N,), or 0 or 1 for each task, (N, T).
    """

    name: str
    images: NDArray
    labels: NDArray

    @property
    def tasks(self) -> int:
        """The number of labels of an image."""
        return 1 if self.labels.ndim == 1 else self.labels.shape[1]

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


class Archive(zipfile.ZipFile):
    """An archive opened for reading.

    Args:
        path: the ``.npz`` file.

    Raises:
        DatalistError: naming the file, when it is not an archive; so do the methods, when a part of it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._naming("not an .npz archive"):
            super().__init__(path)

    @contextmanager
    def _naming(self, reason: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise DatalistError("the archive does not exist", file=self.path) from error
        except BROKEN as error:
            raise DatalistError(f"{reason}: {told(error)}", file=self.path) from error

    def splits(self) -> Iterator[Split]:
        """The splits that the archive has images of."""
        return (split for member in self.namelist() if (split := self.split_of(member)) is not None)

    def split_of(self, member: str) -> Split | None:
        """The split whose images are a member of the archive, or None for other members."""
        name = member.removesuffix("_images.npy")
        if name == member or name not in NAMES:
            return None
        images, labels = self._array(f"{name}_images"), self._array(f"{name}_labels")
        count, *extents = images.shape or (0,)
        shape = tuple(extents)
        if images.dtype != np.uint8 or len(shape) not in (2, 3) or min(shape) < (2 if is_volume(shape) else 1):
            reason = f"{name}_images has shape {images.shape} and type {images.dtype}"
            known = "known are (N, H, W), (N, H, W, 3) and (N, D, H, W) of uint8"
            raise DatalistError(f"{reason}; {known}", file=self.path)
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        fits = labels.dtype.kind in "iu" and labels.ndim in (1, 2) and len(labels) == count and not (labels < 0).any()
        if not fits or 0 in labels.shape[1:] or (labels.ndim == 2 and (labels > 1).any()):
            reason = f"{name}_labels has shape {labels.shape} and type {labels.dtype}; needed is one class an image"
            raise DatalistError(
                f"{reason}, counted from 0, or 0 or 1 for each task, for {count} images", file=self.path
            )
        return Split(name, images, labels)

    def content(self, member: str) -> bytes:
        """The bytes of a member."""
        with self._naming(f"{member} cannot be read"):
            return self.read(member)

    def _array(self, key: str) -> NDArray:
        if f"{key}.npy" not in self.namelist():
            raise DatalistError(f"the archive has no {key}", file=self.path)
        with self._naming(f"{key} cannot be read"), self.open(f"{key}.npy") as file:
            return np.lib.format.read_array(file, allow_pickle=False)


def unpack_archive(archive: Path, folder: Path, overwrite: bool = False) -> Path:
    """Write the images of an archive as files with a datalist of their classes: a dataset like others.

    Image 7 of ``train_images`` becomes ``train/00007.png``, or ``train/00007.nii.gz`` if it is a volume; the array of
    that file is the (D, H, W) of the archive, axis by axis, with the identity for affine. ``datalist.json`` has the
    sections ``training``, ``validation`` and ``test`` and is written last; several tasks are called by their numbers.
    Existing files with the same content are kept, so that an unpacking that was stopped goes on.

    Args:
        archive: archive to read.
        folder: folder to write to.
        overwrite: whether existing files with other content may be replaced.

    Returns:
        The folder.

    Raises:
        DatalistError: naming the archive, when it is none, or its arrays are not as above.
        OutputError: naming the file, when it exists with other content, or cannot be written.
    """
    with Archive(archive) as source:
        splits = list(source.splits())
    if "train" not in [split.name for split in splits]:
        raise DatalistError("the archive has no train_images", file=archive)
    if len({split.labels.shape[1:] for split in splits}) > 1:
        counts = ", ".join(f"{split.name} {split.tasks}" for split in splits)
        raise DatalistError(f"the splits differ in the number of labels an image: {counts}", file=archive)
    listed, datalist = _datalist(splits), folder / "datalist.json"
    known = _is_there(datalist, overwrite, lambda: datalist.read_bytes() == listed)
    for split in splits:
        for index in track(range(len(split.images)), f"unpacking image of {split.name}"):
            path = folder / split.file(index)
            if not _is_there(path, overwrite, partial(_holds, path, split.voxels(index))):
                write_atomic(path, _encode(split.images[index]))
    if not known:
        write_atomic(datalist, listed)
    return folder


def pack_archive(archive: Path, folder: Path, target: Path, overwrite: bool = False) -> Path:
    """Copy an archive, with the images of a folder in place of its own.

    Keys and their order, shapes, data types, labels and the images that the folder lacks stay the same; arrays are
    compressed where they were. Equal input gives equal bytes.

    Args:
        archive: archive to read.
        folder: folder of files under the names that :func:`unpack_archive` gives them, some or all.
        target: the new archive.
        overwrite: whether an existing file with other content may be replaced.

    Returns:
        The new archive.

    Raises:
        DatalistError: naming the archive, when it is none; naming the folder, when it holds none of the images.
        ScanError: naming the file, when it cannot be read, or has not the shape and type of the archive's image.
        OutputError: when the target is the archive itself, exists with other content, or cannot be written.
    """
    if target.exists() and target.resolve() == archive.resolve():
        raise OutputError("the output would replace the original; choose another name", file=target)
    stream, found = io.BytesIO(), 0
    with Archive(archive) as source, zipfile.ZipFile(stream, "w") as packed:
        for member in source.infolist():
            info = zipfile.ZipInfo(member.filename)  # bears no time of writing
            info.compress_type = member.compress_type
            split = source.split_of(member.filename)
            with packed.open(info, "w", force_zip64=True) as file:
                if split is None:
                    file.write(source.content(member.filename))
                else:
                    found += _replace_images(split, folder)
                    np.lib.format.write_array(file, split.images, allow_pickle=False)
    if not found:
        raise DatalistError(f"the folder holds no image of {archive.name}", file=folder)
    content = stream.getvalue()
    if not _is_there(target, overwrite, lambda: target.read_bytes() == content):
        write_atomic(target, content)
    return target


def archive_images(archive: Path) -> Iterator[tuple[str, NDArray]]:
    """The images of an archive, each with the name of the file that it is unpacked to.

    Yields:
        Name, and voxels (C, x, y) or (1, D, H, W), uint8.

    Raises:
        DatalistError: naming the archive, when it is none, or its arrays are not of the known kinds.
    """
    with Archive(archive) as source:
        for split in source.splits():
            yield from ((split.file(index), split.voxels(index)) for index in range(len(split.images)))


def _datalist(splits: list[Split]) -> bytes:
    content: dict[str, list[dict[str, Any]]] = {}
    for split in splits:
        labels = enumerate(map(_label, split.labels.tolist()))
        content[SECTIONS[split.name]] = [{CaseKeys.IMAGE: split.file(i), CaseKeys.LABEL: label} for i, label in labels]
    return encode_json(content)


def _label(label: int | list[int]) -> int | dict[str, int]:
    """The label of an image as lists hold it: archives name no tasks, which are numbered."""
    if isinstance(label, int):
        return label
    digits = len(str(len(label) - 1))
    return {f"{number:0{digits}d}": value for number, value in enumerate(label)}


def _is_there(path: Path, overwrite: bool, is_same: Callable[[], bool]) -> bool:
    """Whether a file need not be written; refuses one with other content.

    Processes that work together write the same files at once: one that is not there now may be when it is compared.
    """
    if not path.exists():
        return False
    same = path.is_file() and is_same()
    if not same and not overwrite:
        raise OutputError("a file with other content exists; set overwrite (--overwrite) to replace it", file=path)
    return same


def _holds(path: Path, voxels: NDArray) -> bool:
    try:
        return np.array_equal(read_scan(path).voxels, voxels)
    except ScanError:
        return False


def _encode(image: NDArray) -> bytes:
    if is_volume(image.shape):
        return igzip.compress(nib.Nifti1Image(image, np.eye(4)).to_bytes(), mtime=0)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG")
    return stream.getvalue()


def _replace_images(split: Split, folder: Path) -> int:
    """Put the images of a folder in their places; returns how many there are."""
    found = 0
    for index in range(len(split.images)):
        path, known = folder / split.file(index), split.voxels(index)
        if not path.is_file():
            continue
        voxels = read_scan(path).voxels
        if (voxels.shape, voxels.dtype) != (known.shape, known.dtype):
            reason = f"the image is {voxels.shape} {voxels.dtype}, that of the archive {known.shape} {known.dtype}"
            raise ScanError(reason, file=path)
        split.replace(index, voxels)
        found += 1
    return found

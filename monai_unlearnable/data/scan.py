# SPDX-License-Identifier: Apache-2.0
"""A scan in memory: the stored voxels of one file and what they mean."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.errors import ScanError, told
from monai_unlearnable.intensity import ChannelRule, IntensityWindow, StorageQuantization, WindowRule
from monai_unlearnable.utils.arrays import as_channels, file_order, pieces
from monai_unlearnable.utils.files import Content, named_by

__all__ = ["LPS_TO_RAS", "Scan", "ScanFormat", "check_same_shape", "filled_channels", "naming"]
__all__ += ["voxel_digest"]

MAX_INTEGER_BYTES = 4  # float64 arithmetic is exact on these, and on numbers of more within bounds
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # affines count to the right, to the front and up


@contextmanager
def naming(path: Path, done: str = "read") -> Iterator[None]:
    """Turn any error of libraries for a missing, cut or damaged file into a :class:`ScanError` that names it."""
    try:
        yield
    except ScanError as error:
        raise ScanError(error.reason, file=error.file or path) from error
    except FileNotFoundError as error:
        raise ScanError("the file does not exist", file=named_by(error) or path) from error
    except OSError as error:
        raise ScanError(f"cannot be {done}: {error.strerror or error}", file=named_by(error) or path) from error
    except Exception as error:
        raise ScanError(f"cannot be {done}: {told(error)}", file=path) from error


def voxel_digest(voxels: NDArray) -> str:
    """SHA-256 of channel-first voxels (C, spatial...): dtype, shape and values, independent of memory layout."""
    digest = hashlib.sha256(f"{voxels.dtype.str}{list(voxels.shape)}".encode())
    digest.update(np.ascontiguousarray(file_order(voxels)).data.cast("B"))  # copies nothing for NIfTI
    return digest.hexdigest()


@dataclass(frozen=True)
class Scan:
    """One image file: stored voxels, geometry and everything needed to write the same file with other voxels.

    Args:
        path: file or folder that the scan was read from.
        voxels: stored numbers, channel-first (C, spatial...), 2 or 3 spatial dimensions in index order x, y[, z].
        quantization: dtype, slope and intercept of storage.
        affine: 4x4 matrix from voxel indices to millimeters; identity where the format has none.
        container: data that only the format which read the scan uses.
        remarks: notes for the owner to read before the file is published.
        has_geometry: whether the file tells where its voxels lie.
        value_names: names of the values of a label map, where the file has them.
    """

    path: Path
    voxels: NDArray
    quantization: StorageQuantization
    affine: NDArray = field(default_factory=lambda: np.eye(4))
    container: Any = None
    remarks: tuple[str, ...] = ()
    has_geometry: bool = True
    value_names: Mapping[int, str] = field(default_factory=dict)

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape without channels."""
        return self.voxels.shape[1:]

    def physical(self, dtype: type = np.float32) -> NDArray:
        """Physical values (slope and intercept applied), channel-first, those that are no data as they are."""
        return self.quantization.to_physical(self.voxels, dtype)

    def data(self, dtype: type = np.float32) -> NDArray:
        """Physical values, channel-first, NaN where there are no data."""
        return self.quantization.to_data(self.voxels, dtype)

    def filled(self) -> NDArray:
        """Physical values in float32, channel-first, the lowest one of a channel where there are no data."""
        data = self.data()
        if (missing := np.isnan(data)).any():
            lowest = np.nan_to_num(np.fmin.reduce(data, axis=tuple(range(1, data.ndim)), keepdims=True))
            np.copyto(data, lowest, where=missing)
        return data

    @property
    def nodata(self) -> NDArray:
        """Which voxels (C, spatial...) hold no data: never changed, and reached by no other."""
        return self.quantization.is_nodata(self.voxels)

    def window(self, rule: WindowRule) -> IntensityWindow:
        """The intensity window that a rule derives for this scan."""
        if isinstance(rule, ChannelRule):
            return rule.of_channels(self.quantization.distributions(self.voxels), self.quantization)
        return rule(self.data(np.float64), self.quantization)

    def unit(self, window: IntensityWindow) -> NDArray:
        """Normalized intensity (C, spatial...), clipped to the window, 0 where there are no data, as float32."""
        dtype, storage = self.voxels.dtype, self.quantization
        if not storage.is_narrow or self.voxels[0].size < 2 ** (8 * dtype.itemsize):
            return window.to_unit(self.data())
        numbers = np.arange(2 ** (8 * dtype.itemsize)).astype(f"u{dtype.itemsize}").view(dtype.newbyteorder("="))
        tables = window.to_unit(storage.to_data(np.stack([numbers] * len(self.voxels))))
        unit = np.empty_like(self.voxels, np.float32)
        for channel, table in enumerate(tables):
            for source, target in zip(*(pieces(array[channel, None]) for array in (self.voxels, unit)), strict=True):
                target[...] = table[np.ascontiguousarray(source).view(f"{dtype.str[0]}u{dtype.itemsize}")]
        return unit

    def digest(self) -> str:
        """SHA-256 of the stored voxels, dtype and shape included."""
        return voxel_digest(self.voxels)

    def check(self) -> Scan:
        """Return the scan if it can be protected.

        Raises:
            ScanError: naming the file, when voxels are of an unsupported dtype or too large, not 2D or 3D, or
                none holds data; or when the place of the image is not finite.
        """
        kind, size = self.voxels.dtype.kind, self.voxels.dtype.itemsize
        if not (kind in "iu" or (kind == "f" and size in (4, 8))):
            reason = f"voxels of type {self.voxels.dtype} are not supported"
            raise ScanError(f"{reason}; use integers, float32 or float64", file=self.path)
        if len(self.spatial_shape) not in (2, 3) or min(self.voxels.shape) == 0:
            raise ScanError(f"expected a 2D or 3D image, found shape {self.spatial_shape}", file=self.path)
        layers = (slice(index, index + 1) for index in range(self.voxels.shape[-1]))  # mostly the first one tells
        if all(self.quantization.slices(layer).is_nodata(self.voxels[..., layer]).all() for layer in layers):
            reason = "the image holds no data: all voxels are NaN, infinite, or have a value that marks padding"
            raise ScanError(reason, file=self.path)
        low, high = self.quantization.bounds
        if size > MAX_INTEGER_BYTES and kind in "iu" and (self.voxels.min() < low or self.voxels.max() > high):
            raise ScanError("the image holds whole numbers beyond 2**53, which are not exact", file=self.path)
        if not np.isfinite(self.affine).all():
            raise ScanError("broken header: the place of the image is not finite", file=self.path)
        return self


def check_same_shape(scans: Sequence[Scan]) -> None:
    """Refuse scans that cannot be the channels of one image.

    Raises:
        ScanError: naming the first file whose shape differs.
    """
    for scan in scans[1:]:
        if scan.spatial_shape != scans[0].spatial_shape:
            reason = f"shape {scan.spatial_shape} differs from {scans[0].spatial_shape} of {scans[0].path}"
            raise ScanError(reason, file=scan.path)


def filled_channels(scans: Sequence[Scan], channels: int | None = None) -> NDArray:
    """Physical values (C, spatial...) of the scans of one image, float32, see :meth:`Scan.filled`.

    Args:
        scans: scans, whose channels follow each other.
        channels: number of channels that a model takes, see :func:`~monai_unlearnable.utils.arrays.as_channels`; by
            default that of the scans.

    Raises:
        ScanError: naming the file, when shapes differ.
    """
    check_same_shape(scans)
    values = np.concatenate([np.ascontiguousarray(scan.filled()) for scan in scans])
    return as_channels(values, channels, values.ndim - 1)


class ScanFormat(ABC):
    """Reads files to scans, and encodes scans again with other voxels.

    Attributes:
        suffixes: suffixes of its files, in lower case.
        kinds: the names of what its files are, by their first bytes.
        output_suffix: None where the format can hold exact voxels, else the suffix of the one that replaces it.
    """

    suffixes: tuple[str, ...]
    kinds: tuple[str, ...] = ()
    output_suffix: str | None = None

    @abstractmethod
    def read(self, path: Path) -> Scan:
        """Read a scan.

        Raises:
            ScanError: naming the file, when it is missing or damaged, or its content cannot be written without loss.
        """

    def read_label(self, path: Path) -> Scan:
        """Read a label map, which is copied and never written: it may be of kinds that no image can be of.

        Raises:
            ScanError: naming the file, when it is missing or damaged.
        """
        return self.read(path)

    def files(self, path: Path) -> tuple[Path, ...]:
        """The files that make up a scan, the one that it is named by first.

        Raises:
            ScanError: naming the file, when it cannot be told.
        """
        return (path,)

    @abstractmethod
    def encode(self, scan: Scan, voxels: NDArray, path: Path) -> Content:
        """The bytes of the file that holds ``voxels`` in place of the scan's own; of all files where it is a folder.

        Args:
            scan: the scan as it was read.
            voxels: channel-first replacement, same shape and dtype as ``scan.voxels``.
            path: path of the new file, whose suffix may decide on compression.
        """

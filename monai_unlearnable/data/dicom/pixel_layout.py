# SPDX-License-Identifier: Apache-2.0
"""How the numbers of pixels lie in a file: gray or in colors, pixel by pixel or plane by plane."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from monai_unlearnable.errors import ScanError

__all__ = ["PixelLayout"]

GRAY = ("MONOCHROME1", "MONOCHROME2")
SUBSAMPLED = "YBR_FULL_422"  # two pixels have one pair of colors
# Those with the colors of each pixel; the last two are what JPEG 2000 makes of RGB within its streams.
COLORS = ("RGB", "YBR_FULL", SUBSAMPLED, "YBR_RCT", "YBR_ICT")


@dataclass(frozen=True)
class PixelLayout:
    """The order of the numbers of a file that is not compressed.

    Args:
        frames: number of frames.
        samples: number of values a pixel.
        rows: number of rows.
        columns: number of columns.
        by_plane: whether all of one color come before those of the next, in each frame.
        is_subsampled: whether two pixels side by side have their own brightness and share the colors.
    """

    frames: int
    samples: int
    rows: int
    columns: int
    by_plane: bool = False
    is_subsampled: bool = False

    @classmethod
    def of(cls, dataset: Dataset) -> PixelLayout:
        """The layout that a header describes.

        Raises:
            ScanError: when the meaning of the numbers is not supported.
        """
        kind, samples = str(dataset.PhotometricInterpretation), int(dataset.get("SamplesPerPixel") or 1)
        if kind == "PALETTE COLOR":
            reason = "a change of 1 in PALETTE COLOR pixels is another entry of the palette, and can be any color"
            raise ScanError(f"{reason}; convert the file to RGB or MONOCHROME2")
        if kind not in (GRAY if samples == 1 else COLORS if samples == 3 else ()):
            reason = f"{kind} pixels of {samples} value{'s' if samples > 1 else ''} are not supported"
            raise ScanError(f"{reason}; {', '.join((*GRAY, *COLORS[:3]))} are")
        frames, rows, columns = int(dataset.get("NumberOfFrames") or 1), int(dataset.Rows), int(dataset.Columns)
        if min(frames, rows, columns) < 1:
            raise ScanError(f"{frames} frames of {columns} x {rows} pixels are none")
        is_subsampled = kind == SUBSAMPLED and not dataset.file_meta.TransferSyntaxUID.is_encapsulated
        if is_subsampled and columns % 2:
            raise ScanError(f"{SUBSAMPLED} pixels lie in pairs, and {columns} columns do not")
        by_plane = samples > 1 and dataset.get("PlanarConfiguration") == 1
        return cls(frames, samples, rows, columns, by_plane, is_subsampled)

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return self.frames * self.rows * self.columns * (2 if self.is_subsampled else self.samples)

    @property
    def shape(self) -> tuple[int, ...]:
        """Their shape in the file."""
        if self.by_plane:
            return self.frames, self.samples, self.rows, self.columns
        return self.frames, self.rows, self.columns, self.samples

    def planes(self, numbers: NDArray) -> NDArray:
        """Numbers in the order of the file, as planes (frames, samples, rows, columns); a view where it can be."""
        if self.is_subsampled:
            pairs = numbers.reshape(self.frames, self.rows, self.columns // 2, 4)
            planes = np.empty((self.frames, 3, self.rows, self.columns), numbers.dtype)
            planes[:, 0] = pairs[..., :2].reshape(self.frames, self.rows, self.columns)
            planes[:, 1:] = np.repeat(np.moveaxis(pairs[..., 2:], -1, 1), 2, axis=-1)
            return planes
        if numbers.size != math.prod(self.shape):
            raise ScanError(f"the decoded pixels are of shape {numbers.shape}, unlike what the header says")
        return numbers.reshape(self.shape) if self.by_plane else np.moveaxis(numbers.reshape(self.shape), -1, 1)

    def in_file_order(self, planes: NDArray) -> NDArray:
        """Planes (frames, samples, rows, columns) in the order of the file; the colors of a pair become its own."""
        return planes if self.by_plane else np.moveaxis(planes, 1, -1)

# SPDX-License-Identifier: Apache-2.0
"""Transforms that read scans without loss and bring them to normalized intensity."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_numpy
from monai.utils.enums import TransformBackends
from numpy.typing import NDArray
from torch import Tensor

from monai_unlearnable.data import Grid, LabelGeometry, encode_label, read_label, read_scan
from monai_unlearnable.data.listing.datalist import split_tasks
from monai_unlearnable.data.scan import Scan, check_same_shape
from monai_unlearnable.errors import InputError, NoiseMismatchError
from monai_unlearnable.intensity import StorageQuantization, WindowRule
from monai_unlearnable.utils.enums import CaseKeys, MetaKeys
from monai_unlearnable.utils.pipelines import dictionary_transform

__all__ = ["LoadScan", "LoadScanD", "LoadScanDict", "LoadScand"]
__all__ += ["ScaleToWindow", "ScaleToWindowD", "ScaleToWindowDict", "ScaleToWindowd"]
__all__ += ["EncodeLabel", "EncodeLabelD", "EncodeLabelDict", "EncodeLabeld"]


def class_indices(label: Any) -> NDArray | int | tuple[int, ...]:
    """The label of a case as methods take it.

    Args:
        label: class indices of voxels, (1, spatial...); the class of the whole image; or that of each of its tasks, by
            name or in the sorted order of the names, (tasks,).
    """
    values = np.array(split_tasks(label)[1]) if isinstance(label, Mapping) else to_numpy(label)
    if values.ndim > 1:
        return values
    return int(values.item()) if values.size == 1 else tuple(values.tolist())


def quantization_of(img: Any) -> list[StorageQuantization]:
    """The storage of each channel in the file of an image; its own dtype where the image does not know its file."""
    known = img.meta.get(MetaKeys.QUANTIZATION) if isinstance(img, MetaTensor) else None
    if known is None:
        dtype = to_numpy(img).dtype  # any other would be rounded to it afterwards, beyond the budget, or wrap around
        return [StorageQuantization(dtype.str if dtype.kind in "iuf" else "<f4")] * len(img)
    return [StorageQuantization(**quantization) for quantization in known]


def grid_of(img: Any) -> Grid:
    """Where the voxels of an image lie, (C, spatial...).

    Raises:
        InputError: when it does not know.
    """
    if not isinstance(img, MetaTensor):
        raise InputError("noise for a planned grid needs to know where voxels lie: load the image with its meta data")
    return Grid.of(img.shape[1:], img.affine.cpu().numpy())


def refuse_after_spatial(img: Any) -> None:
    """Refuse an image that was moved already: noise goes before the training transforms, never after.

    Raises:
        NoiseMismatchError: naming the transform.
    """
    done = [*getattr(img, "applied_operations", []), *getattr(img, "pending_operations", [])]
    for operation in done:
        # Only transforms of the grid record the size it had; random ones that did not act say so.
        if "orig_size" in operation and operation.get("do_transforms", True):
            reason = f"{operation.get('class', 'a spatial transform')} was applied before the noise"
            raise NoiseMismatchError(
                f"{reason}; put the noise right after loading", file=img.meta.get("filename_or_obj")
            )


def like(values: NDArray, img: Any) -> Any:
    """``values`` as the type, device and meta data of ``img``."""
    if isinstance(img, np.ndarray):
        return values
    tensor = torch.as_tensor(np.ascontiguousarray(values), device=img.device if isinstance(img, Tensor) else None)
    return MetaTensor(tensor).copy_meta_from(img, copy_attr=True) if isinstance(img, MetaTensor) else tensor


def to_numpy(img: Any) -> NDArray:
    """The values of an image as a numpy array."""
    return np.asarray(convert_to_numpy(img))


class LoadScan(Transform):
    """Read a scan, or several as channels of one image, with this package's readers.

    Unlike ``monai.transforms.LoadImage`` the result is channel-first, and its ``meta`` tells how the file stores voxels
    (:class:`~monai_unlearnable.intensity.StorageQuantization`), which methods that respect the file need. Values that
    are no data, such as NaN, stay as they are: noise is bound to the voxels, bit for bit. :class:`ScaleToWindow` makes
    them 0, so that no network sees them.

    Args:
        dtype: dtype of the returned tensor; float64 where float32 cannot hold the stored values exactly.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, dtype: type = np.float32) -> None:
        self.dtype = dtype

    def __call__(self, path: str | Path | Sequence[str | Path]) -> MetaTensor:
        """Read ``path`` or paths; returns physical values (C, spatial...).

        Raises:
            ScanError: naming the file, when it cannot be read or shapes of several files differ.
        """
        return self.convert(_read(path))

    def convert(self, scans: Sequence[Scan]) -> MetaTensor:
        """Physical values (C, spatial...) of scans that were read.

        Raises:
            ScanError: naming the file, when shapes differ.
        """
        check_same_shape(scans)
        values = torch.as_tensor(np.concatenate([np.ascontiguousarray(scan.physical(self.dtype)) for scan in scans]))
        quantizations = [vars(scan.quantization) for scan in scans for _ in scan.voxels]
        meta = {"filename_or_obj": str(scans[0].path), MetaKeys.QUANTIZATION: quantizations}
        return MetaTensor(values, affine=torch.as_tensor(scans[0].affine), meta=meta)


class LoadScand(MapTransform):
    """Dictionary version of :class:`LoadScan`.

    A label map is read by the rules of labels (:func:`~monai_unlearnable.data.read_label`) on the grid of the images,
    whose key goes before it: its stored values, one channel.

    Args:
        keys: entries that hold a path, or a list of paths.
        dtype: dtype of the returned tensors, see :class:`LoadScan`.
        allow_missing_keys: whether keys may be absent.
        label_key: entry with the path of a label map; None for none.
    """

    backend = LoadScan.backend

    def __init__(
        self,
        keys: KeysCollection,
        dtype: type = np.float32,
        allow_missing_keys: bool = False,
        label_key: str | None = CaseKeys.LABEL,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.load, self.label_key = LoadScan(dtype), label_key

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        d, images = dict(data), list[Scan]()
        for key in self.key_iterator(d):
            if images and key == self.label_key:
                d[key] = self._label(Path(str(d[key])), images)
                continue
            scans = _read(d[key])
            images = images or scans
            d[key] = self.load.convert(scans)
        return d

    def _label(self, path: Path, images: Sequence[Scan]) -> MetaTensor:
        label = read_label(path, images, geometry=LabelGeometry.IGNORE)
        is_exact = label.dtype.itemsize < 4 or np.abs(label).max() <= 2**24  # in float32
        values = torch.as_tensor(label.astype(self.load.dtype if is_exact else np.float64))
        return MetaTensor(values, affine=torch.as_tensor(images[0].affine), meta={"filename_or_obj": str(path)})


def _read(path: Any) -> list[Scan]:
    return [read_scan(part) for part in ([path] if isinstance(path, (str, Path)) else path)]


class ScaleToWindow(Transform):
    """Map physical values to normalized intensity by a window rule, clipped to [0, 1]; no data, such as NaN, become 0.

    Args:
        window: rule for the window of each image.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, window: WindowRule) -> None:
        self.window = window

    def __call__(self, img: Tensor) -> tuple[Tensor, Tensor]:
        """Scale an image (C, spatial...).

        Returns:
            Normalized intensity, and the normalized intensity of one storage step of each channel (0 for float
            storage), (C,).

        Raises:
            WindowError: when a channel is constant.
        """
        units, steps = [], list[float]()
        for channel, quantization in zip(to_numpy(img), quantization_of(img), strict=True):
            nodata = quantization.is_nodata(quantization.to_stored(channel[None]))
            data = np.where(nodata, np.nan, channel[None]) if nodata.any() else channel[None]
            window = self.window(data.astype(np.float64), quantization)
            units.append(window.to_unit(data))
            steps += window.step(quantization)
        return like(np.concatenate(units), img), torch.tensor(steps)


class ScaleToWindowd(MapTransform):
    """Dictionary version of :class:`ScaleToWindow`; the storage steps go to ``step_key``.

    Args:
        keys: images.
        window: rule for the intensity windows, see :class:`ScaleToWindow`.
        step_key: entry for the storage steps of the last key.
        allow_missing_keys: whether keys may be absent.
    """

    backend = ScaleToWindow.backend

    def __init__(
        self, keys: KeysCollection, window: WindowRule, step_key: str = CaseKeys.STEP, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scale, self.step_key = ScaleToWindow(window), step_key

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key], d[self.step_key] = self.scale(d[key])  # type: ignore[arg-type]
        return d


class EncodeLabel(Transform):
    """Turn stored label values into class indices 0, 1, ...; negative values that are no class become background.

    Args:
        values: the stored value of each class, background first.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, values: Sequence[int]) -> None:
        self.values = tuple(values)

    def __call__(self, label: Tensor) -> Tensor:
        """Encode a label (1, spatial...).

        Raises:
            LabelError: when it holds another value that is not a class.
        """
        return like(encode_label(to_numpy(label), self.values), label)


LoadScanD = LoadScanDict = LoadScand
ScaleToWindowD = ScaleToWindowDict = ScaleToWindowd
EncodeLabeld = EncodeLabelD = EncodeLabelDict = dictionary_transform(EncodeLabel)

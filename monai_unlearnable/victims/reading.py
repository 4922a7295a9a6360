# SPDX-License-Identifier: Apache-2.0
"""How an exploiter reads images: as MONAI does, with the slices of a DICOM series in the order of their positions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from monai.config import KeysCollection
from monai.data import ImageReader, MetaTensor
from monai.transforms import LoadImaged, Transform
from monai.utils import ensure_tuple
from numpy.typing import NDArray

from monai_unlearnable.scans import read_scan
from monai_unlearnable.scans.dicom import DicomFormat, is_annotation
from monai_unlearnable.scans.formats import read_label_scan
from monai_unlearnable.scans.scan import Scan

__all__ = ["DicomReader", "load_images"]


class DicomReader(ImageReader):
    """Reads a series or a file with the axes x, y, z of its NIfTI twin, so that label maps lie on it.

    MONAI's own reader takes instance numbers for the order of slices, which is the opposite one in many series.
    """

    def verify_suffix(self, filename: Any) -> bool:
        """Whether all names are folders, or end as DICOM files do."""
        paths = [Path(name) for name in ensure_tuple(filename)]
        return all(path.is_dir() or path.name.lower().endswith(DicomFormat.suffixes) for path in paths)

    def read(self, data: Any, **options: Any) -> list[Scan]:
        """Read a series, or several as channels of one image."""
        return [DicomFormat().read(Path(name)) for name in ensure_tuple(data)]

    def get_data(self, img: Sequence[Scan]) -> tuple[NDArray, dict[str, Any]]:
        """Physical values (C, spatial...), and what MONAI's pipelines want to know of them."""
        affine, shape = img[0].affine, np.asarray(img[0].spatial_shape)
        meta = {"affine": affine, "original_affine": affine, "spatial_shape": shape, "original_channel_dim": 0}
        return np.concatenate([np.ascontiguousarray(scan.physical()) for scan in img]), meta


class LoadImages(Transform):
    """Reads images and label maps, channels first; a label that is a DICOM segmentation on the grid of the image.

    Args:
        keys: of the entries that hold paths, those of images before those of labels.
    """

    def __init__(self, keys: KeysCollection) -> None:
        self.keys = ensure_tuple(keys)
        self.load = {key: _load_image(key) for key in self.keys}

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Read what the keys name; other entries stay."""
        d, image = dict(data), self.keys[0]
        annotations = [key for key in self.keys if isinstance(d[key], (str, Path)) and is_annotation(Path(d[key]))]
        if annotations:
            scans = [read_scan(path) for path in ensure_tuple(d[image])]
            d[image] = _as_tensor(scans)
            d |= {key: _as_tensor([read_label_scan(Path(d[key]), scans)]) for key in annotations}
        for key in self.keys:
            if not isinstance(d[key], MetaTensor):
                d = self.load[key](d)
        return d


def _as_tensor(scans: Sequence[Scan]) -> MetaTensor:
    return cast(MetaTensor, MetaTensor.ensure_torch_and_prune_meta(*DicomReader().get_data(scans)))


def load_images(keys: KeysCollection) -> Transform:
    """The transform that reads images and label maps, channels first."""
    return LoadImages(keys)


def _load_image(key: str) -> LoadImaged:
    with warnings.catch_warnings():
        # MONAI makes all of its readers, one of which looks for a decoder that needs a GPU.
        warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
        load = LoadImaged(key, image_only=True, ensure_channel_first=True)
    load.register(DicomReader())
    return load

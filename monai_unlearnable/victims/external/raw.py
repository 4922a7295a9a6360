# SPDX-License-Identifier: Apache-2.0
"""nnU-Net's raw folder: training and test cases under the names, in the formats and with the labels that it takes."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.utils import convert_to_numpy, ensure_tuple
from numpy.typing import NDArray
from PIL import Image

from monai_unlearnable.countermeasures.base import Sample
from monai_unlearnable.data import LabelGeometry, encode_label, read_label, read_scan
from monai_unlearnable.data.formats import write_scan
from monai_unlearnable.data.scan import Scan, filled_channels
from monai_unlearnable.errors import InputError, LabelError, ScanError
from monai_unlearnable.utils.enums import CaseKeys
from monai_unlearnable.utils.files import reading, write_atomic, write_json
from monai_unlearnable.victims.tasks import Segmentation

__all__ = ["DATASET", "Loading", "RawFolder"]

DATASET = "Dataset001_Victim"
WRITTEN = ".nii.gz"  # what is written where files cannot be given as they are
PICTURE = ".png"
ENDINGS = (WRITTEN, ".mha", ".nrrd", PICTURE)  # of files that nnU-Net reads as we do
PICTURES = (("L", "|u1"), ("RGB", "|u1"), ("I;16", "<u2"))  # modes and storage of such pictures
LEVEL = 1  # of deflate
SKEW = 1e-4  # of two axes: the cosine of the angle between them from which on they are not orthogonal
SKEWED_READER = "NibabelIO"  # of nnU-Net, for volumes whose axes are not orthogonal, which its usual one refuses

Load = Callable[[Sample], dict[str, Any]]


@dataclass(frozen=True)
class Loading:
    """What a countermeasure makes of cases: functions from a case to its changed image in [0, 1] and its label.

    Args:
        training: of training cases.
        test: of test cases; nothing is random.
    """

    training: Load
    test: Load


@dataclass(frozen=True)
class RawFolder:
    """Cases as nnU-Net takes them: ``imagesTr/00000_0000.nii.gz``, ``labelsTr/00000.nii.gz``, ``imagesTs``.

    Files that nnU-Net reads as this package does are linked, so that it trains on the published files themselves.
    Other images (several files or channels, other formats, voxels without data) are written as float32 NIfTI in
    physical values, a file a channel. Labels are written as class indices on the grid of their image.

    Args:
        folder: folder to write to, ``nnUNet_raw``.
        task: task that reads the labels.
        loading: what a countermeasure makes of the cases, which nnU-Net then gets.
        channel_names: names of the channels, which decide on nnU-Net's normalization: ``CT`` for Hounsfield units;
            by default the z-score of each image.
    """

    folder: Path
    task: Segmentation
    loading: Loading | None = None
    channel_names: Sequence[str] = ()

    @property
    def place(self) -> Path:
        """The folder of the dataset; it is complete where it has a ``dataset.json``."""
        return self.folder / DATASET

    def write(self, training: Sequence[Sample], test: Sequence[Sample]) -> None:
        """Write training cases with labels and test cases without.

        Raises:
            UnlearnableError: naming case and file, when one cannot be read or written.
        """
        shutil.rmtree(self.place, ignore_errors=True)
        ending = WRITTEN if self.loading else self._common_ending([*training, *test])
        loads = (None, None) if self.loading is None else (self.loading.training, self.loading.test)
        channels, skewed = 0, False
        for part, cases, load in zip(("Tr", "Ts"), (training, test), loads, strict=True):
            for index, case in enumerate(cases):
                name = self.place / f"images{part}" / f"{index:05d}"
                scans, label, channels = self._image(case, name, ending, load)
                skewed = skewed or _is_skewed(scans[0])
                if part == "Tr":
                    _write_label(self._label(case, scans, label), scans[0], self._labels / f"{index:05d}{ending}")
        names = self.channel_names or [f"image {channel}" for channel in range(channels)]
        if len(names) != channels:
            raise InputError(f"{len(names)} channel_names for images of {channels} channel(s)", value=len(names))
        content = {
            "channel_names": {str(channel): name for channel, name in enumerate(names)},
            "labels": {"background": 0, **{f"class {index}": index for index in range(1, self.task.classes)}},
            "numTraining": len(training),
            "file_ending": ending,
            **({"overwrite_image_reader_writer": SKEWED_READER} if skewed and ending == WRITTEN else {}),
        }
        write_json(self.place / "dataset.json", content)

    @property
    def _labels(self) -> Path:
        return self.place / "labelsTr"

    def _common_ending(self, cases: Sequence[Sample]) -> str:
        """The file ending of all images where nnU-Net reads it, else ``.nii.gz``."""
        paths = [Path(path) for case in cases for path in ensure_tuple(case["image"])]
        endings = (ending for ending in ENDINGS if all(path.name.lower().endswith(ending) for path in paths))
        ending = next(endings, WRITTEN)
        others = ending != WRITTEN and not all(self._is_taken_as_it_is([read_scan(path)], ending) for path in paths)
        return WRITTEN if others else ending

    def _is_taken_as_it_is(self, scans: Sequence[Scan], ending: str) -> bool:
        """Whether nnU-Net reads the file of a scan with the same channels, grid and values as this package."""
        scan = scans[0]
        channels, storage = len(scan.voxels), scan.quantization
        if len(scans) > 1 or not (scan.path.is_file() and scan.path.name.lower().endswith(ending)):
            return False
        if self.task.channels not in (None, channels):
            return False
        if ending == PICTURE:
            with Image.open(scan.path) as picture:
                return (picture.mode, storage.dtype) in PICTURES
        # Labels are written as the image with other numbers, but for NIfTI, where a slope does not matter.
        is_plain = ending == WRITTEN or (storage.slope, storage.inter) == (1, 0)
        return channels == 1 and len(scan.spatial_shape) == 3 and is_plain and not scan.nodata.any()

    def _image(
        self, case: Sample, name: Path, ending: str, load: Load | None
    ) -> tuple[list[Scan], NDArray | None, int]:
        """Link or write an image; its scans, its label where that is known already, and the number of channels."""
        scans = [read_scan(path) for path in ensure_tuple(case["image"])]
        name.parent.mkdir(parents=True, exist_ok=True)
        if load is None and self._is_taken_as_it_is(scans, ending):
            with reading(scans[0].path):
                name.with_name(f"{name.name}_0000{ending}").symlink_to(scans[0].path.resolve())
            return scans, None, len(scans[0].voxels)
        if load is None:
            image, label = filled_channels(scans, self.task.channels), None
        else:
            sample = load(case)
            image, label = (np.asarray(convert_to_numpy(sample[key])) for key in ("image", "label"))
            if image.shape[1:] != scans[0].spatial_shape:
                reason = f"the countermeasure makes an image of {image.shape[1:]} from one of {scans[0].spatial_shape}"
                raise ScanError(reason, case=case.get(CaseKeys.CASE_ID), file=scans[0].path)
        for index, channel in enumerate(image):
            _write_nifti(channel.astype(np.float32), scans[0], name.with_name(f"{name.name}_{index:04d}{WRITTEN}"))
        return scans, label, len(image)

    def _label(self, case: Sample, scans: Sequence[Scan], label: NDArray | None) -> NDArray:
        """Class indices (spatial...) of a training case."""
        path, name = Path(case["label"]), case.get(CaseKeys.CASE_ID)
        if label is None:
            stored = read_label(path, scans, name, LabelGeometry.IGNORE)
            label = encode_label(stored, self.task.label_values, name, path)
        if label.shape[1:] != scans[0].spatial_shape or len(label) != 1 or (label != np.rint(label)).any():
            raise LabelError("the countermeasure leaves a label that is no map of classes", case=name, file=path)
        return label[0]


def _is_skewed(image: Scan) -> bool:
    """Whether a volume has axes that are not orthogonal."""
    if len(image.spatial_shape) < 3:
        return False
    axes = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > SKEW)


def _write_label(label: NDArray, image: Scan, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(WRITTEN):
        _write_nifti(label.astype(np.uint8 if label.max() < 256 else np.uint16), image, path)
    elif path.name.endswith(PICTURE):
        Image.fromarray(label.T.astype(np.uint8 if label.max() < 256 else np.uint16)).save(path)
    else:
        write_scan(image, label[None].astype(image.voxels.dtype), path)


def _write_nifti(array: NDArray, image: Scan, path: Path) -> None:
    """Write (spatial...) on the grid of an image."""
    content = nib.Nifti1Image(array, image.affine).to_bytes()
    write_atomic(path, gzip.compress(content, LEVEL, mtime=0))

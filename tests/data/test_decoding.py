# SPDX-License-Identifier: Apache-2.0
"""The decoder in a process of its own, and folders of series that hold other things."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from pydicom.uid import JPEGLosslessSV1

from monai_unlearnable.data import load_cases, read_scan
from monai_unlearnable.data.dicom import decoding
from monai_unlearnable.errors import DatalistError, ScanError
from tests import dicom
from tests.helpers import random_image, two_classes


def test_an_interrupted_decoder_never_answers_for_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [random_image((40, 30), "uint16", seed) for seed in range(3)]
    paths = [
        dicom.save(dicom.make_slice(image.T), tmp_path / f"{number}.dcm", JPEGLosslessSV1)
        for number, image in enumerate(images)
    ]
    receive, calls = decoding._receive, iter(range(100))

    def interrupted(stream: IO[bytes]) -> bytes | None:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return receive(stream)

    monkeypatch.setattr(decoding, "_receive", interrupted)
    assert np.array_equal(read_scan(paths[0]).voxels[0], images[0])
    with pytest.raises(KeyboardInterrupt):
        read_scan(paths[1])
    for path, image in zip(paths, images, strict=True):
        assert np.array_equal(read_scan(path).voxels[0], image)


def test_a_decoder_that_is_gone_is_started_again_and_threads_do_not_mix(tmp_path: Path) -> None:
    images = [random_image((40, 30), "uint16", seed) for seed in range(6)]
    paths = [
        dicom.save(dicom.make_slice(image.T), tmp_path / f"{number}.dcm", JPEGLosslessSV1)
        for number, image in enumerate(images)
    ]
    read_scan(paths[0])
    process = decoding._children[os.getpid()].process
    assert process is not None
    process.kill()
    process.wait()
    with ThreadPoolExecutor(4) as pool:
        for scan, image in zip(pool.map(read_scan, paths), images, strict=True):
            assert np.array_equal(scan.voxels[0], image)


def test_a_decoder_that_comes_to_no_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = random_image((40, 30), "uint16")
    path = dicom.save(dicom.make_slice(image.T), tmp_path / "a.dcm", JPEGLosslessSV1)
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "_children", {})
        patch.setattr(decoding, "LIMIT", 0.5)
        patch.setattr(decoding, "SERVE", "all(iter(lambda: True, None))")
        with pytest.raises(ScanError, match=r"a\.dcm: the compressed pixels cannot be decoded: no end after 0\.5 s"):
            read_scan(path)
        assert decoding._children[os.getpid()].process is None
    assert np.array_equal(read_scan(path).voxels[0], image)


@pytest.mark.parametrize("entry", [{"image": "p", "label": "p/label.nii.gz"}, {"image": "."}])
def test_nothing_lies_inside_the_folder_of_a_series(tmp_path: Path, entry: dict[str, str]) -> None:
    image = random_image((8, 7, 6), "int16")
    series = dicom.write_series(tmp_path / "p", image)
    dicom.write_label(series, tmp_path / "label.nii.gz", two_classes((8, 7, 6)))
    (tmp_path / "label.nii.gz").rename(series / "label.nii.gz")
    (tmp_path / "datalist.json").write_text(json.dumps({"training": [entry]}))
    with pytest.raises(DatalistError, match="give each one of its own"):
        load_cases(tmp_path, require_labels=False)

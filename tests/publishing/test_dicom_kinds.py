# SPDX-License-Identifier: Apache-2.0
"""DICOM of every kind that departments have through protection, verification and restoration: all bytes come back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from monai_unlearnable.data import read_scan
from monai_unlearnable.data.dicom import volumes
from monai_unlearnable.errors import VerificationError
from monai_unlearnable.masks import Everywhere
from monai_unlearnable.noise import NoiseStore
from monai_unlearnable.perturbers import RandomNoise
from monai_unlearnable.publishing.restore import restore
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.utils.files import read_content
from tests import dicom
from tests.contract.test_readers import FILES
from tests.helpers import BUDGET, protect, random_image, tree, write_datalist

NOISE = RandomNoise(BUDGET.epsilon, Everywhere())
KINDS = (
    *("rescale-by-slice", "padding-by-slice", "bits-by-slice", "odd-unpadded", "odd-more", "without-preamble"),
    *("without-meta", "deflated", "enhanced", "enhanced-rescale", "enhanced-times", "enhanced-JPEGLSLossless"),
    *("color", "color-by-plane", "color-pairs", "color-loop", "color-jpeg", "JPEGLosslessSV1", "JPEG2000"),
)


def dataset(root: Path, write: Callable[[Path], Path]) -> Path:
    """Two classes with one image each."""
    paths = []
    for name in ("healthy", "ill"):
        (root / name).mkdir(parents=True)
        paths.append(write(root / name).relative_to(root).as_posix())
    write_datalist(root, [{"image": path, "label": label} for label, path in enumerate(paths)])
    return root


@pytest.mark.parametrize("kind", KINDS)
def test_all_bytes_come_back(kind: str, tmp_path: Path) -> None:
    clean = dataset(tmp_path / "clean", FILES[f"dicom-{kind}"])
    manifest = protect(clean, tmp_path / "out", NOISE)
    for entry in manifest.scans:
        before, after = (read_scan(folder / entry.file) for folder in (clean, tmp_path / "out/protected"))
        assert (before.voxels != after.voxels).any() and before.quantization == after.quantization
        assert np.array_equal(before.quantization.is_nodata(before.voxels), after.quantization.is_nodata(after.voxels))
    verify(tmp_path / "out", clean)
    restore(tmp_path / "out", tmp_path / "back")
    for entry in manifest.scans:
        assert read_content(tmp_path / "back" / entry.file) == read_content(clean / entry.file)


def test_noise_keeps_to_the_budget_of_each_slice(tmp_path: Path) -> None:
    def scale(index: int, ds: Dataset) -> None:
        ds.RescaleSlope = f"{4.0**index}"

    def write(folder: Path) -> Path:
        voxels = (random_image((9, 8, 3), "int16") // 4.0 ** np.arange(3)).astype(np.int16)
        return dicom.write_series(folder / "series", voxels, change=scale)

    clean = dataset(tmp_path / "clean", write)
    (entry, _) = protect(clean, tmp_path / "out", NOISE).scans
    before, after = (read_scan(folder / entry.file) for folder in (clean, tmp_path / "out/protected"))
    change = np.abs(after.physical(np.float64) - before.physical(np.float64)).max(axis=(0, 1, 2))
    assert (change <= BUDGET.epsilon * float(entry.window.width(1)[0]) + 1e-6).all() and change[0] > 0


def test_an_original_that_would_not_come_back_is_found_by_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = dataset(tmp_path / "clean", FILES["dicom-enhanced"])
    protect(clean, tmp_path / "out", NOISE)
    headers = NoiseStore.headers

    def damaged(store: NoiseStore, scan_id: str) -> bytes:
        content = bytearray(headers(store, scan_id))
        content[-3] ^= 1
        return bytes(content)

    monkeypatch.setattr(NoiseStore, "headers", damaged)
    with pytest.raises(VerificationError, match=r"scan\.dcm does not come back as it was|pixels"):
        verify(tmp_path / "out")


def test_volumes_of_one_folder_are_cases_of_their_own(tmp_path: Path) -> None:
    for number, name in enumerate("ab", start=1):

        def own(index: int, ds: Dataset, number: int = number) -> None:
            ds.SOPInstanceUID = f"1.2.9.{number}.{index}"
            ds.SeriesInstanceUID, ds.SeriesNumber = f"1.2.8.{number}", number

        names = [f"{name}{index}" for index in range(4)]
        dicom.write_series(tmp_path / "clean/study", random_image((6, 5, 4), "int16", number), names=names, change=own)
    found = [volume.path.relative_to(tmp_path / "clean").as_posix() for volume in volumes(tmp_path / "clean/study")]
    assert found == ["study/series1", "study/series2"]
    write_datalist(tmp_path / "clean", [{"image": image, "label": index} for index, image in enumerate(found)])
    protect(tmp_path / "clean", tmp_path / "out", NOISE)
    assert sorted(tree(tmp_path / "out/protected/study/series2")) == ["b0", "b1", "b2", "b3"]
    verify(tmp_path / "out", tmp_path / "clean")
    restore(tmp_path / "out", tmp_path / "back")
    for name in ("series1/a0", "series2/b3"):
        assert (tmp_path / "back/study" / name).read_bytes() == (tmp_path / "clean/study" / name[-2:]).read_bytes()


def test_outputs_of_the_release_before_are_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its headers begin with a length, have no digests, and no whole files: compressed pixels are compressed anew."""
    from monai_unlearnable.data.dicom import format as module

    def headers(self: object, scan: module.Scan) -> bytes:
        parts = []
        for file in scan.container.files:
            stop = file.stop - 8 * file.syntax.is_encapsulated  # before the mark of the end
            head, tail = file.content[: file.start], file.content[stop:]
            parts += [module.struct.pack("<3Q", len(head), stop - file.start, len(tail)), head, tail]
        return b"".join(parts)

    clean = dicom.write_dataset(tmp_path / "clean")
    with monkeypatch.context() as patch:
        patch.setattr(module.DicomFormat, "headers", headers)
        protect(clean, tmp_path / "out", NOISE)
    verify(tmp_path / "out", clean)
    restore(tmp_path / "out", tmp_path / "back")
    shutil.rmtree(tmp_path / "back/labels")
    for name, content in tree(tmp_path / "back/images").items():
        assert content == tree(clean / "images")[name]
    assert dcmread(tmp_path / "back/images/b/001.dcm").file_meta.TransferSyntaxUID == dicom.LOSSLESS[0]

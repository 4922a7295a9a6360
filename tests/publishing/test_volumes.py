# SPDX-License-Identifier: Apache-2.0
"""Volumes in files side by side, and of other programs' formats, from protection to the originals again."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from monai_unlearnable.data import list_dataset, load_cases, output_name, read_scan
from monai_unlearnable.errors import DatalistError, OutputError, VerificationError
from monai_unlearnable.evaluation.sources import refuse_overlap
from monai_unlearnable.masks import Everywhere
from monai_unlearnable.perturbers import RandomNoise
from monai_unlearnable.publishing.restore import apply_stored, restore
from monai_unlearnable.publishing.statement import audit
from monai_unlearnable.publishing.verify import verify
from tests.contract.test_readers import FILES
from tests.helpers import SHAPES, protect, random_image, tree, two_classes, write_datalist

SUFFIXES = (".mhd", ".nhdr", ".hdr", ".mha", ".nrrd", ".mgz")
DATA = {".mhd": ".raw", ".nhdr": ".raw", ".hdr": ".img"}


def write(path: Path, voxels: np.ndarray) -> None:
    """A volume in any of the formats, as other programs write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mgz":
        nib.MGHImage(voxels, np.diag([1, 2, 3, 1.0])).to_filename(path)
    elif path.suffix == ".hdr":
        nib.Nifti1Pair(voxels, np.diag([1, 2, 3, 1.0])).to_filename(path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(voxels.T), str(path))


def write_volumes(root: Path, suffix: str, names: tuple[str, ...] = ("a", "b")) -> Path:
    for seed, name in enumerate(names):
        write(root / "images" / f"{name}{suffix}", random_image(SHAPES[3], "int16", seed))
        write(root / "labels" / f"{name}{suffix}", two_classes(SHAPES[3]))
    return root


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_all_files_of_volumes_are_published_checked_and_restored(suffix: str, tmp_path: Path) -> None:
    data, out = write_volumes(tmp_path / "data", suffix), tmp_path / "out"
    before = tree(data)
    assert not list_dataset(data).passed_over
    protect(data, out, RandomNoise(0.1))
    assert tree(data) == before and set(tree(out / "protected")) == {*before, "datalist.json"}
    verify(out, clean=data)
    assert not audit(out / "protected", out / "statement.json").findings
    restore(out, tmp_path / "back")
    back = tree(tmp_path / "back")
    del back["datalist.json"]
    assert {name: opened(content) for name, content in back.items()} == {
        name: opened(content) for name, content in before.items()
    }
    again = apply_stored(out / "noise", data, tmp_path / "again")
    assert [entry.output_sha256 for entry in again.scans] == [entry.output_sha256 for entry in verify(out).scans]


@pytest.mark.parametrize(
    "kind",
    [
        *("nifti-int64", "nifti-uint64", "nifti-rgb", "nifti-rgba", "nifti-gz-suffix-upper", "nifti-6d", "mha-vector"),
        *("mha-4d", "mhd-list", "mhd-end", "nrrd-list-first", "nhdr-list", "gipl-i2", "mgz-frames", "bmp-rgb", "webp"),
        *("png-deep-rgb", "png-deep-rgba", "tiff-big-int16", "tiff-little-int8", "tiff-tiles", "tiff-planes"),
    ],
)
def test_files_of_every_kind_go_the_whole_way(kind: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path, out = FILES[kind](tmp_path / "data"), tmp_path / "out"
    write_datalist(tmp_path / "data", [{"image": path.name, "label": 0}])
    before = tree(tmp_path / "data")
    protect(tmp_path / "data", out, RandomNoise(0.1, Everywhere()))
    verify(out, clean=tmp_path / "data")
    assert not audit(out / "protected", out / "statement.json").findings
    original, protected = read_scan(path), read_scan(out / "protected" / output_name(path.name))
    assert protected.digest() != original.digest()
    assert np.array_equal(protected.affine, original.affine) and protected.quantization == original.quantization
    restore(out, tmp_path / "back")
    assert read_scan(tmp_path / "back" / output_name(path.name)).digest() == original.digest()
    back = tree(tmp_path / "back")
    if kind.startswith(("nifti", "mhd", "gipl")):
        assert {name: opened(content) for name, content in back.items() if name != "datalist.json"} == {
            name: opened(content) for name, content in before.items() if name != "datalist.json"
        }


def opened(content: bytes) -> bytes:
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


@pytest.mark.parametrize("suffix", DATA)
def test_a_changed_data_file_is_found(suffix: str, tmp_path: Path) -> None:
    data, out = write_volumes(tmp_path / "data", suffix), tmp_path / "out"
    protect(data, out, RandomNoise(0.1))
    for folder in ("images", "labels"):
        changed = out / "protected" / folder / f"b{DATA[suffix]}"
        content = bytearray(changed.read_bytes())
        content[-1] ^= 1
        changed.write_bytes(content)
        with pytest.raises(VerificationError, match=f"{folder}/b"):
            verify(out)
        findings = audit(out / "protected", out / "statement.json").findings
        assert [(str(finding.file), finding.what) for finding in findings] == [(f"{folder}/b{suffix}", "changed")]
        content[-1] ^= 1
        changed.write_bytes(content)
    (out / "protected/images/other.raw").write_bytes(b"an original, say")
    assert [finding.what for finding in audit(out / "protected", out / "statement.json").findings] == ["extra"]
    with pytest.raises(VerificationError, match=r"other\.raw: is not in the manifest"):
        verify(out)


@pytest.mark.parametrize("suffix", DATA)
def test_data_files_are_not_replaced_unasked(suffix: str, tmp_path: Path) -> None:
    data, out = write_volumes(tmp_path / "data", suffix), tmp_path / "out"
    protect(data, out, RandomNoise(0.1))
    (tmp_path / "back/images").mkdir(parents=True)
    (tmp_path / f"back/images/a{DATA[suffix]}").write_bytes(b"precious")
    with pytest.raises(OutputError, match=f"a\\{DATA[suffix]}: the file exists already"):
        restore(out, tmp_path / "back")


def test_cases_that_share_a_data_file_are_refused(tmp_path: Path) -> None:
    data = write_volumes(tmp_path / "data", ".mhd")
    header = (data / "images/b.mhd").read_text()
    (data / "images/b.mhd").write_text(header.replace("b.raw", "a.raw"))
    with pytest.raises(DatalistError, match=r"images/a\.mhd and images/b\.mhd .* images/a\.raw"):
        load_cases(data)


def test_overlap_is_told_by_voxels_and_not_by_headers(tmp_path: Path) -> None:
    training = load_cases(write_volumes(tmp_path / "training", ".mhd"))
    other = tmp_path / "test"
    write(other / "images/a.mhd", random_image(SHAPES[3], "int16", 7))
    write(other / "labels/a.mhd", two_classes(SHAPES[3]))
    assert (other / "images/a.mhd").read_bytes() == (tmp_path / "training/images/a.mhd").read_bytes()
    refuse_overlap(training, load_cases(other))
    write(other / "images/a.mhd", random_image(SHAPES[3], "int16", 0))
    with pytest.raises(DatalistError, match="in the training data and in the test data"):
        refuse_overlap(training, load_cases(other))

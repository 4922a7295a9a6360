# SPDX-License-Identifier: Apache-2.0
"""Stored noise goes onto the scans it was made for, and onto no others."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from monai_unlearnable.data import load_cases, read_scan
from monai_unlearnable.errors import (
    NoiseError,
    NoiseMismatchError,
    OutputError,
    ScanError,
    UnlearnableError,
    VerificationError,
)
from monai_unlearnable.intensity import DtypeWindow
from monai_unlearnable.publishing.restore import apply_stored, restore
from monai_unlearnable.publishing.verify import verify
from tests.helpers import (
    flip_byte,
    protect,
    random_image,
    raw_bytes,
    small_umed,
    stored_voxels,
    tree,
    two_classes,
    write_datalist,
)


@pytest.fixture
def clean(published: SimpleNamespace, tmp_path: Path) -> Path:
    """A copy of the clean dataset, to be spoiled."""
    return shutil.copytree(published.clean, tmp_path / "copy")


@pytest.fixture
def out(published: SimpleNamespace, tmp_path: Path) -> Path:
    """A copy of the output, to be spoiled."""
    return shutil.copytree(published.out, tmp_path / "published")


def spoil(root: Path, kind: str) -> None:
    image, label = root / "images/b.nii.gz", root / "labels/b.nii.gz"
    if kind == "voxel":
        flip_byte(image, 500)
    elif kind == "swapped":
        shutil.copy(root / "images/a.nii.gz", image)
    elif kind == "image gone":
        image.unlink()
    elif kind == "image truncated":
        image.write_bytes(image.read_bytes()[:-30])
    elif kind == "label":
        flip_byte(label, 700)
    elif kind == "label gone":
        label.unlink()


SPOILT = {
    "voxel": NoiseMismatchError,
    "swapped": NoiseMismatchError,
    "image gone": ScanError,
    "image truncated": ScanError,
    "label": VerificationError,
    "label gone": UnlearnableError,
}


@pytest.mark.parametrize("kind", SPOILT)
def test_apply_refuses_other_data(published: SimpleNamespace, clean: Path, tmp_path: Path, kind: str) -> None:
    spoil(clean, kind)
    with pytest.raises(SPOILT[kind], match="b") as caught:
        apply_stored(published.out / "noise", clean, tmp_path / "again")
    assert caught.value.case == "images/b" or caught.value.file.name == "b.nii.gz"
    left = tree(tmp_path / "again")
    assert "protected/images/b.nii.gz" not in left and not [name for name in left if name.endswith(".part")]
    assert not (tmp_path / "again/noise/manifest.json").exists()


@pytest.mark.parametrize("kind", SPOILT)
def test_restore_refuses_changed_data(out: Path, tmp_path: Path, kind: str) -> None:
    spoil(out / "protected", kind)
    with pytest.raises(SPOILT[kind], match="1 of 2 cases are restored") as caught:
        restore(out, tmp_path / "back")
    assert caught.value.file.name == "b.nii.gz"
    assert "images/b.nii.gz" not in tree(tmp_path / "back")


@pytest.mark.parametrize("spoilt", ["a", "b"])
def test_restore_gives_back_the_other_cases(published: SimpleNamespace, out: Path, tmp_path: Path, spoilt: str) -> None:
    flip_byte(out / f"protected/images/{spoilt}.nii.gz", 500)
    with pytest.raises(NoiseMismatchError, match="verify tells what is wrong with the others"):
        restore(out, tmp_path / "back")
    (case,) = load_cases(tmp_path / "back")
    assert {case.case_id, f"images/{spoilt}"} == {"images/a", "images/b"}
    restored, original = (
        read_scan(folder / case.images[0]).digest() for folder in (tmp_path / "back", published.clean)
    )
    assert restored == original
    shutil.copytree(published.out, out, dirs_exist_ok=True)
    restore(out, tmp_path / "back", overwrite=True)  # once it is mended
    assert len(load_cases(tmp_path / "back")) == 2


def test_apply_in_place_writes_the_protected_files_again(published: SimpleNamespace, out: Path) -> None:
    shutil.rmtree(out / "protected")
    apply_stored(out / "noise", published.clean, out)
    assert tree(out) == tree(published.out)


@pytest.mark.parametrize("place", ["elsewhere", "in place"])
def test_apply_records_the_files_that_it_writes(
    published: SimpleNamespace, clean: Path, out: Path, tmp_path: Path, place: str
) -> None:
    flip_byte(clean / "images/b.nii.gz", 148)  # another description in the header, the same voxels
    again = out if place == "in place" else tmp_path / "again"
    apply_stored(out / "noise", clean, again)
    assert verify(again, clean).scans[0] == published.manifest.scans[0]
    assert raw_bytes(again / "protected/images/b.nii.gz")[148] == raw_bytes(clean / "images/b.nii.gz")[148]


def test_apply_does_not_overwrite_unless_asked(published: SimpleNamespace, out: Path) -> None:
    before = tree(out)
    with pytest.raises(OutputError, match="exists already"):
        apply_stored(published.out / "noise", published.clean, out)
    assert tree(out) == before
    apply_stored(published.out / "noise", published.clean, out, overwrite=True)
    assert tree(out) == before


def test_apply_spares_the_originals(published: SimpleNamespace, tmp_path: Path) -> None:
    clean = tmp_path / "x/protected"
    shutil.copytree(published.clean, clean)
    before = tree(clean)
    with pytest.raises(OutputError, match="inside the dataset"):
        apply_stored(published.out / "noise", clean, tmp_path / "x")
    assert tree(clean) == before


@pytest.mark.parametrize("kind", ["swapped", "cut", "gone"])
@pytest.mark.parametrize("way", ["apply", "restore", "verify"])
def test_noise_that_was_tampered_with(
    published: SimpleNamespace, out: Path, tmp_path: Path, kind: str, way: str
) -> None:
    noise = out / "noise/images/b.npz"
    if kind == "swapped":
        shutil.copy(out / "noise/images/a.npz", noise)
    elif kind == "cut":
        noise.write_bytes(noise.read_bytes()[:-20])
    else:
        noise.unlink()
    call = {
        "apply": lambda: apply_stored(out / "noise", published.clean, tmp_path / "again"),
        "restore": lambda: restore(out, tmp_path / "again"),
        "verify": lambda: verify(out),
    }[way]
    expected = NoiseMismatchError if kind == "swapped" else NoiseError
    if way == "verify":
        expected = VerificationError
    with pytest.raises(expected, match="images/b|images/a") as caught:
        call()
    assert kind == "swapped" or caught.value.file == noise
    assert not list(tmp_path.glob("again/**/images/b.nii.gz"))


def test_restore_does_not_overwrite_unless_asked(published: SimpleNamespace, tmp_path: Path) -> None:
    restore(published.out, tmp_path)
    before = tree(tmp_path)
    with pytest.raises(OutputError, match=r"a\.nii\.gz: the file exists already"):
        restore(published.out, tmp_path)
    restore(published.out, tmp_path, overwrite=True)
    assert tree(tmp_path) == before


def test_missing_outputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(NoiseError, match=r"manifest\.json"):
        restore(tmp_path, tmp_path / "back")
    with pytest.raises(NoiseError, match=r"manifest\.json"):
        apply_stored(tmp_path / "noise", tmp_path, tmp_path / "out")
    assert tree(tmp_path) == {}


def test_jpeg_becomes_png_and_comes_back_as_png(tmp_path: Path) -> None:
    clean, shape = tmp_path / "clean", (32, 24)
    clean.mkdir()
    Image.fromarray(random_image(shape, "uint8").T).save(clean / "x.jpg", quality=95)
    Image.fromarray(two_classes(shape).T).save(clean / "seg.png")
    write_datalist(clean, [{"image": "x.jpg", "label": "seg.png"}])
    protect(clean, tmp_path / "out", small_umed(2), DtypeWindow())
    assert sorted(tree(tmp_path / "out/protected")) == ["datalist.json", "seg.png", "x.png"]
    verify(tmp_path / "out", clean)
    restore(tmp_path / "out", tmp_path / "back")
    assert np.array_equal(stored_voxels(tmp_path / "back/x.png"), stored_voxels(clean / "x.jpg"))
    assert not np.array_equal(stored_voxels(tmp_path / "out/protected/x.png"), stored_voxels(clean / "x.jpg"))

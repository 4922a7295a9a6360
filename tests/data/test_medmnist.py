# SPDX-License-Identifier: Apache-2.0
"""MedMNIST archives become datasets of files and archives again, without a changed number."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from monai_unlearnable.data import load_cases, pack_archive, unpack_archive
from monai_unlearnable.errors import DatalistError, OutputError, ScanError
from tests.helpers import stored_voxels, tree, write_nifti

SHAPES = {"gray": (7, 5), "color": (7, 5, 3), "volume": (6, 7, 5)}
COUNTS = {"train": 3, "val": 1, "test": 2}


def arrays(kind: str = "gray", flat_labels: bool = False) -> dict[str, NDArray]:
    rng = np.random.default_rng(0)
    content: dict[str, NDArray] = {}
    for split, count in COUNTS.items():
        content[f"{split}_images"] = rng.integers(0, 256, (count, *SHAPES[kind]), "uint8")
        content[f"{split}_labels"] = rng.integers(0, 4, count if flat_labels else (count, 1), "uint8")
    return content


def write_archive(path: Path, content: dict[str, Any], compressed: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (np.savez_compressed if compressed else np.savez)(path, **content)
    return path


def read_archive(path: Path) -> dict[str, NDArray]:
    with np.load(path) as content:
        return {name: content[name] for name in content.files}


def assert_equal_archives(first: Path, second: Path) -> None:
    one, two = read_archive(first), read_archive(second)
    assert list(one) == list(two)
    for name, array in one.items():
        assert array.dtype == two[name].dtype and np.array_equal(array, two[name]), name


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("flat_labels", [False, True])
def test_images_become_files_with_their_classes(tmp_path: Path, kind: str, flat_labels: bool) -> None:
    content = arrays(kind, flat_labels)
    folder = unpack_archive(write_archive(tmp_path / "x.npz", content), tmp_path / "folder")
    suffix = ".nii.gz" if kind == "volume" else ".png"
    for split, section in (("train", "training"), ("val", "validation"), ("test", "test")):
        cases = load_cases(folder, section=section)
        assert [case.target for case in cases] == content[f"{split}_labels"].ravel().tolist()
        for index, case in enumerate(cases):
            assert case.images == (f"{split}/{index:05d}{suffix}",)
            assert np.array_equal(stored_voxels(folder / case.images[0]), content[f"{split}_images"][index])
    assert len(tree(folder)) == sum(COUNTS.values()) + 1


def test_volumes_have_the_identity_for_affine(tmp_path: Path) -> None:
    unpack_archive(write_archive(tmp_path / "x.npz", arrays("volume")), tmp_path)
    image = nib.load(tmp_path / "train/00000.nii.gz")
    assert image.shape == SHAPES["volume"] and np.array_equal(image.affine, np.eye(4))


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("compressed", [True, False])
def test_there_and_back(tmp_path: Path, kind: str, compressed: bool) -> None:
    content = {"note": np.array("kept"), **dict(reversed(arrays(kind).items()))}
    archive = write_archive(tmp_path / "x.npz", content, compressed)
    folder = unpack_archive(archive, tmp_path / "folder")
    packed = pack_archive(archive, folder, tmp_path / "y.npz")
    assert_equal_archives(packed, archive)
    methods = {member.compress_type for member in zipfile.ZipFile(packed).infolist()}
    assert methods == {zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED}
    again = pack_archive(archive, folder, tmp_path / "later" / "z.npz")
    assert again.read_bytes() == packed.read_bytes()


@pytest.mark.parametrize("kind", SHAPES)
def test_images_of_the_folder_take_their_places(tmp_path: Path, kind: str) -> None:
    content, rng = arrays(kind), np.random.default_rng(1)
    archive = write_archive(tmp_path / "x.npz", content)
    before = archive.read_bytes()
    image = rng.integers(0, 256, SHAPES[kind], "uint8")
    if kind == "volume":
        write_nifti(tmp_path / "other/train/00001.nii.gz", image)
    else:
        (tmp_path / "other/train").mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "other/train/00001.png")
    packed = read_archive(pack_archive(archive, tmp_path / "other", tmp_path / "y.npz"))
    content["train_images"][1] = image
    assert all(np.array_equal(packed[name], array) for name, array in content.items())
    assert archive.read_bytes() == before


def test_arrays_in_another_memory_order(tmp_path: Path) -> None:
    content = {name: np.asfortranarray(array) for name, array in arrays("color").items()}
    archive = write_archive(tmp_path / "x.npz", content)
    folder = unpack_archive(archive, tmp_path / "folder")
    assert_equal_archives(pack_archive(archive, folder, tmp_path / "y.npz"), archive)


def test_archives_without_validation_or_test(tmp_path: Path) -> None:
    content = {name: array for name, array in arrays().items() if name.startswith("train")}
    folder = unpack_archive(write_archive(tmp_path / "x.npz", content), tmp_path / "folder")
    assert len(load_cases(folder)) == COUNTS["train"]


def test_a_stopped_unpacking_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_archive(tmp_path / "x.npz", arrays())
    complete, calls, replace = tree(unpack_archive(archive, tmp_path / "whole")), iter(range(100)), os.replace

    def stopping(*paths: Any) -> None:
        if next(calls) == 4:
            raise KeyboardInterrupt
        replace(*paths)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", stopping)
        unpack_archive(archive, tmp_path / "folder")
    assert len(tree(tmp_path / "folder")) == 4 and not (tmp_path / "folder/datalist.json").exists()
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "folder").rglob("*.png")}
    assert tree(unpack_archive(archive, tmp_path / "folder")) == complete
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())


@pytest.mark.parametrize("name", ["train/00001.png", "datalist.json"])
def test_other_files_are_not_replaced_unless_asked(tmp_path: Path, name: str) -> None:
    archive = write_archive(tmp_path / "x.npz", arrays())
    complete, folder = tree(unpack_archive(archive, tmp_path / "whole")), tmp_path / "folder"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_bytes(b"mine")
    with pytest.raises(OutputError, match=f"{name}: a file with other content exists") as caught:
        unpack_archive(archive, folder)
    assert caught.value.file == folder / name and (folder / name).read_bytes() == b"mine"
    assert tree(unpack_archive(archive, folder, overwrite=True)) == complete


def test_no_member_of_an_archive_is_written_elsewhere(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "x.npz", arrays())
    with zipfile.ZipFile(archive, "a") as content:
        for name in ("../evil.npy", "/evil.npy", "../evil_images.npy"):
            content.writestr(name, b"evil")
    folder = unpack_archive(archive, tmp_path / "a/b/folder")
    pack_archive(archive, folder, tmp_path / "a/b/packed.npz")
    assert not [name for name in tree(tmp_path) if "evil" in name] and not Path("/evil.npy").exists()


def test_what_is_packed_replaces_nothing_unless_asked(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "x.npz", arrays())
    folder, target, before = unpack_archive(archive, tmp_path / "folder"), tmp_path / "y.npz", archive.read_bytes()
    target.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"y\.npz: a file with other content exists"):
        pack_archive(archive, folder, target)
    assert pack_archive(archive, folder, target, overwrite=True) == target
    (tmp_path / "link.npz").symlink_to(archive)
    for same in (archive, tmp_path / "folder" / ".." / "x.npz", tmp_path / "link.npz"):
        with pytest.raises(OutputError, match="would replace the original"):
            pack_archive(archive, folder, same, overwrite=True)
    assert archive.read_bytes() == before


BAD: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no images": (lambda c: [c.pop(f"{split}_images") for split in COUNTS], "has no train_images"),
    "no training": (lambda c: c.pop("train_images"), "has no train_images"),
    "no labels": (lambda c: c.pop("val_labels"), "has no val_labels"),
    "several labels": (lambda c: c.update(test_labels=np.zeros((2, 14), "uint8")), "train 1, val 1, test 14"),
    "too few labels": (lambda c: c.update(test_labels=np.zeros((1, 1), "uint8")), "one class an image"),
    "labels below 0": (lambda c: c.update(test_labels=np.array([0, -1])), "one class an image"),
    "labels with fractions": (lambda c: c.update(test_labels=np.array([0.0, 1.0])), "one class an image"),
    "label objects": (lambda c: c.update(val_labels=np.array([{}], object)), "val_labels cannot be read: Object"),
    "image objects": (lambda c: c.update(val_images=np.array([{}], object)), "val_images cannot be read: Object"),
    "float images": (lambda c: c.update(val_images=np.zeros((1, 7, 5))), r"\(1, 7, 5\) and type float64"),
    "flat images": (lambda c: c.update(val_images=np.zeros((1, 7), "uint8")), r"has shape \(1, 7\)"),
    "flat volumes": (lambda c: c.update(val_images=np.zeros((1, 7, 5, 1), "uint8")), r"has shape \(1, 7, 5, 1\)"),
    "empty images": (lambda c: c.update(val_images=np.zeros((1, 0, 5), "uint8")), r"has shape \(1, 0, 5\)"),
}


@pytest.mark.parametrize("kind", BAD)
def test_odd_archives_are_refused_before_anything_is_written(tmp_path: Path, kind: str) -> None:
    content = arrays()
    BAD[kind][0](content)
    archive = write_archive(tmp_path / "x.npz", content)
    with pytest.raises(DatalistError, match=rf"x\.npz: .*{BAD[kind][1]}") as caught:
        unpack_archive(archive, tmp_path / "folder")
    assert caught.value.file == archive and not (tmp_path / "folder").exists()


def test_files_that_are_no_archives(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "x.npz", arrays())
    whole = archive.read_bytes()
    np.save(tmp_path / "array.npy", np.zeros(3))
    contents = [b"", b"text", whole[:-40], (tmp_path / "array.npy").read_bytes(), pickle.dumps([1])]
    for content in contents:
        archive.write_bytes(content)
        for call in (unpack_archive, lambda source, folder: pack_archive(source, folder, tmp_path / "y.npz")):
            with pytest.raises(DatalistError, match=r"x\.npz: not an \.npz archive"):
                call(archive, tmp_path / "folder")
    archive.write_bytes(whole[:200] + bytes(50) + whole[250:])
    with pytest.raises(DatalistError, match=r"x\.npz: train_images cannot be read"):
        unpack_archive(archive, tmp_path / "folder")
    with pytest.raises(DatalistError, match="does not exist"):
        unpack_archive(tmp_path / "gone.npz", tmp_path / "folder")
    assert not (tmp_path / "folder").exists() and not (tmp_path / "y.npz").exists()


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "x.npz", arrays())
    with pytest.raises(DatalistError, match=r"empty: the folder holds no image of x\.npz"):
        pack_archive(archive, tmp_path / "empty", tmp_path / "y.npz")
    folder = unpack_archive(archive, tmp_path / "folder")
    Image.fromarray(np.zeros((5, 5), "uint8")).save(folder / "val/00000.png")
    with pytest.raises(ScanError, match=r"00000\.png: the image is \(1, 5, 5\) uint8, that of the archive \(1, 5, 7\)"):
        pack_archive(archive, folder, tmp_path / "y.npz")
    assert not (tmp_path / "y.npz").exists()


@pytest.mark.data
@pytest.mark.parametrize("name", ["pneumoniamnist/pneumoniamnist.npz", "adrenalmnist3d/adrenalmnist3d_64.npz"])
def test_real_archives(real_data: Path, tmp_path: Path, name: str) -> None:
    if not (real_data / name).is_file():
        pytest.skip(f"no {name} in {real_data}")
    with np.load(real_data / name) as content:
        few = {key: content[key][:20] for key in content.files}
    archive = write_archive(tmp_path / "few.npz", few)
    folder = unpack_archive(archive, tmp_path / "folder")
    assert {case.target for case in load_cases(folder)} <= {0, 1}
    assert_equal_archives(pack_archive(archive, folder, tmp_path / "packed.npz"), archive)

# SPDX-License-Identifier: Apache-2.0
"""Datasets of DICOM series through every workflow."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from torch import Tensor

from monai_unlearnable.budget import Budget
from monai_unlearnable.data import load_cases, read_scan
from monai_unlearnable.errors import DatalistError, OutputError, VerificationError
from monai_unlearnable.evaluation.sources import refuse_overlap
from monai_unlearnable.intensity import PercentileWindow
from monai_unlearnable.masks import Everywhere
from monai_unlearnable.noise import Manifest, NoiseStore
from monai_unlearnable.perturbers import RandomNoise
from monai_unlearnable.publishing.publication import Publication
from monai_unlearnable.publishing.restore import apply_stored, restore
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.transforms import ApplyNoise, GenerateNoise, LoadScan, RemoveNoise
from tests import dicom
from tests.dicom import PADDING, write_dataset
from tests.helpers import BUDGET, protect, random_image, tree

NOISE = RandomNoise(BUDGET.epsilon, Everywhere())


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Manifest]:
    """A clean dataset, its output and the manifest. Shared: read only."""
    root = tmp_path_factory.mktemp("dicom")
    clean = write_dataset(root / "clean")
    return clean, root / "out", protect(clean, root / "out", NOISE)


def test_protect_verify_restore(published: tuple[Path, Path, Manifest], tmp_path: Path) -> None:
    clean, out, manifest = published
    assert [entry.output for entry in manifest.scans] == ["images/a", "images/b"]
    assert sorted(tree(out / "protected")) == sorted([*tree(clean), "datalist.json"])
    for entry in manifest.scans:
        before, after = (read_scan(root / entry.file) for root in (clean, out / "protected"))
        assert (
            entry.measured["linf"] > 0 and entry.quantization.bits == 12 and entry.quantization.padding_low == PADDING
        )
        assert np.array_equal(after.voxels == PADDING, before.voxels == PADDING)
        moved = (after.voxels != before.voxels)[before.voxels != PADDING]
        assert moved.mean() > 0.9
    verify(out, clean)
    restore(out, tmp_path / "back")
    assert {k: v for k, v in tree(tmp_path / "back").items() if k != "datalist.json"} == tree(clean)


def test_apply_and_run_again_give_the_same_files(published: tuple[Path, Path, Manifest], tmp_path: Path) -> None:
    clean, out, _ = published
    apply_stored(out / "noise", clean, tmp_path / "again")
    assert tree(tmp_path / "again/protected") == tree(out / "protected")
    protect(clean, tmp_path / "fresh", NOISE)
    assert tree(tmp_path / "fresh") == tree(out)
    protect(clean, tmp_path / "fresh", RandomNoise(BUDGET.epsilon, Everywhere(), 1), overwrite=True)
    assert tree(tmp_path / "fresh/protected") != tree(out / "protected")
    verify(tmp_path / "fresh", clean)


def test_what_was_put_right_in_the_clean_headers_is_kept(
    published: tuple[Path, Path, Manifest], tmp_path: Path
) -> None:
    clean, out, _ = published
    shutil.copytree(clean, tmp_path / "clean")
    for path in (tmp_path / "clean/images").rglob("*.dcm"):
        ds = dcmread(path)
        ds.PatientName = "nobody"
        ds.save_as(path)
    apply_stored(out / "noise", tmp_path / "clean", tmp_path / "again")
    verify(tmp_path / "again", tmp_path / "clean")
    restore(tmp_path / "again", tmp_path / "back")
    assert tree(tmp_path / "back/images") == tree(tmp_path / "clean/images")


def test_headers_that_were_put_right_since_are_published(
    published: tuple[Path, Path, Manifest], tmp_path: Path
) -> None:
    clean, out, _ = published
    shutil.copytree(clean, tmp_path / "clean")
    shutil.copytree(out, tmp_path / "out")
    for path in (tmp_path / "clean/images/a").iterdir():
        ds = dcmread(path)
        ds.PatientName = "nobody"
        ds.save_as(path)
    protect(tmp_path / "clean", tmp_path / "out", NOISE, overwrite=True)
    assert b"a^a" not in b"".join(tree(tmp_path / "out/protected/images/a").values())
    protect(tmp_path / "clean", tmp_path / "fresh", NOISE)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


@pytest.mark.parametrize("damage", ["tag", "other file", "missing file"])
def test_no_byte_of_a_series_changes_unseen(
    published: tuple[Path, Path, Manifest], tmp_path: Path, damage: str
) -> None:
    clean, out, _ = published
    shutil.copytree(out, tmp_path / "out")
    path = tmp_path / "out/protected/images/a/003.dcm"
    if damage == "tag":
        content = bytearray(path.read_bytes())
        content[content.index(b"a^a")] ^= 1
        path.write_bytes(content)
    elif damage == "other file":
        (path.parent / ".hidden").write_bytes(b"")
    else:
        path.unlink()
    for against in (None, clean):
        with pytest.raises((VerificationError, OSError, ValueError), match="images/a"):
            verify(tmp_path / "out", against)


def test_a_killed_run_goes_on_to_the_same_files(
    published: tuple[Path, Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean, out, _ = published
    replace, calls = os.replace, []

    def stop(source: str, target: str) -> None:
        calls.append(target)
        if len(calls) == 5:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", stop)
        protect(clean, tmp_path, NOISE)
    assert not (tmp_path / "protected/images/a").exists()
    left = tmp_path / "protected/images/.a.abcd1234.part/new/001.dcm"  # as by a process that is killed
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    protect(clean, tmp_path, NOISE)
    assert tree(tmp_path) == tree(out)


def test_originals_are_not_replaced(published: tuple[Path, Path, Manifest], tmp_path: Path) -> None:
    shutil.copytree(published[0], tmp_path / "protected")
    before = tree(tmp_path / "protected")
    with pytest.raises(OutputError, match="the output would replace the original"):
        protect(tmp_path / "protected", tmp_path, NOISE)
    assert tree(tmp_path / "protected") == before


def test_identity_is_reported_once_a_run(
    published: tuple[Path, Path, Manifest], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clean, out, _ = published
    for run in (
        lambda: protect(clean, tmp_path / "a", NOISE),
        lambda: apply_stored(out / "noise", clean, tmp_path / "b"),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            run()
        assert [record.message for record in caplog.records if "de-identify" in record.message] == [
            "headers are published as they are, with PatientName; de-identify first"
        ]


def test_transforms_take_folders(published: tuple[Path, Path, Manifest]) -> None:
    clean, out, manifest = published
    image = LoadScan()(clean / "images/a")
    scan = read_scan(clean / "images/a")
    assert np.array_equal(image.numpy(), scan.physical()) and np.array_equal(image.affine.numpy(), scan.affine)
    published_image = LoadScan()(str(out / "protected/images/a"))
    assert np.array_equal(ApplyNoise(out / "noise")(image, "images/a"), published_image)
    assert np.array_equal(RemoveNoise(out / "noise")(published_image, "images/a"), image)
    generated: Tensor = GenerateNoise(NOISE, PercentileWindow(), BUDGET)(image, case_id="images/a")
    assert np.array_equal(generated, published_image)
    assert manifest.scans[0].quantization == scan.quantization


def test_a_series_among_training_and_test_cases_is_found(tmp_path: Path) -> None:
    training, test = write_dataset(tmp_path / "training"), write_dataset(tmp_path / "test", 2)
    refuse_overlap(load_cases(training), load_cases(test))
    shutil.copyfile(training / "images/a/003.dcm", test / "images/b/other.dcm")
    with pytest.raises(DatalistError, match=r"images/b, .*it equals images/a, .*003\.dcm"):
        refuse_overlap(load_cases(training), load_cases(test))


def test_files_by_themselves_in_class_folders(tmp_path: Path) -> None:
    for index in range(4):
        ds = dicom.make_slice(random_image((20, 16), "uint16", index), 12, index)
        syntax = (*dicom.NATIVE, dicom.LOSSLESS[1])[index]
        dicom.save(ds, tmp_path / "clean" / "ab"[index % 2] / f"{index}.dcm", syntax)
    manifest = protect(tmp_path / "clean", tmp_path / "out", NOISE)
    assert [(e.output, e.target) for e in manifest.scans] == [
        ("a/0.dcm", 0),
        ("a/2.dcm", 0),
        ("b/1.dcm", 1),
        ("b/3.dcm", 1),
    ]
    verify(tmp_path / "out", tmp_path / "clean")
    restore(tmp_path / "out", tmp_path / "back")
    assert {k: v for k, v in tree(tmp_path / "back").items() if k != "datalist.json"} == tree(tmp_path / "clean")


def test_an_unchanged_series_is_the_same_files(tmp_path: Path) -> None:
    clean = write_dataset(tmp_path / "clean")
    nothing = RandomNoise(0.0, Everywhere())
    protect(clean, tmp_path / "out", nothing, budget=Budget(0.0))
    assert tree(tmp_path / "out/protected/images") == tree(clean / "images")
    assert NoiseStore(tmp_path / "out/noise").headers("images/a") == b""
    restore(tmp_path / "out", tmp_path / "back")
    assert tree(tmp_path / "back/images") == tree(clean / "images")


REAL, SLICES = ("ct_philips_512x512x64", "mr_oblique_512x512x22"), 20
CHANGED = {
    *("SOPInstanceUID", "MediaStorageSOPInstanceUID", "SeriesInstanceUID", "ImageType"),
    *("DerivationDescription", "SourceImageSequence", "SmallestImagePixelValue", "LargestImagePixelValue"),
}


@pytest.fixture(scope="module", params=REAL)
def real(request: pytest.FixtureRequest, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first slices of a real series, ``clean/images/series``, and what became of them, ``out``."""
    source = real_data / "dicom" / request.param
    if not source.is_dir():
        pytest.skip(f"no folder {source}")
    root = tmp_path_factory.mktemp(request.param)
    (root / "clean/images/series").mkdir(parents=True)
    for path in sorted(source.iterdir())[:SLICES]:
        shutil.copyfile(path, root / "clean/images/series" / path.name)
    cases = load_cases(root / "clean", require_labels=False)
    Publication(cases, RandomNoise(8 / 255, Everywhere()), root / "out", PercentileWindow(), Budget(8 / 255)).run()
    return root


def both(root: Path) -> tuple[Path, Path]:
    return root / "clean/images/series", root / "out/protected/images/series"


@pytest.mark.data
def test_real_series_come_back_byte_for_byte(real: Path) -> None:
    clean, protected = both(real)
    assert dicom.pixel_bytes(protected) != dicom.pixel_bytes(clean)
    verify(real / "out", real / "clean")
    restore(real / "out", real / "back")
    assert dicom.pixel_bytes(real / "back/images/series") == dicom.pixel_bytes(clean)
    assert tree(real / "back/images/series") == tree(clean)


@pytest.mark.data
def test_real_series_keep_tags_and_geometry(real: Path) -> None:
    clean, protected = both(real)
    for old, new in zip(dicom.slices_of(clean), dicom.slices_of(protected), strict=True):
        first, second = dicom.elements(old), dicom.elements(new)
        assert {key for key in first | second if first.get(key) != second.get(key)} - CHANGED <= {
            "FileMetaInformationGroupLength"
        }
    images = [dicom.read_with_sitk(path) for path in (clean, protected)]
    for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetPixelIDTypeAsString"):
        assert getattr(images[0], what)() == getattr(images[1], what)(), what
    for path, image in zip((clean, protected), images, strict=True):
        scan = read_scan(path)
        assert np.allclose(scan.affine, dicom.sitk_affine(image), atol=1e-3)
        assert np.array_equal(scan.physical(np.float64)[0].T, dicom.sitk_values(path))


@pytest.mark.data
@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy of dicom3tools is not installed")
def test_dciodvfy_finds_nothing_new(real: Path) -> None:
    def complaints(path: Path) -> set[str]:
        found = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        return {line for line in (found.stdout + found.stderr).splitlines() if line.startswith(("Error", "Warning"))}

    clean, protected = both(real)
    for old, new in zip(dicom.slices_of(clean), dicom.slices_of(protected), strict=True):
        assert complaints(new) <= complaints(old)

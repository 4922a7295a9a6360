# SPDX-License-Identifier: Apache-2.0
"""DICOM segmentations as labels through every workflow: they fit the published series, and come back as they were."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from monai_unlearnable.budget import Budget
from monai_unlearnable.crypto import OwnerKey
from monai_unlearnable.data import load_cases, read_scan
from monai_unlearnable.errors import LabelError, NoiseError, VerificationError
from monai_unlearnable.masks import Everywhere
from monai_unlearnable.noise import Manifest, NoiseStore
from monai_unlearnable.perturbers import RandomNoise
from monai_unlearnable.proof import random_control
from monai_unlearnable.publishing import publication
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.restore import apply_stored, restore
from monai_unlearnable.publishing.statement import audit, write_statement
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.victims import Segmentation
from tests import dicom
from tests.helpers import BUDGET, SHAPES, protect, random_image, tree, two_classes, write_datalist

NOISE = RandomNoise(BUDGET.epsilon, Everywhere())
LABEL = two_classes(SHAPES[3])


def write_series(root: Path, name: str, number: int) -> Path:
    """A series with UIDs of its own."""

    def change(index: int, ds: Any) -> None:
        ds.SeriesInstanceUID = f"1.2.3.{number}"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}.{index + 1}"

    return dicom.write_series(root / "images" / name, random_image(SHAPES[3], seed=number), change=change)


def write_dataset(root: Path) -> Path:
    """Two series, one with a label in a file and one with a label in a folder."""
    for number, (name, label) in enumerate({"a": "a.dcm", "b": "b/IM1"}.items(), start=20):
        dicom.write_seg(write_series(root, name, number), root / "labels" / label, LABEL)
    return root


def references(ds: Dataset) -> Iterator[str]:
    """All UIDs of images that a file names, of whatever sequence."""
    for element in ds.iterall():
        if element.keyword == "ReferencedSOPInstanceUID":
            yield element.value


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A clean dataset and its output. Shared: read only."""
    root = tmp_path_factory.mktemp("labels")
    clean = write_dataset(root / "clean")
    protect(clean, root / "out", NOISE)
    return clean, root / "out"


def test_published_segmentations_fit_the_published_series(published: tuple[Path, Path]) -> None:
    clean, out = published
    assert sorted(tree(out / "protected")) == sorted([*tree(clean), "datalist.json"])
    for case in load_cases(out / "protected"):
        series, seg = out / "protected" / case.images[0], out / "protected" / str(case.label)
        instances = [dcmread(path, stop_before_pixels=True) for path in dicom.slices_of(series)]
        old, new = dcmread(clean / str(case.label)), dcmread(seg)
        assert set(references(new)) == {ds.SOPInstanceUID for ds in instances}
        assert new.ReferencedSeriesSequence[0].SeriesInstanceUID == instances[0].SeriesInstanceUID
        assert not set(references(new)) & set(references(old)) and new.SOPInstanceUID != old.SOPInstanceUID
        assert new.PixelData == old.PixelData and new.SeriesInstanceUID == old.SeriesInstanceUID
        assert np.array_equal(dicom.read_seg(seg, series), LABEL)


def test_verify_audit_and_restore(published: tuple[Path, Path], tmp_path: Path) -> None:
    clean, out = published
    verify(out, clean)
    assert not audit(out / "protected", out / "statement.json").findings
    restore(out, tmp_path / "back")
    assert {k: v for k, v in tree(tmp_path / "back").items() if k != "datalist.json"} == tree(clean)


def test_apply_and_run_again_give_the_same_files(published: tuple[Path, Path], tmp_path: Path) -> None:
    clean, out = published
    apply_stored(out / "noise", clean, tmp_path / "again")
    assert tree(tmp_path / "again/protected") == tree(out / "protected")
    assert tree(tmp_path / "again/noise") == tree(out / "noise")
    before = tree(out)
    shutil.copytree(out, tmp_path / "out")
    protect(clean, tmp_path / "out", NOISE, overwrite=True)
    assert tree(tmp_path / "out") == before


def test_a_segmentation_that_was_put_right_since_is_published(published: tuple[Path, Path], tmp_path: Path) -> None:
    clean, out = published
    shutil.copytree(clean, tmp_path / "clean")
    shutil.copytree(out, tmp_path / "out")
    dicom.write_seg(tmp_path / "clean/images/a", tmp_path / "clean/labels/a.dcm", LABEL[::-1])
    protect(tmp_path / "clean", tmp_path / "out", NOISE, overwrite=True)
    protect(tmp_path / "clean", tmp_path / "fresh", NOISE)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")
    verify(tmp_path / "out", tmp_path / "clean")
    with pytest.raises(VerificationError, match=r"images/a, .*a\.dcm: the label is not the one that was protected"):
        apply_stored(out / "noise", tmp_path / "clean", tmp_path / "again")


def test_noise_goes_on_no_series_that_the_segmentation_is_not_of(published: tuple[Path, Path], tmp_path: Path) -> None:
    clean, out = published
    shutil.copytree(clean, tmp_path / "clean")
    for path in (tmp_path / "clean/images/b").iterdir():
        ds = dcmread(path)
        ds.SeriesInstanceUID, ds.SOPInstanceUID = "1.2.3.50", ds.SOPInstanceUID + ".50"
        ds.save_as(path)
    with pytest.raises(LabelError, match=r"images/b, .*IM1: the label cannot be used: is of another series"):
        apply_stored(out / "noise", tmp_path / "clean", tmp_path / "again")


def put_label(out: Path, content: bytes, **recorded: Any) -> None:
    """Publish another label for the first case, and record it wherever its digest is."""
    layout, store = Layout(out), NoiseStore(out / "noise")
    entry, change = store.load("images/a")
    headers, original = store.headers("images/a"), store.label("images/a")
    (layout.protected / str(entry.label)).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    store.save(replace(entry, label_sha256=digest, **recorded), change, headers, original)
    manifest = Manifest.load(layout.manifest)
    scans = tuple(store.entry(scan.scan_id) for scan in manifest.scans)
    manifest = Manifest(manifest.run, scans, manifest.datalist_sha256, None)
    manifest.save(layout.manifest)
    write_statement(manifest, layout)


def test_verify_finds_labels_that_do_not_follow(published: tuple[Path, Path], tmp_path: Path) -> None:
    _, out = published
    shutil.copytree(out, tmp_path / "bytes")
    path = tmp_path / "bytes/protected/labels/b/IM1"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(VerificationError, match="images/b, .*SHA-256 of the label"):
        verify(tmp_path / "bytes")
    shutil.copytree(out, tmp_path / "recorded")
    seg = dcmread(out / "protected/labels/a.dcm")
    seg.ContentLabel = "OTHER"
    seg.save_as(tmp_path / "other.dcm")
    put_label(tmp_path / "recorded", (tmp_path / "other.dcm").read_bytes())
    with pytest.raises(VerificationError, match="images/a, .*the label is not the original one with new UIDs"):
        verify(tmp_path / "recorded")
    shutil.copytree(out, tmp_path / "kept")
    put_label(tmp_path / "kept", (out / "protected/labels/a.dcm").read_bytes(), clean_label_sha256="0" * 64)
    for refused, check in (
        (VerificationError, lambda: verify(tmp_path / "kept")),
        (NoiseError, lambda: restore(tmp_path / "kept", tmp_path / "back")),
    ):
        with pytest.raises(refused, match="images/a, .*the label that is kept is not the original one"):
            check()


def test_unchanged_series_keep_their_segmentations(tmp_path: Path) -> None:
    clean = write_dataset(tmp_path / "clean")
    manifest = protect(clean, tmp_path / "out", RandomNoise(0.0, Everywhere()), budget=Budget(0.0))
    assert tree(tmp_path / "out/protected/labels") == tree(clean / "labels")
    assert [entry.clean_label_sha256 for entry in manifest.scans] == [None, None]
    verify(tmp_path / "out", clean)


def test_patients_named_by_a_segmentation_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clean = write_dataset(tmp_path / "clean")
    path = clean / "labels/a.dcm"
    dicom.write_seg(clean / "images/a", path, LABEL, change=lambda seg: setattr(seg, "PatientName", "Doe^Jane"))
    for run in (
        lambda: protect(clean, tmp_path / "out", NOISE),
        lambda: apply_stored(tmp_path / "out/noise", clean, tmp_path / "again"),
    ):
        caplog.clear()
        run()
        assert [record.message for record in caplog.records if "PatientName" in record.message] == [
            "headers are published as they are, with PatientName; de-identify first"
        ]


def test_a_segmentation_of_the_second_channel(tmp_path: Path) -> None:
    clean = tmp_path / "clean"
    first, second = write_series(clean, "t1", 31), write_series(clean, "t2", 32)
    dicom.write_seg(second, clean / "labels/a.dcm", LABEL)
    write_datalist(clean, [{"image": ["images/t1", "images/t2"], "label": "labels/a.dcm"}])
    manifest = protect(clean, tmp_path / "out", NOISE)
    assert len(manifest.scans) == 2 and len({entry.label_sha256 for entry in manifest.scans}) == 1
    seg = tmp_path / "out/protected/labels/a.dcm"
    assert np.array_equal(dicom.read_seg(seg, tmp_path / "out/protected/images/t2"), LABEL)
    verify(tmp_path / "out", clean)
    apply_stored(tmp_path / "out/noise", clean, tmp_path / "again")
    assert tree(tmp_path / "again/protected") == tree(tmp_path / "out/protected")
    restore(tmp_path / "out", tmp_path / "back")
    assert tree(tmp_path / "back/labels") == tree(clean / "labels") and first.is_dir()


def test_a_stopped_case_of_several_series_gets_one_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean, out = tmp_path / "clean", tmp_path / "out"
    write_series(clean, "t1", 31), write_series(clean, "t2", 32)
    dicom.write_seg(clean / "images/t1", clean / "labels/a.dcm", LABEL)
    write_datalist(clean, [{"image": ["images/t1", "images/t2"], "label": "labels/a.dcm"}])
    protect(clean, out, NOISE)
    for path in (clean / "images/t1").iterdir():  # other voxels, and so other UIDs to refer to
        ds = dcmread(path)
        ds.PixelData = bytes(reversed(ds.PixelData))
        ds.save_as(path)
    publish, calls = publication.publish_scan, iter(range(9))

    def stopping(*arguments: Any) -> Any:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return publish(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(publication, "publish_scan", stopping)
        protect(clean, out, NOISE, overwrite=True)
    protect(clean, out, NOISE)
    protect(clean, tmp_path / "fresh", NOISE)
    assert tree(out) == tree(tmp_path / "fresh")
    verify(out, clean)


def test_originals_are_sealed_and_shared_with_their_case(tmp_path: Path) -> None:
    clean, key = write_dataset(tmp_path / "clean"), OwnerKey(bytes(range(32)))
    protect(clean, tmp_path / "out", NOISE, key=key)
    verify(tmp_path / "out", clean, key)
    uid = dcmread(clean / "labels/a.dcm").SOPInstanceUID.encode()
    assert not any(uid in content for content in tree(tmp_path / "out").values())
    ring = NoiseStore(tmp_path / "out/noise", key).share(["images/b"])
    restore(tmp_path / "out", tmp_path / "back", key=ring)
    assert tree(tmp_path / "back/labels") == {"b/IM1": (clean / "labels/b/IM1").read_bytes()}


@pytest.mark.data
def test_a_segmentation_of_a_real_series(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "dicom/mr_oblique_512x512x22"
    if not source.is_dir():
        pytest.skip(f"no folder {source}")
    clean = tmp_path / "clean"
    shutil.copytree(source, clean / "images/a")
    label = two_classes(read_scan(clean / "images/a").spatial_shape)
    dicom.write_seg(clean / "images/a", clean / "labels/a.dcm", label)
    protect(clean, tmp_path / "out", NOISE)
    verify(tmp_path / "out", clean)
    published = tmp_path / "out/protected"
    assert np.array_equal(dicom.read_seg(published / "labels/a.dcm", published / "images/a"), label)
    restore(tmp_path / "out", tmp_path / "back")
    assert tree(tmp_path / "back/labels") == tree(clean / "labels")


def test_the_control_is_kept_and_victims_read_published_labels(published: tuple[Path, Path], tmp_path: Path) -> None:
    clean, out = published
    control = random_control(load_cases(clean), out, tmp_path / "control")
    before = tree(control)
    random_control(load_cases(clean), out, tmp_path / "control", seed=1)
    assert tree(control) == before, "a control that fits is not made again"
    for root in (clean, out / "protected", control / "protected"):
        for case in load_cases(root):
            item = case.to_dict()
            for transform in Segmentation((0, 1, 2)).loading():
                item = transform(item)
            assert np.array_equal(item["label"][0], LABEL)

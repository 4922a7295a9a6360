# SPDX-License-Identifier: Apache-2.0
"""Runs that are stopped, repeated, or cannot write: nothing half-written, nothing lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from torch import Tensor

import monai_unlearnable as mu
from monai_unlearnable.budget import Budget, apply_noise
from monai_unlearnable.data import load_cases, read_scan
from monai_unlearnable.errors import BudgetError, LabelError, OutputError
from monai_unlearnable.intensity import DtypeWindow, FixedWindow
from monai_unlearnable.masks import Everywhere
from monai_unlearnable.noise import Manifest
from monai_unlearnable.perturbers import (
    Augmentation,
    ClasswiseNoise,
    GradientNoise,
    InputSettings,
    RandomNoise,
    load_input_settings,
)
from monai_unlearnable.publishing import publication, statement
from monai_unlearnable.publishing.restore import apply_stored, restore
from monai_unlearnable.publishing.verify import verify
from tests.helpers import (
    BUDGET,
    SHAPES,
    flip_byte,
    protect,
    random_image,
    raw_bytes,
    small_shared,
    small_surrogate,
    small_umed,
    stored_voxels,
    tree,
    two_classes,
    write_class_folders,
    write_datalist,
    write_dataset,
    write_nifti,
)


def test_manifest_tells_what_was_done(published: SimpleNamespace) -> None:
    manifest, entry = published.manifest, published.manifest.scans[0]
    assert Manifest.load(published.out / "noise/manifest.json") == manifest
    assert [e.scan_id for e in manifest.scans] == ["images/a", "images/b"]
    assert entry.file == entry.output == "images/a.nii.gz" and entry.label == "labels/a.nii.gz"
    assert entry.shape == (1, *SHAPES[3]) and entry.budget == BUDGET and entry.quantization.dtype == "<i2"
    assert np.array_equal(entry.affine, nib.load(published.clean / entry.file).affine)
    assert entry.clean_sha256 == read_scan(published.clean / entry.file).digest()
    assert 0 < entry.measured["linf"] <= BUDGET.epsilon + 1e-6 and entry.measured["psnr"] > 20
    assert manifest.run["method"] == "UMed" and manifest.run["budget"] == {
        "epsilon": 0.1,
        "norm": "linf",
        "fraction": 1.0,
    }
    assert str(published.clean) not in (published.out / "noise/manifest.json").read_text()


def test_checkpoint_tells_how_the_cases_were_read(dataset: Path, tmp_path: Path) -> None:
    protect(dataset, tmp_path, window=FixedWindow(-500, 900), label_values=(0, 1, 2))
    settings = load_input_settings(tmp_path / "models/perturber.safetensors")
    assert settings == InputSettings(FixedWindow(-500, 900), [0, 1, 2])


def test_output_is_a_dataset(published: SimpleNamespace) -> None:
    cases = load_cases(published.out / "protected")
    assert [(c.case_id, c.images, c.label) for c in cases] == [
        (c.case_id, c.images, c.label) for c in load_cases(published.clean)
    ]


def test_finished_output_is_not_overwritten_unless_asked(dataset: Path, tmp_path: Path) -> None:
    protect(dataset, tmp_path / "out")
    before = tree(tmp_path / "out")
    with pytest.raises(OutputError, match=r"manifest\.json: the output exists already"):
        protect(dataset, tmp_path / "out", small_umed(seed=1))
    assert tree(tmp_path / "out") == before
    protect(dataset, tmp_path / "out", small_umed(seed=1), overwrite=True)
    protect(dataset, tmp_path / "fresh", small_umed(seed=1))
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh") != before


@pytest.mark.parametrize("damaged", ["protected/images/a.nii.gz", "noise/images/a.npz"])
def test_a_damaged_output_is_made_again_where_asked(dataset: Path, tmp_path: Path, damaged: str) -> None:
    protect(dataset, tmp_path / "out")
    whole = tree(tmp_path / "out")
    (tmp_path / "out" / damaged).write_bytes(b"damaged")
    protect(dataset, tmp_path / "out", overwrite=True)
    assert tree(tmp_path / "out") == whole


def stop_at(monkeypatch: pytest.MonkeyPatch, function: str, call: int) -> None:
    """Make the n-th call of a function that the workflow uses raise as Ctrl-C does."""
    owner = publication if hasattr(publication, function) else statement
    original, calls = getattr(owner, function), iter(range(1000))

    def stopping(*args, **kwargs):
        if next(calls) == call:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, function, stopping)


@pytest.mark.parametrize(
    ("function", "call"),
    [
        ("generate_noises", 1),
        ("publish_label", 1),
        ("publish_scan", 0),
        ("publish_scan", 1),
        ("measure_fidelity", 1),
        ("write_datalist", 0),
    ],
)
def test_stopped_runs_continue_to_the_same_bytes(
    published: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, call: int
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, function, call)
        protect(published.clean, tmp_path)
    assert not (tmp_path / "noise/manifest.json").exists() and not list(tmp_path.rglob("*.part"))
    for folder in ("protected/images", "noise", "models"):  # as left by a process that is killed while it writes
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / ".a.nii.gz.0a_bc1de.part").write_bytes(b"half")
    made = []
    generate = publication.generate_noises
    monkeypatch.setattr(publication, "generate_noises", lambda *args: made.extend(args[2]) or generate(*args))
    protect(published.clean, tmp_path)
    assert tree(tmp_path) == tree(published.out)
    done = {("write_datalist", 0): [], ("publish_scan", 0): ["images/a", "images/b"]}
    assert made == done.get((function, call), ["images/b"])


@pytest.mark.parametrize("change", ["perturber", "budget", "window", "label_values"])
def test_other_settings_do_not_mix_with_a_stopped_run(dataset: Path, tmp_path: Path, monkeypatch, change: str) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, "publish_scan", 1)
        protect(dataset, tmp_path / "out")
    before = tree(tmp_path / "out")
    settings = {
        "perturber": small_umed(seed=1),
        "budget": Budget(0.05),
        "window": FixedWindow(-500, 900),
        "label_values": [0, 1, 2],
    }
    with pytest.raises(OutputError, match="run with other settings"):
        protect(dataset, tmp_path / "out", **{change: settings[change]})
    assert tree(tmp_path / "out") == before
    protect(dataset, tmp_path / "out", overwrite=True, **{change: settings[change]})
    protect(dataset, tmp_path / "fresh", **{change: settings[change]})
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


@pytest.mark.parametrize("changed", ["images", "labels", "header"])
def test_cases_that_changed_since_are_made_again(dataset: Path, tmp_path: Path, monkeypatch, changed: str) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, "publish_scan", 1)
        protect(dataset, tmp_path / "out")
    if changed == "header":
        image = nib.load(dataset / "images/a.nii.gz")
        image.header["descrip"] = b"put right"
        image.to_filename(dataset / "images/a.nii.gz")
    else:
        voxels = random_image(SHAPES[3], seed=9) if changed == "images" else two_classes(SHAPES[3])[::-1]
        write_nifti(dataset / changed / "a.nii.gz", voxels)
    protect(dataset, tmp_path / "out")
    protect(dataset, tmp_path / "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")
    verify(tmp_path / "out", dataset)


BATCH_SIZE = 3
SEEN = ["a/0", "a/1", "a/2", "b/3", "b/4", "c/5", "c/6"]


def gradient_noise() -> GradientNoise:
    view = Augmentation([16, 16], noise=0.1)  # random: the noise of a case depends on those beside it
    return GradientNoise(
        [small_surrogate()], BUDGET.epsilon, steps=3, step_size=0.04, augmentation=view, batch_size=BATCH_SIZE
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven pictures of three classes, the fourth and fifth of another shape. Shared: read only."""
    folder = tmp_path_factory.mktemp("pictures")
    root = write_class_folders(folder / "pictures")
    other = write_class_folders(folder / "other", shape=(26, 15))
    for name in ("b/3.png", "b/4.png"):
        (other / name).replace(root / name)
    return root


def protect_pictures(pictures: Path, out: Path, **arguments: object) -> Manifest:
    return protect(pictures, out, gradient_noise(), DtypeWindow(), **arguments)


@pytest.fixture(scope="module")
def whole(pictures: Path) -> Path:
    """What becomes of the pictures where nothing stops. Shared: read only."""
    out = pictures.parent / "whole"
    protect_pictures(pictures, out)
    return out


def test_batches_hold_images_of_one_shape(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[str], tuple[int, ...]]] = []
    delta = GradientNoise.delta

    def spy(self: GradientNoise, image: Tensor, case_ids: Sequence[str], *others: Tensor | None) -> Tensor:
        seen.append((list(case_ids), tuple(image.shape[1:])))
        return delta(self, image, case_ids, *others)

    monkeypatch.setattr(GradientNoise, "delta", spy)
    manifest = protect_pictures(pictures, tmp_path / "out")
    usual, other = (1, *SHAPES[2]), (1, 26, 15)
    assert seen == [(SEEN[:3], usual), (SEEN[3:5], other), (SEEN[5:6], usual), (SEEN[6:], usual)]
    assert [entry.scan_id for entry in manifest.scans] == SEEN
    assert [entry.shape[1:] for entry in manifest.scans][2:5] == [SHAPES[2], (26, 15), (26, 15)]
    assert all(entry.measured["linf"] > 0 for entry in manifest.scans)
    verify(tmp_path / "out", pictures)
    restore(tmp_path / "out", tmp_path / "back")
    for name in SEEN:
        first, second = (stored_voxels(root / f"{name}.png") for root in (pictures, tmp_path / "back"))
        assert np.array_equal(first, second)


@pytest.mark.parametrize(
    ("function", "call", "made"),
    [
        ("generate_noises", 2, SEEN[3:]),
        ("publish_scan", 1, SEEN),
        ("publish_scan", 4, SEEN[3:]),
        ("publish_scan", 6, SEEN[6:]),
        ("measure_fidelity", 3, SEEN[3:]),
        ("write_datalist", 0, []),
    ],
)
def test_stopped_batches_continue_to_the_same_bytes(
    pictures: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    call: int,
    made: list[str],
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, function, call)
        protect_pictures(pictures, tmp_path / "out")
    again: list[str] = []
    generate = publication.generate_noises
    monkeypatch.setattr(publication, "generate_noises", lambda *args: again.extend(args[2]) or generate(*args))
    protect_pictures(pictures, tmp_path / "out")
    assert again == made, "a batch that was begun is made again as a whole"
    assert tree(tmp_path / "out") == tree(whole)


def test_a_class_that_changed_since_is_noticed(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(out: Path) -> Manifest:
        shared: ClasswiseNoise = small_shared((8, 8, 8))
        return protect(dataset, out, shared)

    def write(kinds: Sequence[int]) -> None:
        names = ("images/a.nii.gz", "images/b.nii.gz")
        write_datalist(dataset, [{"image": name, "label": kind} for name, kind in zip(names, kinds, strict=True)])

    write([0, 1])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, "publish_scan", 1)
        run(tmp_path / "out")
    write([2, 1])
    manifest = run(tmp_path / "out")
    assert [entry.target for entry in manifest.scans] == [2, 1]
    run(tmp_path / "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")
    assert [case.target for case in load_cases(tmp_path / "out/protected")] == [2, 1]
    verify(tmp_path / "out", dataset)


def test_a_bad_case_stops_the_run_and_spares_the_others(dataset: Path, tmp_path: Path) -> None:
    write_nifti(dataset / "labels/b.nii.gz", two_classes((3, 4, 5)))
    with pytest.raises(LabelError, match=r"images/b, .*b\.nii\.gz: the label has shape \(3, 4, 5\)"):
        protect(dataset, tmp_path / "out")
    assert sorted(tree(tmp_path / "out/protected")) == ["images/a.nii.gz", "labels/a.nii.gz"]
    write_nifti(dataset / "labels/b.nii.gz", two_classes(SHAPES[3]))
    protect(dataset, tmp_path / "out")
    verify(tmp_path / "out", dataset)


def test_missing_labels_are_named(dataset: Path, tmp_path: Path) -> None:
    (dataset / "labels/b.nii.gz").unlink()
    with pytest.raises(LabelError, match=r"images/b, .*has no label"):
        protect(dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("code", "call"), [*((errno.ENOSPC, call) for call in range(6)), (errno.EROFS, 1), (errno.EACCES, 2)]
)
def test_disks_that_refuse(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, call: int
) -> None:
    clean, calls, fsync = tree(dataset), iter(range(1000)), os.fsync

    def full(handle: int) -> None:
        if next(calls) == call:
            raise OSError(code, os.strerror(code))
        fsync(handle)

    with (
        monkeypatch.context() as patch,
        pytest.raises(OutputError, match=f"cannot be written: {os.strerror(code)}") as caught,
    ):
        patch.setattr(os, "fsync", full)
        protect(dataset, tmp_path / "out")
    assert tmp_path / "out" in caught.value.file.parents and not caught.value.file.exists()
    assert not list(tmp_path.rglob("*.part")) and tree(dataset) == clean
    protect(dataset, tmp_path / "out")
    verify(tmp_path / "out", dataset)


SHORT = {"epochs": 2, "epoch_length": 1, "batch_size": 1, "patch_size": [16] * 3, "device": "cpu"}
SHORT |= {"network_def#channels": [4, 8], "network_def#strides": [2], "protection#curves": False}


@pytest.mark.parametrize("before", ["finished", "stopped"])
@pytest.mark.parametrize(
    ("method", "settings", "where"), [("lattice", {}, "publish_scan"), ("umed", SHORT, "the training")]
)
def test_a_stopped_overwriting_run_goes_on_without_overwrite(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, method: str, settings: dict, where: str
) -> None:
    out, others = tmp_path / "out", {**settings, "epsilon": 0.1}
    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        if before == "stopped":
            stop_at(patch, "publish_scan", 1)
        mu.protect(method, dataset, out, epsilon=0.05, **settings)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if where == "the training":
            patch.setattr(publication.Publication, "__init__", Mock(side_effect=KeyboardInterrupt))
        else:
            stop_at(patch, where, 1)
        mu.protect(method, dataset, out, overwrite=True, **others)
    mu.protect(method, dataset, out, **others)
    mu.protect(method, dataset, tmp_path / "fresh", **others)
    assert tree(out / "protected") == tree(tmp_path / "fresh/protected")
    assert tree(out / "noise") == tree(tmp_path / "fresh/noise")


def test_a_refused_overwriting_run_leaves_the_output(dataset: Path, tmp_path: Path) -> None:
    mu.protect("lattice", dataset, tmp_path / "out")
    before = tree(tmp_path / "out")
    write_nifti(dataset / "labels/b.nii.gz", two_classes((3, 4, 5)))
    with pytest.raises(LabelError):
        mu.protect("lattice", dataset, tmp_path / "out", overwrite=True, epsilon=0.1)
    assert tree(tmp_path / "out") == before


def test_originals_cannot_be_the_output(tmp_path: Path) -> None:
    clean = write_dataset(tmp_path / "out" / "protected")
    before = tree(clean)
    with pytest.raises(OutputError, match="would replace the original"):
        protect(clean, tmp_path / "out")
    assert tree(clean) == before


def test_originals_behind_links_are_spared(dataset: Path, tmp_path: Path) -> None:
    before = tree(dataset)
    (tmp_path / "out/protected/images").mkdir(parents=True)
    (tmp_path / "out/protected/images/a.nii.gz").hardlink_to(dataset / "images/a.nii.gz")
    (tmp_path / "out/protected/images/b.nii.gz").symlink_to(dataset / "images/b.nii.gz")
    with pytest.raises(OutputError, match=r"b\.nii\.gz: the output would replace the original"):
        protect(dataset, tmp_path / "out")
    assert tree(dataset) == before
    assert (
        stored_voxels(tmp_path / "out/protected/images/a.nii.gz").tobytes()
        != stored_voxels(dataset / "images/a.nii.gz").tobytes()
    )


@pytest.fixture
def channels(tmp_path: Path) -> Path:
    """Two cases of two files each, the second in alphabetical order first; listed last case first."""
    root = tmp_path / "clean"
    for seed, name in enumerate(("p/t2", "p/t1", "a/t2", "a/t1")):
        write_nifti(root / f"{name}.nii.gz", random_image(SHAPES[3], "int16" if "t1" in name else "float32", seed))
    write_nifti(root / "seg.nii.gz", two_classes(SHAPES[3]))
    return write_datalist(
        root, [{"image": [f"{p}/t2.nii.gz", f"{p}/t1.nii.gz"], "label": "seg.nii.gz"} for p in ("p", "a")]
    )


def test_cases_of_several_files(channels: Path, tmp_path: Path) -> None:
    manifest = protect(channels, tmp_path / "out", small_umed(in_channels=2))
    assert [e.scan_id for e in manifest.scans] == ["p/t2", "p/t1", "a/t2", "a/t1"]
    assert manifest.scans[0].case_scans == ("p/t2", "p/t1") and all(e.measured["linf"] > 0 for e in manifest.scans)
    verify(tmp_path / "out", channels)
    assert [c.images for c in load_cases(tmp_path / "out/protected")] == [c.images for c in load_cases(channels)]
    apply_stored(tmp_path / "out/noise", channels, tmp_path / "again")
    assert tree(tmp_path / "again/protected") == tree(tmp_path / "out/protected")
    restore(tmp_path / "out", tmp_path / "back")
    assert [c.images for c in load_cases(tmp_path / "back")] == [c.images for c in load_cases(channels)]
    for name in tree(tmp_path / "back").keys() - {"datalist.json"}:
        assert raw_bytes(tmp_path / "back" / name) == raw_bytes(channels / name)


def test_flip_byte_changes_a_file(dataset: Path) -> None:
    before = raw_bytes(dataset / "images/a.nii.gz")
    flip_byte(dataset / "images/a.nii.gz", 148)
    after = raw_bytes(dataset / "images/a.nii.gz")
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


FEW_VOXELS = Budget(0.1, fraction=0.05)
SCATTERED = RandomNoise(FEW_VOXELS.epsilon, Everywhere(), distribution="uniform")


def write_images(root: Path, shape: tuple[int, ...], dtype: str, suffix: str) -> Path:
    """Two labeled images; axes beyond those of the label are channels."""
    label = two_classes(shape[: 2 if suffix == ".png" else 3])
    for folder in ("images", "labels"):
        for seed, name in enumerate("ab"):
            voxels, path = random_image(shape, dtype, seed) if folder == "images" else label, root / folder
            path.mkdir(parents=True, exist_ok=True)
            if suffix == ".png":
                Image.fromarray(np.swapaxes(voxels, 0, 1)).save(path / f"{name}{suffix}")
            else:
                write_nifti(path / f"{name}{suffix}", voxels)
    return root


@pytest.mark.parametrize(
    ("shape", "dtype", "suffix"),
    [
        ((21, 18), "uint8", ".png"),
        ((21, 18, 3), "uint8", ".png"),
        (SHAPES[3], "int16", ".nii.gz"),
        (SHAPES[3], "uint16", ".nii"),
        (SHAPES[3], "float32", ".nii.gz"),
        ((*SHAPES[3], 2), "int16", ".nii.gz"),
    ],
)
def test_files_change_at_no_more_voxels_than_the_budget_allows(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, suffix: str
) -> None:
    clean, out = write_images(tmp_path / "clean", shape, dtype, suffix), tmp_path / "out"
    manifest = protect(clean, out, SCATTERED, budget=FEW_VOXELS)
    for entry in manifest.scans:
        moved = stored_voxels(clean / entry.file) != stored_voxels(out / "protected" / entry.output)
        voxels = moved.any(axis=-1) if moved.ndim > len(entry.shape) - 1 else moved
        assert np.count_nonzero(voxels) == voxels.size * 5 // 100
        assert entry.budget == FEW_VOXELS and entry.measured["l0"] == moved.mean() > 0
    verify(out, clean)
    restore(out, tmp_path / "back")
    apply_stored(out / "noise", clean, tmp_path / "again")
    assert tree(tmp_path / "again/noise") == tree(out / "noise")
    for entry in manifest.scans:
        assert np.array_equal(stored_voxels(tmp_path / "back" / entry.output), stored_voxels(clean / entry.file))


def test_the_share_is_checked_on_the_files(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "monai_unlearnable.data.cases.apply_noise", lambda *args, **kw: apply_noise(*args, **{**kw, "budget": BUDGET})
    )
    with pytest.raises(BudgetError, match="images/a: the noise changes .* of the voxels, the budget is 0.05") as caught:
        protect(dataset, tmp_path / "out", SCATTERED, budget=FEW_VOXELS)
    assert caught.value.case == "images/a" and caught.value.value > 0.5 and caught.value.limit == 0.05
    assert not (tmp_path / "out/noise/manifest.json").exists()

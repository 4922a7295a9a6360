# SPDX-License-Identifier: Apache-2.0
"""nnU-Net as a victim: what it is given, what is made of its predictions, and what is said where it fails.

``fake_nnunet.py`` stands in for its commands and checks what they get; the last test is with nnU-Net itself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image

from monai_unlearnable.countermeasures import SharpenLowPassd
from monai_unlearnable.errors import CommandError, InputError, OutputError, UnlearnableError
from monai_unlearnable.evaluation.laboratory import Laboratory
from monai_unlearnable.evaluation.matrix import Matrix
from monai_unlearnable.victims import Classification, Segmentation
from monai_unlearnable.victims.external import NNUNet, commands
from monai_unlearnable.victims.external.commands import ENVIRONMENT
from monai_unlearnable.victims.external.raw import DATASET, RawFolder
from tests.victims import fake_nnunet

SHAPE = (9, 8, 7)
TASK = Segmentation((0, 3, 5), 1)
QUICK = NNUNet(iterations=4, num_validations=2)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that stands in for nnU-Net's, and is named."""
    folder = fake_nnunet.install(tmp_path / "environment")
    monkeypatch.setenv(ENVIRONMENT, str(folder))
    return folder


def save(path: Path, array: np.ndarray) -> str:
    """Write (x, y[, z]) by a library that the package does not use for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(array.T).save(path)
    elif path.name.endswith(".nii.gz"):
        nib.Nifti1Image(array, np.diag([-1.0, 2.0, 1.5, 1.0])).to_filename(path)
    else:
        image = sitk.GetImageFromArray(array.T)
        image.SetSpacing([1.0, 2.0, 1.5][: array.ndim])
        sitk.WriteImage(image, str(path))
    return str(path)


def cases(folder: Path, names: str, ending: str = ".nii.gz", shape: tuple[int, ...] = SHAPE, files: int = 1) -> Any:
    """Cases with the stored label values 0, 3 and 5, whose images are ten times their class."""
    listed = []
    for name in names:
        indices = np.random.default_rng(ord(name)).integers(0, 3, shape)
        images = [save(folder / f"{name}{index}{ending}", (10 * indices).astype(np.uint8)) for index in range(files)]
        label = save(folder / f"{name}-label{ending}", np.array([0, 3, 5], np.uint8)[indices])
        listed.append({"image": images if files > 1 else images[0], "label": label, "case_id": name})
    return listed


def trained(folder: Path, victim: NNUNet = QUICK, ending: str = ".nii.gz", **settings: Any) -> Any:
    task = settings.pop("task", TASK)
    train, test = cases(folder / "data", "abc", ending, **settings), cases(folder / "data", "xy", ending, **settings)
    return victim.train_and_score(task, train, test, folder / "work")


def raw_files(folder: Path) -> dict[str, str]:
    """The files of a raw folder, and the names of those that links lead to."""
    root = folder / DATASET
    files = sorted(path for path in root.rglob("*") if not path.is_dir())
    return {str(path.relative_to(root)): path.resolve().name if path.is_symlink() else "" for path in files}


def stopped(folder: Path, programs: Path, command: str = "nnUNetv2_train", say: str = "", code: int = 1) -> None:
    (programs / "bin" / "fail.json").write_text(json.dumps({"command": command, "say": say, "code": code}))


def test_it_trains_on_the_files_themselves_and_is_scored_on_the_native_grid(tmp_path: Path, programs: Path) -> None:
    result = trained(tmp_path)
    assert result.scores.value == 100
    assert result.scores.by_case == (100.0, 100.0)
    assert result.scores.curve == (0.0, 100.0), "half-way, nothing was learned"
    assert result.scores.curve_iterations == (2, 4)
    assert result.scores.extras["hd95"] == 0
    assert result.scores.final_loss == 0.5
    assert [tuple(output.shape) for output in result.outputs] == [SHAPE, SHAPE]
    work = tmp_path / "work"
    assert {path.name for path in work.iterdir()} == {"log.txt", "predictions", "results", "trainer"}
    (model,) = (work / "results" / "Dataset001_Victim").iterdir()
    assert model.name == "MeasuredTrainer__cpuPlans__3d_fullres"
    assert {path.name for path in (model / "fold_all").iterdir()} == {"checkpoint_final.pth", "progress.json"}
    plan = json.loads((model / "fold_all" / "checkpoint_final.pth").read_text())["plan"]
    assert plan["batch_size"] == 2
    assert plan["architecture"]["arch_kwargs"]["features_per_stage"] == [8, 16, 32, 64]


KINDS: dict[str, tuple[dict[str, Any], str, dict[str, str]]] = {
    ".nii.gz": ({}, ".nii.gz", {"imagesTr/00000_0000.nii.gz": "a0.nii.gz", "labelsTr/00000.nii.gz": ""}),
    ".mha": ({}, ".mha", {"imagesTr/00000_0000.mha": "a0.mha", "labelsTr/00000.mha": ""}),
    ".nrrd": ({}, ".nrrd", {"imagesTr/00000_0000.nrrd": "a0.nrrd", "labelsTr/00000.nrrd": ""}),
    ".png": ({"shape": (9, 8)}, ".png", {"imagesTr/00000_0000.png": "a0.png", "labelsTr/00000.png": ""}),
    ".gipl": ({}, ".nii.gz", {"imagesTr/00000_0000.nii.gz": "", "labelsTr/00000.nii.gz": ""}),
    "2D .mha": ({"shape": (9, 8)}, ".nii.gz", {"imagesTr/00000_0000.nii.gz": "", "labelsTr/00000.nii.gz": ""}),
    "channels": ({"files": 2}, ".nii.gz", {f"imagesTr/00000_000{index}.nii.gz": "" for index in range(2)}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_format_becomes_what_nnunet_reads(tmp_path: Path, kind: str) -> None:
    settings, ending, expected = KINDS[kind]
    suffix = kind[kind.index(".") :] if "." in kind else ".nii.gz"
    train, test = cases(tmp_path / "data", "ab", suffix, **settings), cases(tmp_path / "data", "x", suffix, **settings)
    RawFolder(tmp_path, TASK).write(train, test)
    found = raw_files(tmp_path)
    assert {name: found.get(name) for name in expected} == expected
    per_case = settings.get("files", 1)
    assert len(found) == 2 * per_case + 2 + per_case + 1, "training images, labels, test images, dataset.json"
    dataset = json.loads((tmp_path / DATASET / "dataset.json").read_text())
    assert dataset["file_ending"] == ending
    assert dataset["numTraining"] == 2
    assert dataset["labels"] == {"background": 0, "class 1": 1, "class 2": 2}
    assert len(dataset["channel_names"]) == per_case
    for index in range(2):
        image, label = (
            sitk.ReadImage(str(tmp_path / DATASET / name))
            for name in (f"imagesTr/{index:05d}_0000{ending}", f"labelsTr/{index:05d}{ending}")
        )
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), 10 * sitk.GetArrayFromImage(label))
        assert label.GetSpacing() == image.GetSpacing()


def test_voxels_without_data_do_not_reach_nnunet(tmp_path: Path) -> None:
    train = cases(tmp_path / "data", "ab")
    array = np.full(SHAPE, 10.0, np.float32)
    array[0] = np.nan
    save(Path(train[0]["image"]), array)
    RawFolder(tmp_path, TASK).write(train, [])
    written = tmp_path / DATASET / "imagesTr" / "00000_0000.nii.gz"
    assert not written.is_symlink()
    assert np.isfinite(nib.load(written).get_fdata()).all()
    assert written.with_name("00001_0000.nii.gz").is_symlink()


def test_test_images_get_what_countermeasures_do_without_chance(tmp_path: Path, programs: Path) -> None:
    """And training images the same at each attempt, though it is drawn."""
    settings = {"victims": ["nnunetv2"], "countermeasures": ["sharpen_lowpass"], "num_validations": 1}
    written = []
    for attempt in ("first", "second"):
        laboratory = prepared(tmp_path / attempt, **settings)
        (programs / "bin" / "nnUNetv2_plan_and_preprocess").write_text("#!/bin/false")
        (run,) = laboratory.run().rows
        assert run.status.startswith("failed")
        (raw,) = (tmp_path / attempt / "lab" / "nnunet").rglob(DATASET)
        written.append({path.name: nib.load(path).get_fdata() for path in sorted(raw.rglob("images*/*.nii.gz"))})
        tests = [nib.load(path).get_fdata() for path in sorted(raw.glob("imagesTs/*.nii.gz"))]
    first, second = written
    assert all(np.array_equal(first[name], second[name]) for name in first)
    bench = laboratory.bench
    load = bench.recipe("plain").normalized_images(bench.task)
    for case, found in zip(bench.test, tests, strict=True):
        sample = SharpenLowPassd("image", center=2.0, kept=0.3)(load(case.to_dict()))
        np.testing.assert_allclose(found, sample["image"][0], atol=1e-6)


def test_volumes_with_skewed_axes_get_the_reader_that_takes_them(tmp_path: Path) -> None:
    train = cases(tmp_path / "data", "ab")
    RawFolder(tmp_path, TASK).write(train, [])
    assert "overwrite_image_reader_writer" not in json.loads((tmp_path / DATASET / "dataset.json").read_text())
    for path in (train[0]["image"], train[0]["label"]):
        image = nib.load(path)
        skewed = nib.Nifti1Image(np.asarray(image.dataobj), None)
        skewed.set_sform([[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]], 1)
        skewed.to_filename(path)
    RawFolder(tmp_path, TASK).write(train, [])
    dataset = json.loads((tmp_path / DATASET / "dataset.json").read_text())
    assert dataset["overwrite_image_reader_writer"] == "NibabelIO"


def test_pictures_are_predicted_too(tmp_path: Path, programs: Path) -> None:
    victim = NNUNet(iterations=4, num_validations=1, configuration="2d")
    assert trained(tmp_path, victim, ".png", shape=(9, 8), files=1).scores.value == 100


def test_a_stopped_training_goes_on(tmp_path: Path, programs: Path) -> None:
    stopped(tmp_path, programs, "nnUNetv2_train_half_way", code=-9)
    with pytest.raises(CommandError, match=r"log.txt: nnUNetv2_train was stopped by signal 9 \(SIGKILL\)"):
        trained(tmp_path)
    assert trained(tmp_path).scores.value == 100
    (kept,) = (tmp_path / "work" / "results").rglob("checkpoint_final.pth")
    assert json.loads(kept.read_text())["went_on"] is True
    log = (tmp_path / "work" / "log.txt").read_text()
    assert log.count("nnUNetv2_plan_and_preprocess -d") == 1, "finished stages are not repeated"


FAILURES: dict[str, tuple[type[UnlearnableError], str, int, str]] = {
    "error": (CommandError, "RuntimeError: no CUDA", 1, r"log\.txt: nnUNetv2_predict failed: RuntimeError: no CUDA"),
    "disk": (OutputError, "OSError: [Errno 28] No space left on device", 1, r"work: nnUNetv2_predict: No space left"),
    "memory": (CommandError, "It was likely killed by your OS", 1, "a process of it ended; out of memory"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_command_is_told_in_one_line(tmp_path: Path, programs: Path, failure: str) -> None:
    kind, say, code, told = FAILURES[failure]
    stopped(tmp_path, programs, "nnUNetv2_predict", say, code)
    with pytest.raises(kind, match=told) as caught:
        trained(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_it_cannot_take_is_refused_before_anything_is_written(tmp_path: Path, programs: Path) -> None:
    with pytest.raises(InputError, match="nnU-Net learns to segment"):
        trained(tmp_path, task=Classification(2))
    assert not (tmp_path / "work").exists()
    with pytest.raises(InputError, match="plans no 3d_fullres for these data; it plans 2d$"):
        trained(tmp_path, ending=".png", shape=(9, 8))
    metadata = programs / "known" / "nnunetv2-2.8.1.dist-info" / "METADATA"
    metadata.write_text("Name: nnunetv2\nVersion: 2.5.1\n")
    commands._version.cache_clear()
    with pytest.raises(InputError, match=r"nnU-Net 2\.5\.1 is too old; 2\.8 or newer is needed"):
        trained(tmp_path)
    with pytest.raises(InputError, match="unknown preset"):
        NNUNet(preset="large")


def test_without_nnunet_the_rest_of_the_matrix_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "nothing"))
    laboratory = prepared(tmp_path, victims=["nnunetv2", "UNet"])
    external, network = laboratory.run().rows
    where = f"{tmp_path / 'nothing'}, which {ENVIRONMENT} names"
    assert external.status.startswith(f"failed: nnU-Net is not installed in {where}: install nnunetv2 into")
    assert (network.victim, network.recipe, network.done) == ("UNet", "plain", True)


def test_without_nnunet_there_is_nothing_to_begin_where_no_other_victim_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "nothing"))
    laboratory = prepared(tmp_path, victims=["nnunetv2", "nnunetv2_noda"])
    with pytest.raises(InputError, match="nnU-Net is not installed in .*: install nnunetv2 into"):
        laboratory.run()
    assert not (laboratory.folder / "runs").exists()


def prepared(folder: Path, **settings: Any) -> Laboratory:
    train, test = cases(folder / "data", "abc"), cases(folder / "data", "xy")
    names = [{key: Path(case[key]).name for key in ("image", "label")} for case in (*train, *test)]
    (folder / "data" / "datalist.json").write_text(json.dumps({"training": names[:3], "test": names[3:]}))
    quick: dict[str, Any] = {"iterations": 4, "num_validations": 2, "size": [16] * 3, "width": 2, "device": "cpu"}
    quick |= {"authorized": False, "detectors": False}
    return Laboratory(Matrix.of(dataset_dir=str(folder / "data"), **{**quick, **settings}), folder / "lab")


def test_it_is_a_run_of_the_matrix_like_any_other(tmp_path: Path, programs: Path) -> None:
    settings = {"victims": ["nnunetv2_noda"], "countermeasures": ["none", "gaussian"], "num_validations": 1}
    laboratory = prepared(tmp_path, **settings)
    plain, filtered = laboratory.run().rows
    assert (plain.victim, plain.recipe, plain.countermeasure, plain.score) == ("nnunetv2_noda", "own", "none", 100)
    assert (filtered.countermeasure, filtered.done) == ("gaussian", True)
    folders = list((tmp_path / "lab" / "nnunet").iterdir())
    assert len(folders) == 2
    told = json.loads((folders[0] / "trainer" / "settings.json").read_text())
    assert told == {
        "trainer": "nnUNetTrainerNoDA",
        "iterations": 4,
        "epochs": 4,
        "moments": [],
        "seed": 0,
        "threads": torch.get_num_threads(),
        "device": "cpu",
        "amp": laboratory.matrix.amp,
    }
    (programs / "bin" / "nnUNetv2_train").write_text("#!/bin/false")
    again = Laboratory.open(tmp_path / "lab").run().rows
    assert [row.score for row in again] == [plain.score, filtered.score], "found, not trained again"


def test_finished_runs_are_found_without_the_program_and_after_an_upgrade(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laboratory = prepared(tmp_path, victims=["nnunetv2"])
    (first,) = laboratory.run().rows
    assert first.program_version == "2.8.1"
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "nothing"))
    assert Laboratory.open(laboratory.folder).run().rows == [first]
    monkeypatch.setenv(ENVIRONMENT, str(programs))
    (programs / "known" / "nnunetv2-2.8.1.dist-info" / "METADATA").write_text("Name: nnunetv2\nVersion: 2.9\n")
    commands._version.cache_clear()
    assert Laboratory.open(laboratory.folder).run().rows == [first], "not trained again"


def test_runs_that_are_not_found_are_counted(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    laboratory = prepared(tmp_path, victims=["nnunetv2"])
    (first,) = laboratory.run().rows
    (file,) = (laboratory.folder / "runs").glob("*.json")
    content = json.loads(file.read_text())
    content.pop("program_version")  # as rows were written before
    file.write_text(json.dumps(content))
    assert [row.score for row in Laboratory.open(laboratory.folder).results().rows] == [first.score]
    assert not caplog.text
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "nothing"))
    assert Laboratory.open(laboratory.folder).results().rows == []
    assert f"1 run(s) of nnU-Net are not shown: other data or settings, or a version that {ENVIRONMENT}" in (
        caplog.text
    )


def test_a_failed_run_is_trained_where_the_program_is_found_at_last(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laboratory = prepared(tmp_path, victims=["nnunetv2", "UNet"])
    with monkeypatch.context() as without:
        without.setenv(ENVIRONMENT, str(tmp_path / "nothing"))
        failed, network = laboratory.run().rows
    done, _ = Laboratory.open(laboratory.folder).run().rows
    assert failed.status.startswith("failed: nnU-Net is not installed") and done.done
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "nothing"))
    assert Laboratory.open(laboratory.folder).results().rows == [done, network]


def test_recipes_that_are_named_train_the_usual_network_too(tmp_path: Path, programs: Path) -> None:
    def kinds(**settings: Any) -> list[tuple[str, str]]:
        return [(run.victim, run.recipe) for run in prepared(tmp_path, **settings).runs()]

    assert kinds(victims=["nnunetv2"]) == [("nnunetv2", "own")]
    assert kinds(victims=["nnunetv2"], recipes=["mirror"]) == [("UNet", "mirror"), ("nnunetv2", "own")]
    assert kinds(victims=["BasicUNet", "nnunetv2"]) == [("BasicUNet", "plain"), ("nnunetv2", "own")]
    assert kinds() == [("UNet", "plain")]


def test_the_key_of_a_run_holds_what_decides_on_its_result(tmp_path: Path, programs: Path) -> None:
    def key(**settings: Any) -> str:
        laboratory = prepared(tmp_path, **{"victims": ["nnunetv2"], **settings})
        (run,) = laboratory.runs()
        return laboratory.bench.key(run, laboratory.sources["clean"])

    assert key() == key(width=16, batch_size=8), "which are settings of networks of this program"
    others = ({"iterations": 8}, {"seeds": [1]}, {"victims": ["nnunetv2_noda"]}, {"countermeasures": ["gaussian"]})
    different = [key(), *(key(**settings) for settings in others)]
    (programs / "known" / "nnunetv2-2.8.1.dist-info" / "METADATA").write_text("Name: nnunetv2\nVersion: 2.9\n")
    commands._version.cache_clear()  # of another version from here on
    assert len({*different, key()}) == 6


@pytest.mark.parametrize("iterations", [1, 7, 40, 500, 20_000])
def test_a_training_has_epochs_like_nnunets_and_evenly_spaced_moments(iterations: int) -> None:
    moments = NNUNet(iterations=iterations, num_validations=5).moments
    epochs = moments[-1]
    assert set(np.diff((0, *moments))) == {moments[0]}
    assert iterations / epochs <= 250
    assert epochs == iterations if iterations < 5 else len(moments) == 5


@pytest.mark.nnunet
@pytest.mark.skipif(not os.environ.get(ENVIRONMENT), reason=f"{ENVIRONMENT} names no environment with nnU-Net")
def test_nnunet_itself_trains_and_predicts(tmp_path: Path) -> None:
    victim = NNUNet(iterations=2, num_validations=2, amp=True)
    result = trained(tmp_path, victim, shape=(20, 18, 16))
    assert result.scores.curve_iterations == (1, 2) and result.scores.curve[1] == result.scores.value
    progress = next((tmp_path / "work" / "results").rglob("progress.json"))
    assert len(json.loads(progress.read_text())["losses"]) == 2
    assert np.isfinite(result.scores.final_loss)
    assert [tuple(output.shape) for output in result.outputs] == [(20, 18, 16)] * 2
    (model,) = (tmp_path / "work" / "results").rglob("checkpoint_final.pth")
    assert model.parent.parent.name == "MeasuredTrainer__cpuPlans__3d_fullres"

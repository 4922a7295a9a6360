# SPDX-License-Identifier: Apache-2.0
"""The laboratory reads folders, trains each run once, and says what could not be trained."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from monai_unlearnable import __version__
from monai_unlearnable.budget import Budget
from monai_unlearnable.cli import main
from monai_unlearnable.countermeasures.own_scans import read_scans
from monai_unlearnable.data import Case, read_scan
from monai_unlearnable.errors import DatalistError, InputError, LabelError, OutOfMemoryError, OutputError, ScanError
from monai_unlearnable.evaluation import reporting, runs
from monai_unlearnable.evaluation.laboratory import Laboratory
from monai_unlearnable.evaluation.matrix import Matrix, Run
from monai_unlearnable.evidence import load_entries
from monai_unlearnable.metrics import measure_fidelity
from monai_unlearnable.proof import prepare_laboratory
from monai_unlearnable.report.fidelity import detector_table
from monai_unlearnable.utils.files import file_digest
from tests.helpers import protect, tree, write_class_folders, write_datalist, write_dataset
from tests.processes import forking

QUICK: dict[str, Any] = {
    "width": 2,
    "iterations": 4,
    "batch_size": 2,
    "num_validations": 2,
    "size": [16, 16, 16],
    "validation_fraction": 0.25,
    "authorized": False,
    "detectors": False,
}
CATALOG = """
countermeasures:
  blur:
    - _target_: GaussianSmoothd
      keys: image
      sigma: 1.0
  broken:
    - _target_: Lambdad
      keys: image
      func: "$lambda image: image.no_such_method()"
recipes:
  wild:
    _target_: monai_unlearnable.victims.Recipe
    size: $tuple(@size)
    iterations: 4
    batch_size: 2
    learning_rate: 1.0e+30
    name: wild
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("laboratory")
    data = write_dataset(root / "data", names=("a", "b", "c", "d"))
    test = write_dataset(root / "test", names=("x", "y"), first_seed=10)
    protect(data, root / "out", label_values=(0, 1, 2))
    (root / "catalog.yaml").write_text(CATALOG)
    return {"data": data, "test": test, "out": root / "out", "catalog": root / "catalog.yaml"}


@pytest.fixture(scope="module")
def finished(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    """A laboratory that has run, on originals, umed and control. Shared: read only."""
    laboratory = prepared(folders, tmp_path_factory.mktemp("finished"))
    laboratory.run()
    return laboratory


def prepared(folders: dict[str, Path], lab: Path, **settings: Any) -> Laboratory:
    known = {"dataset_dir": folders["data"], "test_dir": str(folders["test"])}
    known |= {"protected": {"umed": folders["out"]}, "catalog": str(folders["catalog"])}
    return prepare_laboratory(output_dir=lab, **{**known, **QUICK, **settings})


def count_trainings(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    trained: list[Run] = []
    original = runs._train

    def counted(bench: Any, run: Run, source: Any) -> Any:
        trained.append(run)
        return original(bench, run, source)

    monkeypatch.setattr(runs, "_train", counted)
    return trained


def test_matrix_with_control_and_countermeasures(folders: dict[str, Path], tmp_path: Path) -> None:
    laboratory = prepared(folders, tmp_path, countermeasures=["none", "blur"], seeds=[0, 1])
    results = laboratory.run()
    assert len(results.rows) == 3 * 2 * 2
    assert {(row.data, row.training) for row in results.rows} == {
        ("clean", "clean"),
        ("umed", "protected"),
        ("random noise", "random noise"),
    }
    assert all(row.done and row.metric == "Dice" and row.selected is not None for row in results.rows)
    assert set(results.figures) == {"umed", "random noise"}
    assert set(results.regions["umed"]) == {"1", "2"}
    assert results.regions["umed"]["1"]["volume"] == 0
    paired = [row.by_case for row in results.rows]
    assert {len(cases) for cases in paired} == {2}


def test_figures_are_those_of_the_files(folders: dict[str, Path], tmp_path: Path) -> None:
    laboratory = prepared(folders, tmp_path, control=False)
    source = laboratory.sources["umed"]
    measured = []
    for original, case in zip(laboratory.bench.originals.cases, source.cases, strict=True):
        first, second = read_scan(original.root / original.images[0]), read_scan(case.root / case.images[0])
        measured.append(measure_fidelity(first, second, first.window(source.window))["psnr"])
    assert laboratory.figures(source)[0]["psnr"] == pytest.approx(np.mean(measured))


def test_scans_that_were_spared_do_not_flatter_the_figures(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", names=("a", "b", "unperturbed"), empty=("unperturbed",))
    protect(data, tmp_path / "out", label_values=(0, 1, 2))
    settings = {
        **QUICK,
        "control": False,
        "test_dir": str(write_dataset(tmp_path / "test", names=("t",), first_seed=30)),
    }
    laboratory = prepare_laboratory(data, tmp_path / "lab", {"umed": tmp_path / "out"}, **settings)
    figures, _, scans = laboratory.figures(laboratory.sources["umed"])
    assert [Path(name).name for name, one in scans.items() if not one["l0"]] == ["unperturbed"]
    psnr = []
    for name in ("a", "b"):
        clean, protected = (
            read_scan(root / "images" / f"{name}.nii.gz") for root in (data, tmp_path / "out/protected")
        )
        low, high = np.percentile(clean.voxels, [0.5, 99.5])
        errors = (protected.voxels.astype(float) - clean.voxels) / (high - low)
        psnr.append(-10 * np.log10(np.square(errors).mean()))
    assert figures["psnr"] == pytest.approx(np.mean(psnr), abs=1e-3)
    assert figures["changed"] == pytest.approx(2 / 3)


def test_a_run_is_trained_once_and_again_when_its_inputs_change(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = count_trainings(monkeypatch)
    first = prepared(folders, tmp_path).run()
    assert len(trained) == 3
    assert Laboratory.open(tmp_path).run() == first
    assert len(trained) == 3
    next(iter((tmp_path / "runs").glob("*.json"))).unlink()
    assert Laboratory.open(tmp_path).run().to_json() != ""
    assert len(trained) == 4
    prepared(folders, tmp_path, iterations=6).run()
    assert len(trained) == 7


def test_more_validations_are_another_training(folders: dict[str, Path], tmp_path: Path) -> None:
    """A model picked among four looks is not the one picked among two."""
    made = [prepared(folders, tmp_path, num_validations=looks, protected={}) for looks in (2, 4)]
    rows = [laboratory.run().rows[0] for laboratory in made]
    assert [len(row.curve) for row in rows] == [2, 4]


def test_whatever_decides_on_a_score_makes_another_run(folders: dict[str, Path], tmp_path: Path) -> None:
    def key(**settings: Any) -> str:
        laboratory = prepared(folders, tmp_path, control=False, **settings)
        run = laboratory.runs()[-1]
        return laboratory.bench.key(run, laboratory.sources[run.data])

    other, third = (
        write_dataset(tmp_path / name, names=("x", "y"), first_seed=seed)
        for name, seed in (("other", 20), ("third", 30))
    )
    changes: list[dict[str, Any]] = [
        *(
            {"num_validations": 4},
            {"validation_fraction": 0.5},
            {"iterations": 6},
            {"batch_size": 3},
            {"learning_rate": 0.1},
        ),
        *({"width": 4}, {"size": [16, 16, 24]}, {"seeds": [1]}, {"victims": ["DynUNet"]}, {"recipes": ["nnunet"]}),
        *({"countermeasures": ["blur"]}, {"test_dir": str(other)}, {"protected": {}}),
        *({"countermeasures": ["denoiser"]}, {"countermeasures": ["denoiser"], "other_dir": str(other)}),
        {"countermeasures": ["denoiser"], "other_dir": str(third)},
    ]
    keys = {str(settings): key(**settings) for settings in ({}, *changes)}
    shared = [name for name, found in keys.items() if list(keys.values()).count(found) > 1]
    assert not shared
    assert key() == keys["{}"] == key(other_dir=str(other))  # which no other countermeasure looks at


def test_scans_of_the_exploiters_own_are_no_test_scans(folders: dict[str, Path], tmp_path: Path) -> None:
    settings = {"control": False, "other_dir": str(folders["test"])}
    prepared(folders, tmp_path, **settings)  # nothing learns from them
    with pytest.raises(DatalistError, match="images/x.* is in other_dir, the exploiter's own data, and in the test"):
        prepared(folders, tmp_path, countermeasures=["denoiser"], **settings)


def test_settings_that_are_refused_leave_those_of_an_earlier_call(folders: dict[str, Path], tmp_path: Path) -> None:
    laboratory = prepared(folders, tmp_path, control=False)
    laboratory.run(part=(3, 4))
    wrong = dataclasses.replace(laboratory.matrix, victims=("VNetty",))
    with pytest.raises(InputError, match="VNetty"):
        Laboratory(wrong, tmp_path).run()
    assert Laboratory.open(tmp_path).matrix == laboratory.matrix


@pytest.mark.parametrize("recipe", ["plain", "nnunet"])
def test_own_scans_have_the_intensity_of_the_recipe(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.setattr("monai_unlearnable.evaluation.bench.prepare", lambda steps, material: material)
    bench = prepared(folders, tmp_path).bench
    material: Any = bench.prepare("none", bench.recipe(recipe), bench.test, 0)
    victims = [material.load(case)["image"] for case in material.cases]
    own = read_scans(folders["test"], victims[0], material.intensity, None, 0)
    assert all(any(scan.equal(image) for image in victims) for scan in own)


def test_parts_fraction_the_work(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = count_trainings(monkeypatch)
    for part in ((0, 2), (1, 2)):
        results = prepared(folders, tmp_path).run(part)
    assert sorted(run.data for run in trained) == ["clean", "random noise", "umed"]
    assert len(results.rows) == 3


def test_repeats_to_the_same_scores(folders: dict[str, Path], finished: Laboratory, tmp_path: Path) -> None:
    first, second = finished.results().rows, prepared(folders, tmp_path, control=False).run().rows
    assert [row.by_case for row in first[:2]] == [row.by_case for row in second]


def test_what_diverges_or_fails_does_not_stop_the_rest(folders: dict[str, Path], tmp_path: Path) -> None:
    settings = {"recipes": ["wild", "plain"], "countermeasures": ["broken", "none"], "control": False}
    results = prepared(folders, tmp_path, **settings).run()
    status = {(row.recipe, row.countermeasure): row.status for row in results.rows if row.data == "umed"}
    assert status["plain", "none"] == "done"
    assert status["wild", "none"] == "diverged"
    assert status["plain", "broken"].startswith("failed: ")
    assert "no_such_method" in status["plain", "broken"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TypeError("no such input"), "TypeError: no such input"),
        (MemoryError(), "MemoryError"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_whatever_a_network_raises_does_not_stop_the_rest(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    train = runs._train

    def raising(bench: Any, run: Run, source: Any) -> Any:
        if run.data == "umed":
            raise error
        return train(bench, run, source)

    monkeypatch.setattr(runs, "_train", raising)
    results = prepared(folders, tmp_path, control=False).run()
    assert [row.status for row in results.rows] == ["done", f"failed: {words}"]


class WaitingPool(ThreadPoolExecutor):
    """Threads in place of processes. What has begun in them goes on when the pool is shut down."""

    closed = threading.Event()

    def __init__(self, workers: int, *start: Any) -> None:
        super().__init__(workers)
        self.closed.clear()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=cancel_futures)
        self.closed.set()
        super().shutdown(wait)


def fill(folder: str, run: Run) -> None:
    """A training that leaves a file and waits; the first finds no room for a file."""
    if not run.seed:
        raise OutputError("no space left", file=folder)
    (Path(folder) / f"{run.seed}.begun").touch()
    WaitingPool.closed.wait(timeout=60)


def test_where_results_cannot_be_kept_no_further_training_begins(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monai_unlearnable.evaluation.laboratory.ProcessPoolExecutor", WaitingPool)
    monkeypatch.setattr("monai_unlearnable.evaluation.laboratory._train", fill)
    with pytest.raises(OutputError, match="no space left"):
        prepared(folders, tmp_path, control=False, protected={}, seeds=16).run(workers=2)
    assert len(list(tmp_path.glob("*.begun"))) <= 2  # one beside the first, one perhaps before its error is noticed


def end(folder: str, run: Run) -> None:
    """A training that the system ends."""
    os._exit(9)


def test_a_process_that_the_system_ends_is_one_line(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = forking()
    monkeypatch.setattr("multiprocessing.get_context", lambda method: context)
    monkeypatch.setattr("monai_unlearnable.evaluation.laboratory._train", end)
    with pytest.raises(OutOfMemoryError, match="Give fewer workers"):
        prepared(folders, tmp_path, control=False).run(workers=2)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"victims": ["VNetty"]}, "unknown name 'VNetty' among networks; did you mean 'UNet'"),
        ({"recipes": ["nothing"]}, "unknown name 'nothing' among recipes"),
        ({"countermeasures": ["prayer"]}, "unknown name 'prayer' among countermeasures"),
        ({"countermeasures": 3}, "give a list"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"validation_fraction": "x"}, "validation_fraction is 'x', not a number"),
        ({"learning_rate": 0}, "learning_rate is 0, not above 0"),
        ({"seeds": 0}, "seeds is 0; give 1 or more"),
        ({"victims": ["UNet", ["UNet"]]}, r"victims are \['UNet', \['UNet'\]\]; give names"),
        ({"countermeasures": None}, "countermeasures are none at all"),
        ({"seeds": ["a"]}, r"seeds is \['a'\], not a list of whole numbers"),
        ({"width": 1.5}, "width is 1.5, not a whole number"),
        ({"size": [8, 0, 8]}, "a number in size is 0"),
        ({"size": [16, 16]}, r"size is \[16, 16\], and the scans have 3 dimensions"),
        ({"size": [9, 9, 9]}, "UNet cannot take images of 9 x 9 x 9; 16 x 16 x 16 would do"),
        ({"victims": ["UNet", "ResNet18"]}, "ResNet18 gives a class for each image, and these data have label maps"),
        ({"detectors": "x"}, "detectors is True or False, not 'x'"),
        ({"test_dir": 3}, "test_dir is 3, .*given as ./NAME"),
        ({"device": "x"}, "unknown device 'x'"),
        ({"protected": {"umed": ["x"]}}, r"protected 'umed' is \['x'\]"),
        ({"protected": {"clean": "x"}}, "cannot be called"),
        ({"catalog": "nowhere.yaml"}, "nowhere.yaml"),
    ],
)
def test_wrong_settings(folders: dict[str, Path], tmp_path: Path, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        prepared(folders, tmp_path, **settings)
    assert not any(tmp_path.iterdir()), "nothing is made or trained"


def test_bad_data(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DatalistError, match="in the training data and in the test data"):
        prepared(folders, tmp_path, test_dir=str(folders["data"])).run()
    copied = write_dataset(tmp_path / "copied", names=("x", "y"), first_seed=10)
    shutil.copy(folders["data"] / "images" / "b.nii.gz", copied / "images" / "y.nii.gz")
    with pytest.raises(DatalistError, match=r"images/y, .*in the training data and in the test data.* images/b,"):
        prepared(folders, tmp_path / "lab", test_dir=str(copied)).run()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatalistError, match="no cases found"):
        prepared(folders, tmp_path / "lab", test_dir=str(tmp_path / "empty")).run()
    other = shutil.copytree(folders["out"] / "protected", tmp_path / "other")
    (other / "datalist.json").unlink()
    (other / "images" / "c.nii.gz").unlink()
    with pytest.raises(DatalistError, match="not in the other data"):
        prepared(folders, tmp_path / "lab", protected={"other": str(other)}).run()


def test_data_without_anything_to_learn_or_to_score_are_found_before_the_work(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    empty = write_dataset(tmp_path / "empty", names=("x", "y"), empty=("x", "y"), first_seed=10)
    with pytest.raises(LabelError, match="the labels of all test cases are background"):
        prepared(folders, tmp_path / "lab", test_dir=str(empty), control=False)
    with pytest.raises(LabelError, match="the labels of all training cases are background"):
        prepared(folders, tmp_path / "lab", dataset_dir=empty, protected={})
    flat = write_dataset(tmp_path / "flat", dims=2, suffix=".png", dtype="uint8")
    with pytest.raises(ScanError, match="in 2D, where the training cases have 1 channel.* in 3D"):
        prepared(folders, tmp_path / "lab", test_dir=str(flat))


@pytest.mark.parametrize("recipe", ["plain", "weight_recovery"])
def test_cases_without_anything_to_score_are_only_trained_on(tmp_path: Path, recipe: str) -> None:
    names = ("a", "b", "c", "d")
    write_dataset(tmp_path / "data", names=names, empty=("a", "d"))
    write_dataset(tmp_path / "test", names=("x", "y"), first_seed=10)
    settings: dict[str, Any] = {**QUICK, "validation_fraction": 0.5, "recipes": [recipe]}
    laboratory = prepare_laboratory(tmp_path / "data", tmp_path / "lab", test_dir=str(tmp_path / "test"), **settings)
    parts = laboratory.bench.split(laboratory.bench.originals.cases)
    assert [[case.case_id.removeprefix("images/") for case in part] for part in parts] == [["a", "c", "d"], ["b"]]
    (row,) = laboratory.run().rows
    assert row.status == "done"


def test_data_protected_by_other_code(folders: dict[str, Path], tmp_path: Path) -> None:
    other = shutil.copytree(folders["out"] / "protected", tmp_path / "other")
    laboratory = prepared(folders, tmp_path / "lab", protected={"other": str(other)})
    assert list(laboratory.sources) == ["clean", "other"]  # the epsilon is not known: there is no control
    ours = prepared(folders, tmp_path / "lab2", control=False)
    assert laboratory.sources["other"].digest == ours.sources["umed"].digest
    assert laboratory.run().figures["other"]["psnr"] == pytest.approx(ours.figures(ours.sources["umed"])[0]["psnr"])


def test_one_run_alone(finished: Laboratory) -> None:
    rows = finished.results().rows
    words = rows[-1].command.split()
    assert words[:4] == ["python", "-m", "monai_unlearnable", "run"]
    before = tree(finished.folder)
    run = Run(rows[-1].data, "UNet", "plain", "none", 0)
    assert finished.train(run).score == rows[-1].score
    assert tree(finished.folder) == before


def test_predictions_are_kept_for_pictures(finished: Laboratory) -> None:
    stored = np.load(finished.pictures_of(finished.runs()[0]))  # type: ignore[arg-type]
    assert stored["image0"].shape == stored["truth0"].shape == stored["prediction0"].shape == (11, 14, 9)
    assert 0 <= stored["image0"].min() < stored["image0"].max() <= 1


def test_pictures_of_predictions_lie_as_the_test_scans_do(
    finished: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(reporting, "prediction_montage", lambda *arguments: asked.append(arguments) or b"")
    assert list(reporting._predictions(finished, 2)) == ["prediction-1", "prediction-2"]
    for (image, *_, affine, is_placed), case in zip(asked, finished.bench.test, strict=True):
        scan = read_scan(case.root / case.images[0])
        assert image.shape == scan.spatial_shape and is_placed
        np.testing.assert_array_equal(affine, scan.affine)


def test_an_authorized_model_sees_clean_and_protected_scans(folders: dict[str, Path], tmp_path: Path) -> None:
    laboratory = prepared(folders, tmp_path, authorized=True, iterations=20)
    found = laboratory.run().authorized
    assert [(entry["data"], entry["victim"]) for entry in found] == [("umed", "UNet")]
    assert found[0]["clean"] != found[0]["protected"]
    assert laboratory.results().authorized == found


def test_an_authorized_model_is_scored_on_other_scans_than_it_learned(tmp_path: Path) -> None:
    """What every other scan teaches is wrong of the rest: whoever has learned it by heart fails there altogether."""
    rng = np.random.default_rng(0)
    for name, count in (("data", 24), ("test", 4)):
        entries = []
        for index in range(count):
            target = index // 2 % 2
            image = rng.integers(0, 60, (16, 16), "uint8")
            image[4:12, 4:12] += np.uint8(150 * (target ^ index % 2))
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / name / f"{name}{index:02}.png")
            entries.append({"image": f"{name}{index:02}.png", "label": target})
        write_datalist(tmp_path / name, entries)
    shutil.copytree(tmp_path / "data", tmp_path / "other")
    settings: dict[str, Any] = {**QUICK, "size": [16, 16], "victims": ["ResNet18"], "iterations": 40, "batch_size": 8}
    settings |= {"test_dir": str(tmp_path / "test"), "originals": False, "authorized": True}
    protected = {"other": tmp_path / "other"}
    (found,) = prepare_laboratory(tmp_path / "data", tmp_path / "lab", protected, **settings).run().authorized
    assert found["clean"] < 10 and found["protected"] < 10


def test_an_authorized_model_learns_from_all_classes_where_they_take_turns(tmp_path: Path) -> None:
    for name, count in (("data", 24), ("test", 4)):
        entries = []
        for index in range(count):
            image = np.random.default_rng([count, index]).integers(0, 60, (16, 16), "uint8")
            image[4:12, 4:12] += np.uint8(150 * (index % 2))
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / name / f"{name}{index:02}.png")
            entries.append({"image": f"{name}{index:02}.png", "label": index % 2})
        write_datalist(tmp_path / name, entries)
    shutil.copytree(tmp_path / "data", tmp_path / "other")
    settings: dict[str, Any] = {**QUICK, "size": [16, 16], "victims": ["ResNet18"], "iterations": 60, "batch_size": 8}
    settings |= {"test_dir": str(tmp_path / "test"), "originals": False, "authorized": True}
    protected = {"other": tmp_path / "other"}
    (found,) = prepare_laboratory(tmp_path / "data", tmp_path / "lab", protected, **settings).run().authorized
    assert found["clean"] == found["protected"] > 60  # 0 where it learned one class, and was asked for the other


def test_halves_hold_each_class_and_each_kind_of_label() -> None:
    def cases(*targets: int | None) -> list[Case]:
        return [Case(str(place), Path(), (f"{place}.png",), None, target) for place, target in enumerate(targets)]

    assert runs._halves(cases(0, 1, 0, 1, 0, 1), ()) == ([0, 3, 4], [1, 2, 5])
    assert runs._halves(cases(*[None] * 6), ()) == ([0, 2, 4], [1, 3, 5])
    assert runs._halves(cases(*[None] * 4), ("1", "3")) == ([0, 1], [2, 3])


def test_detectors_tell_strong_noise_from_none(folders: dict[str, Path], tmp_path: Path) -> None:
    found = prepared(folders, tmp_path, detectors=True, control=False).run().detectors
    assert set(found) == {"umed"}
    assert all(len(numbers) == 3 for numbers in found["umed"].values())
    assert "protected from clean scans (linear)" in found["umed"]


def test_an_area_that_is_not_known_is_a_dash(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_classify", lambda *arguments: {"labels (linear)": [math.nan] * 3})
    laboratory = prepared(folders, tmp_path, detectors=True, control=False)
    assert detector_table(laboratory.results()).rows == [("umed", "–")]


def test_the_control_is_kept_while_it_fits(folders: dict[str, Path], tmp_path: Path) -> None:
    manifest = tmp_path / "control" / "noise" / "manifest.json"
    assert prepared(folders, tmp_path).sources
    written = manifest.stat().st_mtime_ns
    assert prepared(folders, tmp_path).sources["random noise"].epsilon == pytest.approx(0.1)
    assert manifest.stat().st_mtime_ns == written
    protect(folders["data"], tmp_path / "weak", budget=Budget(0.05), label_values=(0, 1, 2))
    weak = {"weak": str(tmp_path / "weak")}
    assert prepared(folders, tmp_path, protected=weak).sources["random noise"].epsilon == pytest.approx(0.05)


def test_all_countermeasures_are_those_of_the_catalog(folders: dict[str, Path], tmp_path: Path) -> None:
    names = prepared(folders, tmp_path, countermeasures="all").matrix.countermeasures
    assert {"none", "jpeg", "blur", "broken"} < set(names)


def test_what_is_named_twice_is_trained_once() -> None:
    twice = Matrix.of(dataset_dir="x", victims="UNet,UNet", recipes=["plain", "plain"], seeds=[0, 1, 0])
    assert [run.seed for run in twice.runs(["clean"])] == [0, 1]


def test_numbers_of_numpy_are_kept_as_numbers(tmp_path: Path) -> None:
    numbers = {"seeds": np.arange(2), "size": np.array([8, 8]), "iterations": np.int64(5)}
    given = Matrix.of(dataset_dir="x", learning_rate=np.float32(0.5), **numbers)
    given.save(tmp_path)
    assert Matrix.load(tmp_path) == given and given.size == (8, 8)


def test_a_path_is_kept_as_text(tmp_path: Path) -> None:
    given = Matrix.of(dataset_dir=tmp_path / "x", test_dir=tmp_path / "test", weights=Path("w.pt"))
    given.save(tmp_path)
    assert Matrix.load(tmp_path) == given and given.test_dir == str(tmp_path / "test")


def test_settings_are_kept_without_paths(folders: dict[str, Path], finished: Laboratory, tmp_path: Path) -> None:
    finished.matrix.save(tmp_path)
    assert Matrix.load(tmp_path) == finished.matrix
    settings = json.dumps(finished.results().settings)
    assert str(folders["data"].parent) not in settings


def test_settings_tell_what_the_exploiter_brings(folders: dict[str, Path], tmp_path: Path) -> None:
    weights, own = tmp_path / "w.pt", write_dataset(tmp_path / "own", names=("x", "y"), first_seed=20)
    weights.write_bytes(b"weights")
    settings = {"weights": str(weights), "other_dir": str(own), "control": False, "protected": {}}
    settings |= {"recipes": ["plain", "finetune"], "countermeasures": ["none", "denoiser"]}
    brought = prepared(folders, tmp_path / "lab", **settings).results().settings["brought_sha256"]
    assert brought["weights"] == {"finetune": file_digest(weights)}
    assert list(brought["own_scans"]) == ["denoiser"]
    assert "brought_sha256" not in prepared(folders, tmp_path / "lab", control=False).results().settings


def test_folders_of_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 4)):
        for index in range(count):
            path = tmp_path / part / "bd"[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 90, (20, 20), "uint8") + np.uint8(120 * (index % 2))).save(path)
    other = shutil.copytree(tmp_path / "train", tmp_path / "other")
    settings: dict[str, Any] = {**QUICK, "size": [16, 16], "victims": ["ResNet18"], "recipes": ["plain", "nnunet"]}
    settings["test_dir"] = str(tmp_path / "test")
    results = prepare_laboratory(tmp_path / "train", tmp_path / "lab", {"other": other}, **settings).run()
    assert [row.status for row in results.rows] == ["done"] * 4
    assert {(row.metric, row.chance) for row in results.rows} == {("balanced accuracy", 50.0)}
    assert all(0 <= row.extras["auc"] <= 100 for row in results.rows)
    assert results.rows[0].score == dataclasses.replace(results.rows[1]).score  # the same files, the same model


def test_classes_of_test_cases_are_those_of_the_training_with_the_same_names(tmp_path: Path) -> None:
    settings: dict[str, Any] = {**QUICK, "size": [16, 16], "victims": ["ResNet18"]}
    write_class_folders(tmp_path / "train", counts=(2, 2, 2))
    write_class_folders(tmp_path / "test", counts=(1, 0, 2), first_seed=10)
    known = prepare_laboratory(tmp_path / "train", tmp_path / "lab", test_dir=str(tmp_path / "test"), **settings)
    assert [case.target for case in known.bench.test] == [0, 2, 2]
    write_class_folders(tmp_path / "more", counts=(1, 1, 1, 1), first_seed=20)
    with pytest.raises(
        LabelError, match=r"d/23, .*d/23\.png: the class 'd' is none of the classes of the training cases"
    ):
        prepare_laboratory(tmp_path / "train", tmp_path / "new", test_dir=str(tmp_path / "more"), **settings)
    write_datalist(tmp_path / "more", [{"image": "a/20.png", "label": 0}, {"image": "d/23.png", "label": 3}])
    with pytest.raises(LabelError, match="d/23, .*class 3 is in no training case; leave its cases out"):
        prepare_laboratory(tmp_path / "train", tmp_path / "new", test_dir=str(tmp_path / "more"), **settings)


@pytest.mark.parametrize(
    ("victim", "reason"),
    [
        ("UNet", "UNet gives a class for each voxel, and these data have a class for each image"),
        ("nnunetv2", "nnU-Net learns to segment, and these data have a class for each image"),
    ],
)
def test_victims_that_segment_are_refused_where_images_have_classes(tmp_path: Path, victim: str, reason: str) -> None:
    for part, seed in (("train", 0), ("test", 1)):
        write_class_folders(tmp_path / part, first_seed=10 * seed)
    settings: dict[str, Any] = {**QUICK, "size": [16, 16], "victims": ["ResNet18", victim]}
    with pytest.raises(InputError, match=reason):
        prepare_laboratory(tmp_path / "train", tmp_path / "lab", test_dir=str(tmp_path / "test"), **settings)


def test_images_that_are_black_but_for_a_spot(tmp_path: Path) -> None:
    """Their percentiles are all zero, which says nothing against 8-bit images."""
    for index in range(6):
        path = tmp_path / "data" / "bd"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.zeros((30, 30), np.uint8)
        image[index, index] = 255
        Image.fromarray(image).save(path)
    settings: dict[str, Any] = {**QUICK, "size": [16, 16], "victims": ["ResNet18"]}
    made = Matrix(dataset_dir=str(tmp_path / "data"), test_dir=str(tmp_path / "data"), **settings)
    assert Laboratory(made, tmp_path / "lab").bench.summary.num_classes == 2


def test_evidence_is_recorded_without_training(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    laboratory = prepared(folders, tmp_path / "lab", authorized=True, detectors=True)
    for run in laboratory.runs()[:2]:  # originals and umed; the control was not trained yet
        laboratory.matrix.save(laboratory.folder)
        laboratory.train(run)
    trained = count_trainings(monkeypatch)
    assert main(["evidence", "record", str(laboratory.folder), "--dataset", "phantoms", "--remark", "Short."]) == 0
    ((name, kept),) = load_entries(tmp_path / "lab" / "evidence").items()
    assert not trained and f"recorded: {name}\n1 entries" in capsys.readouterr().out
    assert (kept.dataset, kept.method, kept.epsilon) == ("phantoms", "umed", "25.5/255")
    assert kept.dataset_sha256 == laboratory.bench.originals.digest
    assert kept.clean is not None and kept.random is None
    assert (kept.iterations, kept.version) == (4, __version__)
    assert kept.remark == "Short." and name.startswith("phantoms-umed-25.5_255-UNet-plain-4")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ("short", 500)),
        ({"length": "standard"}, ("standard", 2500)),
        ({"length": "long", "iterations": 10000}, ("long", 10000)),
        ({"iterations": 2500}, ("standard", 2500)),
        ({"iterations": 777}, (None, 777)),
    ],
)
def test_a_length_is_a_name_for_a_number_of_iterations(settings: dict[str, Any], expected: tuple[str, int]) -> None:
    matrix = Matrix.of(dataset_dir="X", **settings)
    assert (matrix.length, matrix.iterations) == expected
    assert dataclasses.replace(matrix, width=4).iterations == expected[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": "long", "iterations": 500}, "length 'long' means 10000 iterations, and iterations are 500"),
        ({"length": "longest"}, "unknown length 'longest'; known are short, standard, long"),
        ({"iterations": 0}, "iterations is 0; give 1 or more"),
    ],
)
def test_lengths_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Matrix.of(dataset_dir="X", **settings)


def test_the_precision_is_kept_beside_the_results_and_makes_another_run(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    made = [prepared(folders, tmp_path / str(amp), control=False, protected={}, amp=amp) for amp in (False, True)]
    keys = {lab.bench.key(run, lab.sources[run.data]) for lab in made for run in lab.runs()[:1]}
    assert len(keys) == 2
    assert [lab.run().settings["amp"] for lab in made] == [False, True]
    assert isinstance(Matrix.of(dataset_dir="X").amp, bool)

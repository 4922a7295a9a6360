# SPDX-License-Identifier: Apache-2.0
"""The method that chooses itself."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import monai_unlearnable as mu
from monai_unlearnable.choosing import Candidate, Choice, Round, Rounds, Trials, protect_auto, rounds
from monai_unlearnable.cli import main
from monai_unlearnable.crypto import OwnerKey
from monai_unlearnable.data import load_cases, read_case
from monai_unlearnable.errors import FailedTrainingsError, GoalError, InputError, OutputError
from monai_unlearnable.evaluation import laboratory
from monai_unlearnable.evaluation.matrix import Run
from monai_unlearnable.intensity import AutoWindow
from monai_unlearnable.metrics import noise_level
from monai_unlearnable.phantoms import write_phantom_dataset
from monai_unlearnable.publishing.account import show
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.report import Results, VictimRow
from tests import dicom
from tests.helpers import stored_voxels, tree, two_classes, write_class_folders, write_nifti
from tests.report.samples import results, row

pytestmark = pytest.mark.usefixtures("undrawn")

SMALL: dict[str, Any] = {"width": 4, "batch_size": 2, "num_validations": 1, "size": [24, 24, 16], "device": "cpu"}
QUICK = {**SMALL, "iterations": 8, "stop": "plain", "methods": "carrier,lattice"}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantom_dataset(folder / "data", count=6, test_count=2, size=(24, 24, 16))
    return folder / "data"


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No trainings that are timed: 6 seconds each, and 0.12 a step."""
    monkeypatch.setattr(Rounds, "_seconds", lambda rounds: (6.0, 0.12))


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What is left to the exploiter, by method: as if trainings had found it."""
    known: dict[str, float] = {}

    def found(rounds: Any, results: Results, candidates: list[Candidate], iterations: int) -> Round:
        assert {row.data for row in results.rows} >= {candidate.name for candidate in candidates}
        fractions = {candidate.name: known[candidate.method] for candidate in candidates}
        return Round(iterations, fractions, {n: "stopped" if f <= 0.5 else "weakened" for n, f in fractions.items()})

    monkeypatch.setattr(Rounds, "_found", found)
    return known


def trials(dataset: Path, out: Path, **settings: Any) -> Trials:
    return Trials(dataset, out, ("plain",), None, {**SMALL, **settings})


def words(settings: dict[str, Any]) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


@pytest.mark.usefixtures("untimed")
def test_the_method_that_leaves_least_is_published(
    phantoms: Path, tmp_path: Path, left: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    left |= {"carrier": 0.4, "lattice": 0.1}
    with caplog.at_level(logging.INFO, "monai_unlearnable.publishing.plan"):
        choice = mu.protect_auto(phantoms, tmp_path, psnr=40, **QUICK)
    plans = [record.getMessage() for record in caplog.records if record.name.endswith(".plan")]
    assert "method       lattice\n" in plans[-1] and str(tmp_path / "auto") not in plans[-1], "that of the publication"
    assert choice.best.method == "lattice" and choice.left == 0.1 and choice.page.is_file()
    manifest = verify(tmp_path, phantoms)
    assert (manifest.run["method"], manifest.run["config"]["method"]) == ("SymmetricLattice", "lattice")
    assert json.loads((tmp_path / "statement.json").read_text())["method"] == "lattice"
    assert np.mean([entry.measured["psnr"] for entry in manifest.scans]) == pytest.approx(40, abs=0.5)
    record = json.loads((tmp_path / "auto" / "choice.json").read_text())
    assert record["method"] == "lattice" and [found["iterations"] for found in record["rounds"]] == [8]
    with pytest.raises(OutputError, match="exists already"):
        protect_auto(phantoms, tmp_path, **QUICK)
    left |= {"carrier": 0.0}
    assert protect_auto(phantoms, tmp_path, psnr=35, overwrite=True, **QUICK).best.method == "carrier"
    assert verify(tmp_path, phantoms).run["method"] == "NyquistCarriers"


def test_nothing_is_published_where_no_method_reaches_the_goal(
    phantoms: Path,
    tmp_path: Path,
    left: dict[str, float],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounds, "TIMED", (2, 4))
    left |= {"carrier": 0.8, "lattice": 0.9}
    assert main(["protect", "auto", str(phantoms), str(tmp_path), "--victims", "UNet", *words(QUICK)]) == 1
    told = capsys.readouterr().err
    assert "minutes of training" in told and "nothing was published" in told
    assert "comes nearest to stopping the exploiter" in told and "80%" in told and "90%" in told
    assert not (tmp_path / "protected").exists() and (tmp_path / "report" / "index.html").is_file()
    trained = tree(tmp_path / "auto" / "laboratory" / "runs")
    seeds = [json.loads(content)["seed"] for name, content in trained.items() if name.endswith(".json")]
    assert seeds.count(1) == 4, "originals, two methods and random noise, once more"
    with pytest.raises(GoalError):
        protect_auto(phantoms, tmp_path, **QUICK)
    assert tree(tmp_path / "auto" / "laboratory" / "runs") == trained, "nothing is trained twice"


@pytest.mark.usefixtures("untimed")
def test_two_methods_go_on_and_others_are_named(phantoms: Path, tmp_path: Path, left: dict[str, float]) -> None:
    left |= {"carrier": 0.3, "lattice": 0.5, "lsp": 0.4}
    methods = ["carrier", "linear", "lsp", "lattice"]  # of which one is for classification alone
    choice = protect_auto(phantoms, tmp_path, **{**QUICK, "methods": methods})
    names = [[name.split()[0] for name in found.left] for found in choice.rounds]
    assert names == [["carrier", "lsp", "lattice"], ["carrier", "lsp"]]
    assert [found.iterations for found in choice.rounds] == [4, 8]
    assert list(choice.failed) == ["linear"] and "needs one class for each whole image" in choice.failed["linear"]


@pytest.mark.usefixtures("untimed")
def test_cases_that_cannot_be_protected_are_skipped_and_named(
    tmp_path: Path, left: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    left |= {"carrier": 0.4, "lattice": 0.1}
    data, out = tmp_path / "data", tmp_path / "out"
    write_phantom_dataset(data, count=4, test_count=1, size=(24, 24, 16))
    spoiled = data / load_cases(data)[1].images[0]
    spoiled.write_bytes(spoiled.read_bytes()[:200])
    words_ = ["protect", "auto", str(data), str(out), *words(QUICK), "--psnr", "40"]
    assert main([*words_, "--skip_invalid", "True"]) == 1, "as with every method: the output is incomplete"
    told = capsys.readouterr()
    assert "3 cases are protected, 1 are skipped" in told.err and "is not tried" not in told.err
    assert "3 cases, with lattice" in told.out and "1 case was skipped" in told.err
    (case,) = json.loads((out / "skipped.json").read_text())
    assert str(spoiled).removeprefix(f"{data}/").startswith(case)
    assert len(verify(out, data).scans) == 3


@pytest.mark.usefixtures("untimed")
def test_with_a_key_nothing_of_the_owner_is_plain(phantoms: Path, tmp_path: Path, left: dict[str, float]) -> None:
    left |= {"carrier": 0.1, "lattice": 0.4}
    key = OwnerKey(bytes(range(32)))
    protect_auto(phantoms, tmp_path, key=key, **QUICK)
    verify(tmp_path, phantoms, key)
    own = [path for folder in ("noise", "models") for path in tmp_path.rglob(f"{folder}/**/*") if path.is_file()]
    assert len(own) > 20 and all(path.suffix == ".sealed" or path.name == ".lock" for path in own), own


def test_trials_are_made_again_when_what_they_follow_from_changes(phantoms: Path, tmp_path: Path) -> None:
    first = trials(phantoms, tmp_path).protect(["carrier"], 40)[0]
    stamp = (first.folder / "noise" / "manifest.json").stat().st_mtime_ns
    trials(phantoms, tmp_path).protect(["carrier"], 40)
    assert (first.folder / "noise" / "manifest.json").stat().st_mtime_ns == stamp
    (first.folder.with_suffix(".made")).unlink()  # as after a stop
    (first.folder / "noise" / "manifest.json").unlink()
    again = trials(phantoms, tmp_path, seed=3).protect(["carrier"], 45)[0]
    assert again.epsilon < first.epsilon and verify(again.folder, phantoms).run["config"]["seed"] == 3


def test_epsilon_follows_from_the_scans_that_change(tmp_path: Path) -> None:
    write_phantom_dataset(tmp_path / "data", count=3, size=(24, 24, 16))
    whole = trials(tmp_path / "data", tmp_path / "out").epsilon(40)
    label = sorted((tmp_path / "data").rglob("label*/*.nii.gz"))[0]
    voxels = stored_voxels(label)
    nib.save(nib.Nifti1Image(np.zeros_like(voxels), nib.load(label).affine), label)
    assert trials(tmp_path / "data", tmp_path / "out").epsilon(40) == pytest.approx(whole, rel=0.3)
    assert trials(tmp_path / "data", tmp_path / "out").epsilon(46) == pytest.approx(whole / 2, rel=0.3)


@pytest.mark.parametrize("levels", [22, 50, 250, 1000])
def test_epsilon_of_scans_with_coarse_storage_steps(tmp_path: Path, levels: int) -> None:
    """At 8/255 nothing would change, or half of what is measured at would be truncated."""
    for index in range(2):
        voxels = np.random.default_rng(index).integers(0, levels + 1, (24, 24, 16)).astype("int16")
        write_nifti(tmp_path / f"data/images/{index}.nii", voxels)
        write_nifti(tmp_path / f"data/labels/{index}.nii", two_classes(voxels.shape))
    tried = trials(tmp_path / "data", tmp_path / "out")
    (found,) = tried.protect(["lattice"], 28)
    psnr = [scan.measured["psnr"] for scan in verify(found.folder, tmp_path / "data").scans]
    assert 27.5 <= np.mean(psnr) < 28 + 20 * math.log10(1 + 255 / (levels * 255 * found.epsilon)) + 0.5
    assert (tried._measured_at(tried.cases) == 8 / 255) == (levels > 250)


def test_an_epsilon_below_the_noise_of_the_scans(phantoms: Path, tmp_path: Path) -> None:
    tried = trials(phantoms, tmp_path)
    assert tried.epsilon("unseen") == min(noise_level(read_case(case, AutoWindow()).image[0]) for case in tried.cases)


@pytest.mark.usefixtures("untimed")
def test_pictures_of_classes(tmp_path: Path, left: dict[str, float]) -> None:
    left |= {"carrier": 0.2, "lsp": 0.6}
    data, test = (
        write_class_folders(tmp_path / name, counts=(4, 3), first_seed=n) for n, name in ((0, "d"), (20, "t"))
    )
    settings = {**QUICK, "size": [24, 24], "test_dir": str(test), "methods": ["carrier", "lsp"]}
    assert protect_auto(data, tmp_path / "out", psnr=30, **settings).best.method == "carrier"
    verify(tmp_path / "out", data)


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of two classes, (N, 24, 24), and the classes."""
    random, classes = np.random.default_rng(seed), np.arange(count) % 2
    return (random.integers(0, 90, (count, 24, 24)) + 100 * classes[:, None, None]).astype("uint8"), classes[:, None]


@pytest.mark.usefixtures("untimed")
def test_an_archive(tmp_path: Path, left: dict[str, float], caplog: pytest.LogCaptureFixture) -> None:
    """It is published as an archive, in which the images of other splits are as they were."""
    left |= {"carrier": 0.2, "lsp": 0.6}
    content = {}
    for seed, (split, count) in enumerate({"train": 6, "val": 2, "test": 4}.items()):
        content[f"{split}_images"], content[f"{split}_labels"] = pictures(count, seed)
    np.savez(tmp_path / "xmnist.npz", **content)
    settings = {**QUICK, "size": [24, 24], "methods": ["carrier", "lsp"]}
    with caplog.at_level("INFO"):
        protect_auto(tmp_path / "xmnist.npz", tmp_path / "out", psnr=30, **settings)
    assert "6 cases are protected; 4 test cases stay as they are" in caplog.text
    assert len(verify(tmp_path / "out", tmp_path / "xmnist.npz").scans) == 6
    with np.load(tmp_path / "out" / "protected" / "xmnist.npz") as packed:
        same = {name: np.array_equal(packed[name], values) for name, values in content.items()}
    assert [name for name, is_same in same.items() if not is_same] == ["train_images"]


@pytest.mark.usefixtures("untimed")
def test_the_sections_of_a_list(phantoms: Path, tmp_path: Path, left: dict[str, float]) -> None:
    """Test scans stay out of what is protected, also where they lie among the others."""
    left |= {"carrier": 0.1, "lattice": 0.4}
    cases = [{"image": case.images[0], "label": case.label} for case in load_cases(phantoms)]
    (tmp_path / "list.json").write_text(json.dumps({"training": cases[:4], "test": cases[4:]}))
    choice = protect_auto(phantoms, tmp_path / "out", datalist=str(tmp_path / "list.json"), **QUICK)
    assert choice.manifest is not None
    assert [entry.file for entry in choice.manifest.scans] == [case["image"] for case in cases[:4]]
    published = tree(tmp_path / "out" / "protected")
    assert not published.keys() & {case["image"] for case in cases[4:]}


@pytest.mark.usefixtures("untimed")
def test_a_tree_of_dicom_series(tmp_path: Path, left: dict[str, float]) -> None:
    left |= {"carrier": 0.1, "lattice": 0.4}
    data, test = (dicom.write_dataset(tmp_path / name, seed) for name, seed in (("data", 0), ("test", 5)))
    settings = {**QUICK, "size": [16, 16, 16], "test_dir": str(test)}
    assert protect_auto(data, tmp_path / "out", psnr=40, **settings).manifest is not None
    verify(tmp_path / "out", data)


NAME = Candidate("umed", 14 / 255, Path()).name


def trained(recipe: str, before: float, after: float) -> list[VictimRow]:
    """The rows of one pipeline: originals, and what was protected."""
    scores = {"clean": before, "protected": after}
    return [
        row(kind, score, recipe=recipe, data="clean" if kind == "clean" else NAME) for kind, score in scores.items()
    ]


def judged(rows: list[VictimRow]) -> tuple[float, str]:
    """What is left by the protected data of these rows, and the judgement."""
    candidate = Candidate("umed", 14 / 255, Path())
    found = Rounds(Trials(Path(), Path(), (), None, {}))._found(results(rows=rows), [candidate], 500)
    return found.left[NAME], found.judgements[NAME]


def test_of_several_pipelines_the_one_that_is_left_most_counts() -> None:
    assert judged(trained("plain", 80, 8)) == (pytest.approx(0.1), "stopped")
    both = [*trained("plain", 80, 8), *trained("mirror", 80, 60)]
    assert judged(both) == (pytest.approx(0.75), "weakened")


def test_carriers_are_those_that_the_named_pipelines_learn(phantoms: Path, tmp_path: Path) -> None:
    def found(*stop: str) -> dict[str, Any]:
        return dataclasses.replace(trials(phantoms, tmp_path), stop=stop)._planned("carrier")

    assert found("plain") == {"grid": "native"}
    assert found("monai") == {"grid": "median", "carriers": [0, 1]}
    assert found("nnunetv2", "nnunetv2_noda") == {"grid": "nnunet", "carriers": "all", "distinct": False}
    assert found("nnunetv2_noda", "nnunet") == {"grid": "nnunet"}, "they learn different ones"
    assert found("plain", "monai") == {}
    (tmp_path / "out").mkdir()
    (made,) = dataclasses.replace(trials(phantoms, tmp_path / "out"), stop=("nnunetv2",)).protect(["carrier"], 38.0)
    shown = show(made.folder)
    assert "class 1      checkerboard (1, 1, 1)" in shown and "class 2      checkerboard (1, 1, 1)" in shown


def test_a_method_whose_noise_is_too_large_is_tried_at_a_smaller_epsilon(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = trials(phantoms, tmp_path).epsilon(40.0)
    monkeypatch.setattr(Trials, "epsilon", lambda trials, psnr: 1.2 * usual)
    (found,) = trials(phantoms, tmp_path).protect(["lattice"], 40.0)
    assert found.epsilon == pytest.approx(usual, rel=0.1)
    assert verify(found.folder, phantoms).scans and found.epsilon < 1.15 * usual


def test_of_several_seeds_the_one_that_learned_most_counts() -> None:
    again = [dataclasses.replace(one, seed=1) for one in trained("plain", 80, 76)]
    assert judged([*trained("plain", 80, 8), *again]) == (pytest.approx(0.95), "not stopped")
    assert judged(trained("plain", 80, 78)) == (pytest.approx(0.975), "not stopped")
    assert judged(trained("plain", 12, 5))[1] == "weak by itself"
    assert judged(trained("plain", 80, 8)[1:]) == (float("inf"), "no control")


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_pipelines_the_judgement_is_always_the_same(order: int) -> None:
    kinds = {"poor": (12, 5), "not": (80, 78), "weak": (80, 60), "stopped": (80, 8)}
    rows = {recipe: trained(recipe, *scores) for recipe, scores in kinds.items()}
    for judgement in ("weak by itself", "not stopped", "weakened", "stopped"):
        assert judged([one for recipe in list(rows)[::order] for one in rows[recipe]])[1] == judgement
        del rows[next(iter(rows))]


def test_one_that_stops_goes_before_one_that_leaves_less() -> None:
    names = [Candidate(name, 8 / 255, Path()) for name in ("a", "b", "c", "d")]
    left = dict(zip((found.name for found in names), (0.3, 0.4, 0.2, math.inf), strict=True))
    judgements = dict(zip(left, ("not stopped", "stopped", "stopped", "no control"), strict=True))
    assert [found.method for found in sorted(names, key=Round(8, left, judgements).rank)] == ["c", "b", "a", "d"]


@pytest.mark.usefixtures("untimed")
def test_trainings_that_fail_are_told_and_no_method_is_nearest(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(bench: Any, run: Run, *arguments: Any) -> tuple[VictimRow, None]:
        kind, score = ("clean", 80.0) if run.data == "clean" else ("protected", math.nan)
        status = "done" if kind == "clean" else "failed: no space left"
        return row(kind, score, data=run.data, seed=run.seed, status=status), None

    monkeypatch.setattr(laboratory, "train_run", failing)
    with pytest.raises(FailedTrainingsError, match="no method can be compared: failed: no space left"):
        protect_auto(phantoms, tmp_path, **QUICK)
    candidates = [Candidate(name, 8 / 255, tmp_path) for name in ("carrier", "lattice")]
    left = dict(zip((found.name for found in candidates), (0.7, math.inf), strict=True))
    found = Round(8, left, dict(zip(left, ("weakened", "no control"), strict=True)))
    assert "lattice 8/255 unknown" in Choice(candidates[0], (found,), {}, tmp_path).sentence()


@pytest.mark.usefixtures("untimed")
def test_time_shortens_the_last_trainings_or_is_refused(phantoms: Path, tmp_path: Path) -> None:
    tried = Rounds(trials(phantoms, tmp_path, num_validations=10))
    assert tried.affordable(2, 2500, None) == 2500
    assert tried.affordable(2, 2500, 48.1) == 2500, "four trainings of 6 minutes, with two seeds"
    assert 500 < tried.affordable(2, 2500, 24) < 1250
    assert tried.affordable(2, 100, 10) == 100
    with pytest.raises(InputError, match="trainings of 500 iterations take about 16 minutes, 10 are given"):
        tried.affordable(2, 2500, 10)


def test_an_exploiter_who_cannot_be_trained_is_told_before_anything_is_protected(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MONAI_UNLEARNABLE_NNUNET", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="nnU-Net is not installed"):
        protect_auto(phantoms, tmp_path / "out", **{**QUICK, "stop": "nnunetv2"})
    assert not (tmp_path / "out" / "auto" / "data").exists()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"stop": "patchwork"}, "patchwork"),
        ({"stop": []}, "stop names no pipeline"),
        ({"methods": "carrier,latice"}, "unknown method 'latice'; did you mean 'lattice'"),
        ({"length": "long", "iterations": 8}, "give one of them"),
        ({"colour": "red"}, "colour"),
        ({"test_dir": "nowhere"}, "nowhere"),
        ({"length": "endless"}, "unknown length 'endless'"),
        ({"psnr": "good"}, "psnr is 'good'"),
        ({"minutes": "long"}, "minutes is 'long'"),
        ({"iterations": "many"}, "iterations is 'many'"),
        ({"recipes": ["plain"]}, "recipes cannot be chosen here"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_made(
    phantoms: Path, tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        protect_auto(phantoms, tmp_path / "out", **{**SMALL, **settings})
    assert not (tmp_path / "out" / "auto" / "data").exists()


def test_several_processes_are_refused(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="one process"):
        protect_auto(phantoms, tmp_path / "out", **QUICK)

# SPDX-License-Identifier: Apache-2.0
"""The method that chooses itself."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest

from monai_unlearnable import choosing
from monai_unlearnable.cli import main
from monai_unlearnable.data import read_case
from monai_unlearnable.errors import GoalError, InputError
from monai_unlearnable.intensity import AutoWindow
from monai_unlearnable.metrics import noise_level
from monai_unlearnable.phantoms import write_phantom_dataset
from monai_unlearnable.publishing.verify import verify
from tests.helpers import tree

SMALL: dict[str, Any] = {"width": 4, "batch_size": 2, "num_validations": 1, "size": [24, 24, 16], "device": "cpu"}
QUICK = {**SMALL, "iterations": 8, "stop": "plain", "methods": ["carrier", "lattice"]}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantom_dataset(folder / "data", count=6, test_count=2, size=(24, 24, 16))
    return folder / "data"


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What is left to the exploiter, by method: as if trainings had found it."""
    left: dict[str, float] = {}

    def found(trials: Any, results: Any, candidates: Any) -> dict[str, float]:
        assert {row.data for row in results.rows} >= {candidate.name for candidate in candidates}
        return {candidate.name: left[candidate.method] for candidate in candidates}

    monkeypatch.setattr(choosing._Trials, "_left", found)
    return left


def test_the_method_that_leaves_least_is_published(phantoms: Path, tmp_path: Path, scores: dict[str, float]) -> None:
    scores |= {"carrier": 0.4, "lattice": 0.1}
    choice = choosing.protect_auto(phantoms, tmp_path, psnr=40, **QUICK)
    assert choice.best.method == "lattice" and choice.left == 0.1 and choice.page.is_file()
    manifest = verify(tmp_path, phantoms)
    assert manifest.run["method"] == "SymmetricLattice"
    found = [entry.measured["psnr"] for entry in manifest.scans]
    assert sum(found) / len(found) == pytest.approx(40, abs=0.5)
    record = json.loads((tmp_path / "auto" / "choice.json").read_text())
    assert record["method"] == "lattice" and [found["iterations"] for found in record["rounds"]] == [8]


def test_nothing_is_published_where_no_method_reaches_the_goal(
    phantoms: Path, tmp_path: Path, scores: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    scores |= {"carrier": 0.8, "lattice": 0.9}
    words = ["protect", "auto", str(phantoms), str(tmp_path)]
    assert main([*words, *(word for name, value in QUICK.items() for word in (f"--{name}", str(value)))]) == 1
    told = capsys.readouterr().err
    assert "comes nearest to stopping plain" in told and "80%" in told and "90%" in told and "nothing was publ" in told
    assert not (tmp_path / "protected").exists() and (tmp_path / "report" / "index.html").is_file()
    trained = tree(tmp_path / "auto" / "laboratory" / "runs")
    with pytest.raises(GoalError):
        choosing.protect_auto(phantoms, tmp_path, **QUICK)
    assert tree(tmp_path / "auto" / "laboratory" / "runs") == trained, "nothing is trained twice"


def test_half_of_the_methods_go_on(phantoms: Path, tmp_path: Path, scores: dict[str, float]) -> None:
    scores |= {"carrier": 0.3, "lattice": 0.5, "lsp": 0.4, "ops": 0.9, "linear": 0.0}
    methods = ["carrier", "linear", "lsp", "ops", "lattice"]  # of which one is for classification alone
    choice = choosing.protect_auto(phantoms, tmp_path, **{**QUICK, "methods": methods})
    names = [[name.split()[0] for name in found.left] for found in choice.rounds]
    assert names == [["carrier", "lsp", "ops", "lattice"], ["carrier", "lsp"]]
    assert [found.iterations for found in choice.rounds] == [4, 8]
    assert list(choice.failed) == ["linear"] and "whole images" in choice.failed["linear"]


def test_an_epsilon_below_the_noise_of_the_scans(phantoms: Path, tmp_path: Path) -> None:
    trials = choosing._Trials(phantoms, tmp_path, "plain", None, {})
    levels = [noise_level(read_case(case, AutoWindow()).image[0]) for case in trials.cases]
    assert min(levels) <= trials._epsilon("unseen") <= max(levels)
    with pytest.raises(InputError, match="psnr is 'good'"):
        trials._epsilon("good")


@pytest.mark.parametrize("count", range(1, 9))
def test_the_steps_that_are_expected_are_those_that_are_taken(count: int) -> None:
    lengths = choosing._lengths(count, 800)
    assert lengths[-1] == 800 and all(second == 2 * first for first, second in itertools.pairwise(lengths))
    taken, left = 800, count
    for steps in lengths:
        taken, left = taken + (left + 1) * steps, math.ceil(left / 2)
    assert choosing._steps(count, 800) == taken


def test_time_shortens_the_last_trainings_or_is_refused(phantoms: Path, tmp_path: Path) -> None:
    trials = choosing._Trials(phantoms, tmp_path, "plain", None, dict(SMALL))
    assert trials._affordable(2, 2500, None) == 2500
    with pytest.raises(InputError, match="trainings of 500 iterations take about"):
        trials._affordable(2, 2500, 1e-3)


def test_what_is_unknown_is_refused_before_anything_is_made(phantoms: Path, tmp_path: Path) -> None:
    for settings in ({"stop": "patchwork"}, {"colour": "red"}, {"test_dir": "nowhere"}, {"length": "endless"}):
        with pytest.raises(
            InputError, match=next(iter(settings.values()))[:5] if "colour" not in settings else "colour"
        ):
            choosing.protect_auto(phantoms, tmp_path / "out", **{**SMALL, **settings})
        assert not (tmp_path / "out" / "auto" / "data").exists()

# SPDX-License-Identifier: Apache-2.0
"""A run talks to its user: how far it is, what it ends with, and how to go on when it is interrupted."""

from __future__ import annotations

import logging
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from monai_unlearnable.cli import INTERRUPTED, WRONG_INPUT, display, main
from monai_unlearnable.phantoms import write_phantom_dataset
from tests.helpers import write_class_folders, write_dataset
from tests.integration.commands import ROOT

BUNDLES = ROOT / "bundles"

STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
UMED = [
    "--epoch_length",
    "2",
    "--batch_size",
    "2",
    "--network_def#channels",
    "[4, 8, 8, 8]",
    "--surrogates#warmup",
    "2",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms to protect and to test with. Shared: read only."""
    folder = tmp_path_factory.mktemp("talking") / "data"
    write_phantom_dataset(folder, count=3, test_count=1, size=(16, 16, 16))
    return folder


def lines_of(page: str) -> dict[str, list[str]]:
    """The lines of a summary by the words they begin with."""
    found: dict[str, list[str]] = {}
    for line in page.splitlines():
        found.setdefault(line[:12].strip(), []).append(line[13:])
    return found


def test_a_run_says_how_far_it_is(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "GAP", 0.0)
    assert main(["protect", "lattice", str(data), str(tmp_path / "out")]) == 0
    stamped = [line for line in capsys.readouterr().err.splitlines() if STAMP.match(line)]
    assert "reading and checking case 1 of 3" in stamped[0] and "publishing case 1 of 3" in stamped[-1]


def test_the_plan_names_what_the_user_typed(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = shutil.copytree(BUNDLES / "synthetic", tmp_path / "mine") / "configs" / "protect.yaml"
    assert main(["protect", str(own), str(data), str(tmp_path / "out"), "--epsilon", "0.1"]) == 0
    assert f"method       {own}\n" in capsys.readouterr().err
    checkpoint = tmp_path / "out" / "models" / "perturber.safetensors"
    assert main(["apply", str(checkpoint), str(data), str(tmp_path / "again")]) == 0
    assert f"method       the noise of {checkpoint}\n" in capsys.readouterr().err


def test_the_owner_is_told_the_method_by_the_name_that_he_gave(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["protect", "lattice", str(data), str(tmp_path), "--epsilon", "0.1"]) == 0
    capsys.readouterr()
    assert main(["show", str(tmp_path)]) == main(["verify", str(tmp_path), "--json"]) == 0
    told = capsys.readouterr().out
    assert "method       lattice\n" in told and '"method": "lattice"' in told


def test_a_run_ends_with_what_it_made_and_what_comes_next(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "my out"
    assert main(["protect", "lattice", str(data), str(out), "--epsilon", "0.1"]) == 0
    told = capsys.readouterr()
    assert "method       lattice\n" in told.err, "the user's word, in the plan"
    assert re.search(r"^time +.*--dry-run", told.err, re.MULTILINE), "what a run cannot know before it begins"
    end = lines_of(told.out)
    assert end["done"] == ["3 cases, with lattice"]
    assert re.fullmatch(r"PSNR \d\d\.\d( to \d\d\.\d)? dB of the scans that changed", end["fidelity"][0])
    assert "25.5/255 of the window" in end["budget"][0] and "in the units of the files" in end["budget"][0]
    assert end["to publish"] == [f"{out}/protected and {out}/statement.json"]
    assert end["to keep"] == [f"{out}/noise and {out}/models: whoever has them can undo the noise"]
    verify, evaluate = map(shlex.split, end["next"])
    assert evaluate[-3:] == ["evaluate", str(out), str(data)], "the dataset has test cases of its own"
    assert main(verify[verify.index("verify") :]) == 0, "it is typed as it is printed"
    assert "done" not in lines_of(capsys.readouterr().out)


def test_a_set_without_test_cases_needs_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = write_dataset(tmp_path / "data", empty=("b",)), tmp_path / "out"
    assert main(["protect", "lattice", str(data), str(out)]) == 0
    end = lines_of(capsys.readouterr().out)
    assert end["next"][1].endswith("--test_dir TEST")
    assert end["unchanged"] == ["1 scan, where nothing may change: images/b"]
    assert main(["evaluate", str(out), str(data)]) == WRONG_INPUT
    assert "--test_dir FOLDER" in capsys.readouterr().err
    assert main(["apply", str(out / "noise"), str(data), str(tmp_path / "again")]) == 0
    assert lines_of(capsys.readouterr().out)["done"] == [f"2 cases, with the noise of {out / 'noise'}"]


def test_a_set_whose_test_cases_have_no_labels_needs_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As nnU-Net's raw datasets are: ``imagesTs/`` without ``labelsTs/``."""
    data, out = tmp_path / "data", tmp_path / "out"
    write_phantom_dataset(data, count=2, test_count=1, size=(24, 24, 16))
    shutil.rmtree(data / "labelsTs")
    (data / "dataset.json").unlink()
    assert main(["protect", "lattice", str(data), str(out)]) == 0
    assert lines_of(capsys.readouterr().out)["next"][1].endswith("--test_dir TEST")


def test_quiet_leaves_errors_and_the_end(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["protect", "lattice", str(data), str(tmp_path / "out"), "--quiet"]
    assert main(words) == 0
    told = capsys.readouterr()
    assert not told.err and told.out.endswith(f"protected: {tmp_path / 'out' / 'protected'}\n")
    assert main(words) == WRONG_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "--overwrite" in line
    assert main([*words, "--verbose"]) == WRONG_INPUT
    assert "--verbose and --quiet contradict each other" in capsys.readouterr().err


def test_the_log_file_gets_everything_with_the_time(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, out = tmp_path / "logs" / "run.log", str(tmp_path / "out")
    words = ["protect", "lattice", str(data), out, "--quiet", "--log-file", str(log)]
    levels = [logging.getLogger(name).level for name in ("", "monai_unlearnable")]
    assert main(words) == 0 and main(words) == WRONG_INPUT
    text = log.read_text(encoding="utf-8")
    for part in ("reading and checking case: 3 of 3 in", "segmentation in 3D", "publishing case: 3 of 3 in"):
        assert part in text
    assert f"protected: {out}/protected" in text, "the end"
    assert "ERROR" in text and "exists already" in text, "of the second run, which the file goes on with"
    assert all(STAMP.match(line) or line.startswith("    ") for line in text.splitlines())
    assert [logging.getLogger(name).level for name in ("", "monai_unlearnable")] == levels, "nothing stays of it"
    assert main([*words[:-1], str(data)]) == WRONG_INPUT
    assert "the log cannot be written: Is a directory" in capsys.readouterr().err


def test_verbose_tells_how_long_each_part_took(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["protect", "lattice", str(data), str(tmp_path / "out"), "--verbose"]) == 0
    told = capsys.readouterr().err
    assert told.count("publishing case: 3 of 3 in") == 1 and told.count("segmentation in 3D") == 1


def test_methods_that_fit_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_class_folders(tmp_path / "data", counts=(2, 2))
    words = ["protect", "umed", str(data), str(tmp_path / "out"), "--epochs", "1", *UMED]
    assert main(words) == WRONG_INPUT
    assert "umed needs a class for each voxel" in capsys.readouterr().err


def test_an_interrupted_run_says_how_to_go_on_and_does(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["protect", "umed", str(data), str(tmp_path / "out"), *UMED, "--epochs"]
    launch = [sys.executable, "-m", "monai_unlearnable", *words, "1000"]
    with subprocess.Popen(launch, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        told = [next(line for line in run.stderr if "training epoch" in line)]
        run.send_signal(signal.SIGINT)
        out, rest = run.communicate()
    told += rest.splitlines()
    assert run.returncode == INTERRUPTED and not out
    assert told[-1].startswith("interrupted: ") and "give the same command" in told[-1]
    assert "Traceback" not in rest


def test_what_is_kept_depends_on_what_was_done(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from monai_unlearnable.publishing import publication

    out = tmp_path / "out"
    words = ["protect", "lattice", str(data), str(out)]

    def interrupted(*more: str, at: str) -> str:
        def stop(*arguments: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(publication, at, stop)
            assert main([*words, *more]) == INTERRUPTED
        return capsys.readouterr().err.splitlines()[-1]

    assert interrupted(at="save_perturber") == "interrupted: nothing was published; give the same command again"
    kept = f"interrupted: finished epochs and cases are kept in {out}; give the same command"
    assert interrupted(at="write_records") == f"{kept} to go on"
    assert main(words) == 0
    assert interrupted("--overwrite", at="write_records") == f"{kept} without --overwrite to go on"
    assert main(words) == 0, "as it says"

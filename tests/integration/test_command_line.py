# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from monai_unlearnable import demo
from monai_unlearnable.cli import CHECK_FAILED, WRONG_INPUT, display, main, program
from monai_unlearnable.phantoms import write_phantom_dataset
from monai_unlearnable.report import Results
from tests import dicom
from tests.helpers import flip_byte, tree, write_dataset

pytestmark = pytest.mark.usefixtures("undrawn")

EXAMINE = ["--iterations", "2", "--num_validations", "1", "--width", "4"]
QUICK = ["--epochs", "1", "--epoch_length", "2", "--batch_size", "2", "--network_def#channels", "[4, 8, 8, 8]"]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data``, four phantoms and two to test with, and ``out``, protected. Shared: read only."""
    root = tmp_path_factory.mktemp("phantoms")
    write_phantom_dataset(root / "data", count=4, test_count=2, size=(24, 24, 16))
    assert main(["protect", "umed", str(root / "data"), str(root / "out"), *QUICK]) == 0
    return root


def test_the_commands_in_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_dataset(tmp_path / "data")
    out = str(tmp_path / "out")
    assert main(["protect", "umed", str(data), out, *QUICK]) == 0
    assert main(["verify", out, "--clean", str(data)]) == 0
    assert main(["restore", out, str(tmp_path / "restored")]) == 0
    assert main(["apply", f"{out}/noise", str(data), str(tmp_path / "applied")]) == 0
    checkpoint = f"{out}/models/perturber.safetensors"
    assert main(["apply", checkpoint, str(data), str(tmp_path / "generated")]) == 0
    assert main(["verify", str(tmp_path / "applied")]) == 0
    assert main(["verify", str(tmp_path / "generated")]) == 0
    assert "every hash, budget and figure holds" in capsys.readouterr().out
    for name in ("a", "b"):
        folders = [tmp_path / folder / "protected" / "images" for folder in ("out", "applied", "generated")]
        assert len({(folder / f"{name}.nii.gz").read_bytes() for folder in folders}) == 1, "three ways to the same file"


def test_the_commands_take_dicom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, others = dicom.write_dataset(tmp_path / "data"), dicom.write_dataset(tmp_path / "others", 2)
    out = str(tmp_path / "out")
    assert main(["protect", "umed", str(data), out, *QUICK]) == 0
    assert main(["verify", out, "--clean", str(data)]) == 0
    assert main(["restore", out, str(tmp_path / "restored")]) == 0
    assert tree(tmp_path / "restored" / "images") == tree(data / "images")
    assert main(["apply", f"{out}/models/perturber.safetensors", str(others), str(tmp_path / "generated")]) == 0
    assert main(["verify", str(tmp_path / "generated"), "--clean", str(others)]) == 0
    assert main(["evaluate", out, str(data), "--test_dir", str(others), *EXAMINE]) == 0
    (data / "images" / "a" / "005.dcm").unlink()
    capsys.readouterr()
    assert main(["protect", "umed", str(data), str(tmp_path / "again"), *QUICK]) == WRONG_INPUT
    assert "the label has shape (11, 14, 9), the image (11, 14, 8)" in capsys.readouterr().err
    assert not (tmp_path / "again" / "protected").exists()


def test_every_command_that_writes_can_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = str(write_dataset(tmp_path / "data")), str(tmp_path / "out")
    checkpoint = f"{out}/models/perturber.safetensors"
    for words in (
        ["protect", "umed", data, out, *QUICK],
        ["restore", out, str(tmp_path / "restored")],
        ["apply", f"{out}/noise", data, str(tmp_path / "applied")],
        ["apply", checkpoint, data, str(tmp_path / "generated")],
    ):
        assert main(words) == 0
        for refused in (words, [*words, "--overwrite", "False"]):
            assert main(refused) == WRONG_INPUT
            assert "exists already" in capsys.readouterr().err
        assert main([*words, "--overwrite"]) == main([*words, "--overwrite", "True"]) == 0
    assert main(["restore", out, str(tmp_path / "restored"), "--overwrite", "maybe"]) == WRONG_INPUT
    assert "'maybe' is neither True nor False" in capsys.readouterr().err


def test_exit_codes_and_messages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_dataset(tmp_path / "data")
    out = str(tmp_path / "out")
    assert main(["protect", "umed", str(tmp_path / "nowhere"), out]) == WRONG_INPUT
    assert "the dataset folder does not exist" in capsys.readouterr().err
    assert main(["protect", "umed", str(data), out, "--epochs"]) == WRONG_INPUT
    assert "--name value" in capsys.readouterr().err
    assert main(["protect", "umed", str(data), out, *QUICK, "--epsilon", "1e-5"]) == WRONG_INPUT
    assert re.search(r"images/a.*less than one storage step", capsys.readouterr().err, re.DOTALL)
    assert main(["protect", "umed", str(data), str(tmp_path / "good"), *QUICK]) == 0
    flip_byte(tmp_path / "good" / "protected" / "images" / "b.nii.gz", 800)
    assert main(["verify", str(tmp_path / "good")]) == CHECK_FAILED
    assert "images/b" in capsys.readouterr().err
    assert main(["verify", out, "--unknown", "word"]) == WRONG_INPUT
    assert "No such option '--unknown'" in capsys.readouterr().err


def test_evaluate_trains_victims_and_writes_a_report(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "GAP", 0.0)
    data, out = phantoms / "data", Path(shutil.copytree(phantoms / "out", tmp_path / "out"))
    assert main(["evaluate", str(out), str(data), "--iterations", "4", "--seeds", "2"]) == 0
    told = capsys.readouterr()
    assert "UNet" in told.out and "measuring case of umed 1 of 4" in told.err, "the name that was typed"
    results = Results.load(out / "report" / "results.json")
    assert [row.training for row in results.rows] == ["clean", "clean", "protected", "protected"] + ["random noise"] * 2
    assert {row.seed for row in results.rows} == {0, 1}
    assert results.rows[2].psnr == pytest.approx(results.figures["umed"]["psnr"])
    assert (out / "report" / "index.html").stat().st_size > 50_000
    (out / "report" / "index.html").unlink()
    assert main(["report", str(out)]) == 0, "of the output, as evaluate takes it"
    assert (out / "report" / "index.html").is_file()


def test_the_demo_protects_learns_and_sums_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {"iterations": 4, "epochs": 1, "epoch_length": 1}
    monkeypatch.setattr(demo, "run_demo", partial(demo.run_demo, **quick))
    out = tmp_path / "demo"
    assert main(["demo", str(out)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"to publish {out}/umed/protected" in told and "random noise" in told
    assert (out / "umed" / "report" / "index.html").is_file()


def test_laboratory_cell_report_compare(phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out, lab = phantoms / "data", phantoms / "out", tmp_path / "lab"
    words = ["laboratory", str(data), str(lab), "--protected", str({"umed": str(out)}), *EXAMINE]
    assert main([*words, "--countermeasures", "none,quantize8", "--control", "False"]) == 0
    assert "quantize8" in capsys.readouterr().out
    rows = Results.load(lab / "report" / "results.json").rows
    assert len(rows) == 4
    for row in rows:  # the command of every row runs and finds the same
        assert main(shlex.split(row.command)[3:]) == 0
        assert f"{row.victim} on {row.data}: Dice {row.score:.1f}" in capsys.readouterr().out
    assert main(["report", str(lab)]) == 0
    results = str(lab / "report" / "results.json")
    assert main(["compare", str(lab / "report"), results, "--page", str(tmp_path / "compare.html")]) == 0
    assert (tmp_path / "compare.html").stat().st_size > 5_000
    capsys.readouterr()
    assert main(["laboratory", str(data), str(lab), "--colour", "red"]) == WRONG_INPUT
    assert "unknown setting 'colour'" in capsys.readouterr().err
    assert main(["run", str(tmp_path), *shlex.split(rows[0].command)[5:]]) == WRONG_INPUT
    assert "laboratory.json" in capsys.readouterr().err


def test_frontier_protects_examines_and_draws(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = phantoms / "data", tmp_path / "sweep #1"
    bundle = {"epochs": 1, "epoch_length": 2, "network_def#channels": [4, 8, 8, 8]}
    words = ["frontier", str(data), str(out), "--epsilons", "8,16", "--bundle", str(bundle), *EXAMINE]
    assert main(words) == 0
    results = Results.load(out / "report" / "results.json")
    names = ["umed 8/255", "random noise 8/255", "umed 16/255", "random noise 16/255"]
    assert [row.data for row in results.rows] == ["clean", *names]
    assert {line.method: len(line.points) for line in results.frontier()} == {"umed": 2, "random noise": 2}
    assert results.figures["umed 8/255"]["psnr"] > results.figures["umed 16/255"]["psnr"] + 5
    assert (out / "report" / "frontier-1-psnr.png").is_file()
    before = (out / "data" / "umed_8" / "noise" / "manifest.json").stat().st_mtime_ns
    assert main(words) == 0  # everything is there already
    assert (out / "data" / "umed_8" / "noise" / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--test_dir", "nowhere"], "nowhere"),
        (["--victims", "UNetty"], "UNetty"),
        (["--victims", "UNetty", "--originals", "false"], "UNetty"),
        (["--colour", "red"], "colour"),
    ],
)
def test_frontier_finds_what_is_missing_before_it_protects(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: list[str], message: str
) -> None:
    data, out = phantoms / "data", tmp_path / "out"
    assert main(["frontier", str(data), str(out), "--epsilons", "8", *settings]) == WRONG_INPUT
    assert message in capsys.readouterr().err and not (out / "data").exists()


def test_every_finding_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = write_dataset(tmp_path / "data"), tmp_path / "out"
    assert main(["protect", "lattice", str(data), str(out)]) == 0
    capsys.readouterr()
    assert main(["verify", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["holds"] is True
    for name in ("a", "b"):
        (out / f"protected/images/{name}.nii.gz").unlink()
    assert main(["verify", str(out)]) == CHECK_FAILED
    printed = capsys.readouterr()
    assert all(f"{name}.nii.gz: the file does not exist" in printed.out for name in ("a", "b"))
    assert "images/a, " in printed.err and "more findings)" in printed.err
    assert main(["verify", str(out), "--json"]) == CHECK_FAILED
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {finding["case"] for finding in findings} == {"images/a", "images/b"}


def test_names_with_brackets_come_out_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_dataset(tmp_path / "data", names=("scan[left]", "[bold]b[/]"))
    words = ["protect", "lattice", str(data), str(tmp_path / "out[1]")]
    assert main(words) == 0
    assert capsys.readouterr().out.endswith("out[1]/protected\n")
    (data / "images/scan[left].nii.gz").write_bytes(b"")
    words[-1] = str(tmp_path / "other")
    assert main(words) == WRONG_INPUT
    assert "images/scan[left].nii.gz" in capsys.readouterr().err


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], *([command, "--help"] for command in sorted(program.commands))):
        assert main(words) == 0
        assert "Usage: monai-unlearnable" in capsys.readouterr().out
    assert main(["protekt"]) == main(["verify"]) == main(["key", "share", "owner.key"]) == WRONG_INPUT
    assert main(["verify", "out", "--clea", "data"]) == WRONG_INPUT, "nothing is abbreviated"
    capsys.readouterr()
    assert main(["protect", "umed", "data", "out", "--dataset_dir", "other"]) == WRONG_INPUT
    assert "dataset_dir is given by its place" in capsys.readouterr().err


def test_help_is_quick() -> None:
    words = [sys.executable, "-X", "importtime", "-m", "monai_unlearnable", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "Commands:" in done.stdout
    assert not re.search(r"\| +(torch|monai|numpy|matplotlib)\n", done.stderr), (
        "what takes long is loaded when it is used"
    )

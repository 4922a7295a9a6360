# SPDX-License-Identifier: Apache-2.0
"""Settings that are expressions, and paths that are none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from monai_unlearnable.cli import main
from monai_unlearnable.publishing.run import apply, bundle_root, plan, protect
from tests.helpers import write_datalist, write_dataset


def test_an_expression_may_refer_to_other_settings(dataset: Path, tmp_path: Path) -> None:
    manifest = protect("lattice", dataset, tmp_path / "out", epsilon="$(@protection#seed + @seed + 3) / 255", seed=2)
    assert manifest.scans[0].budget.epsilon == pytest.approx(7 / 255)


@pytest.mark.parametrize("name", ["run #2", "#2", "@d", "%d", "$d", "a@seed#b"])
def test_a_path_may_hold_any_sign(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_dataset(Path(name))
    out, again = f"{name} out", f"{name} again"
    assert main(["protect", "lattice", name, out, "--dry-run"]) == main(["protect", "lattice", name, out]) == 0
    assert main(["apply", f"{out}/models/perturber.safetensors", name, again]) == 0
    assert main(["verify", out, "--clean", name]) == main(["verify", again, "--clean", name]) == 0
    assert sorted(os.listdir()) == sorted([name, out, again]), "nothing is written elsewhere"


def test_settings_that_are_paths_may_hold_any_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    entries = [{"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"} for name in "ab"]
    for name in ("list #1.json", "%.json", "@.json"):
        write_datalist(write_dataset(Path("data")), entries[:1])
        datalist = shutil.move("data/datalist.json", name)
        assert len(protect("lattice", "data", f"{name} out", datalist=datalist).scans) == 1
    assert len(protect("lattice", "data", "out", datalist="$'list ' + chr(35) + '1.json'").scans) == 1


def test_a_configuration_may_lie_in_any_folder(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = shutil.copytree(bundle_root("synthetic"), "%my #1") / Path("configs/protect.yaml")
    manifest = protect(file, dataset, "out", pattern="lattice")
    assert manifest.method == "protect" and len(manifest.scans) == 2
    assert str(file) in plan(file, dataset, "next", pattern="lattice").page()
    assert len(apply(Path("out/noise"), dataset, "again").scans) == 2

# SPDX-License-Identifier: Apache-2.0
"""The bundles as MONAI's model zoo checks them, and as they travel with the package."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow, verify_net_in_out

from monai_unlearnable.publishing.run import bundle_names, bundle_root
from tests.helpers import stored_voxels, tree, write_class_folders, write_dataset, write_nifti
from tests.integration.commands import ROOT

MOST_LINES, MOST_SHARED = 110, 45  # of the configuration that protects


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Volumes with one labeled region; pictures of two classes (True), for bundles that take nothing else."""
    root = write_dataset(tmp_path_factory.mktemp("zoo") / "data")
    for path in (root / "labels").iterdir():
        write_nifti(path, (stored_voxels(path) > 0).astype("uint8"))
    return {False: root, True: write_class_folders(root.parent / "classes", counts=(2, 2))}


def takes_classes_alone(name: str) -> bool:
    metadata = json.loads((bundle_root(name) / "configs" / "metadata.json").read_text(encoding="utf-8"))
    return bool(metadata["network_data_format"]["outputs"]["pred"]["format"] == "classification")


def lines(name: str) -> list[str]:
    text = (bundle_root(name) / "configs" / "protect.yaml").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip()]


def is_trained(name: str) -> bool:
    return "train" in ConfigParser.load_config_file(str(bundle_root(name) / "configs" / "protect.yaml"))


@pytest.mark.parametrize("name", bundle_names())
def test_properties_are_found(name: str, datasets: dict[bool, Path], tmp_path: Path) -> None:
    root = bundle_root(name)
    workflow = ConfigWorkflow(
        str(root / "configs" / "protect.yaml"),
        str(root / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="train" if is_trained(name) else None,
        bundle_root=str(root),
        dataset_dir=str(datasets[takes_classes_alone(name)]),
        output_dir=str(tmp_path / "out"),
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    assert not tree(tmp_path), "looking writes nothing"


@pytest.mark.parametrize("name", [name for name in bundle_names() if is_trained(name)])
def test_the_network_takes_and_gives_what_the_metadata_say(
    name: str, datasets: dict[bool, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    configs = bundle_root(name) / "configs"
    data = datasets[takes_classes_alone(name)]
    more = {"dataset_dir": str(data), "output_dir": str(tmp_path), "bundle_root": str(configs.parent)}
    meta, config = str(configs / "metadata.json"), str(configs / "protect.yaml")
    with caplog.at_level("INFO"):
        verify_net_in_out("network_def", meta, config, device="cpu", n=4, **more)
    assert "verified with no error" in caplog.text


def test_bundles_hold_no_python_and_a_license() -> None:
    for name in bundle_names("metadata.json"):
        root = bundle_root(name)
        assert "Apache License" in (root / "LICENSE").read_text(encoding="utf-8")
        assert not list(root.rglob("*.py")), name


def test_bundles_are_short_and_share_little() -> None:
    """What they would repeat belongs into the package, where it is checked."""
    for name in bundle_names():
        assert len((bundle_root(name) / "configs" / "protect.yaml").read_text().splitlines()) <= MOST_LINES, name
    for first, second in combinations(bundle_names(), 2):
        shared = sum((Counter(lines(first)) & Counter(lines(second))).values())
        assert shared <= MOST_SHARED, f"{first} and {second} share {shared} lines"


def test_the_package_works_outside_a_checkout(tmp_path: Path) -> None:
    target, data, source = tmp_path / "site", write_dataset(tmp_path / "data"), tmp_path / "source"
    for name in ("monai_unlearnable", "bundles"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", str(target), str(source)], check=True, capture_output=True)
    _check_contents({name for name in tree(target) if "__pycache__" not in name})
    code = (
        "import monai_unlearnable as mu; assert mu.__file__.startswith('site') or '/site/' in mu.__file__\n"
        "mu.protect('lattice', 'data', 'out'); mu.verify('out'); mu.restore('out', 'back')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(target)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for path in sorted((data / "images").iterdir()):
        assert (stored_voxels(tmp_path / "back/images" / path.name) == stored_voxels(path)).all()
    command = [
        sys.executable,
        str(target / "bin" / "monai-unlearnable"),
        "audit",
        "out/protected",
        "out/statement.json",
    ]
    told = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(target)}, capture_output=True, text=True)
    assert told.returncode == 0 and "every file is as recorded" in told.stdout, told.stderr


def _check_contents(installed: set[str]) -> None:
    """All that is used travels with the package, and nothing else."""
    kinds = (".py", ".yaml", ".json", ".j2", ".js", ".typed")
    package = {f"monai_unlearnable/{name}" for name in tree(ROOT / "monai_unlearnable") if name.endswith(kinds)}
    bundles = {f"monai_unlearnable/bundles/{name}" for name in tree(ROOT / "bundles") if "__pycache__" not in name}
    assert package | bundles == {name for name in installed if name.startswith("monai_unlearnable/")}
    others = {name.split("/")[0] for name in installed} - {"monai_unlearnable", "bin"}
    assert len(others) == 1 and others.pop().endswith(".dist-info"), "no tests, no docs"
    assert any(name.endswith("licenses/LICENSE") for name in installed)

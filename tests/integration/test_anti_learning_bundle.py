# SPDX-License-Identifier: Apache-2.0
"""The anti_learning bundle as people run it: every approach on classes of whole images and on class maps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from monai_unlearnable.__main__ import WRONG_INPUT, main
from monai_unlearnable.data import load_cases, read_scan
from monai_unlearnable.errors import InputError, LabelError, OutputError
from monai_unlearnable.noise import Manifest
from monai_unlearnable.publishing import publication
from monai_unlearnable.publishing.choices import APPROACHES, GRANULARITIES
from monai_unlearnable.publishing.restore import restore
from monai_unlearnable.publishing.run import bundle_names, bundle_root, method_names, run_bundle
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.training import ProtectionTrainer
from monai_unlearnable.utils.catalog import Catalog
from tests.helpers import stored_voxels, tree, write_class_folders, write_dataset

CONFIGS = bundle_root("anti_learning") / "configs"
EPSILON = 0.08
QUICK: dict[str, Any] = {
    "epochs": 2,
    "epoch_length": 2,
    "batch_size": 2,
    "network_def#width": 4,
    "epsilon": EPSILON,
    "steps": 3,
}
WRITE: dict[str, Callable[..., Path]] = {
    "classes": lambda root, **more: write_class_folders(root, shape=(24, 20), **more),
    "maps": lambda root, **more: write_dataset(root, 2, "uint8", suffix=".png", **more),
}
METHODS = {"lsp": "LinearPatterns", "ar": "AutoregressiveNoise", "cuda": "ClassConvolution", "ops": "FixedVoxels"}
METHODS |= {"lattice": "SymmetricLattice", "linear": "LinearSurrogate"}
kinds = pytest.mark.parametrize("kind", WRITE)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One dataset of each kind; the largest class of the pictures is the first one."""
    return {kind: write(tmp_path_factory.mktemp("data") / kind) for kind, write in WRITE.items()}


def protect(data: Path, out: Path, bundle: str = "anti_learning", **settings: Any) -> Manifest:
    """Protect a dataset, check everything that is promised, and return the manifest."""
    quick = {"epsilon": EPSILON} if bundle == "synthetic" else QUICK
    run_bundle(bundle, dataset_dir=str(data), output_dir=str(out), **{**quick, **settings})
    manifest = verify(out, data)
    restore(out, out / "restored")
    for entry in manifest.scans:
        assert read_scan(out / "restored" / entry.file).digest() == read_scan(data / entry.file).digest()
        assert entry.measured["linf"] <= EPSILON + 1e-6
    classes = [[(case.case_id, case.target) for case in load_cases(root)] for root in (data, out / "protected")]
    assert classes[0] == classes[1]
    return manifest


def changed(manifest: Manifest) -> list[bool]:
    return [entry.measured["linf"] > 0 for entry in manifest.scans]


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("approach", APPROACHES)
@kinds
def test_protects_verifies_restores(
    datasets: dict[str, Path], tmp_path: Path, kind: str, approach: str, granularity: str
) -> None:
    manifest = protect(datasets[kind], tmp_path, approach=approach, granularity=granularity)
    learned = "GradientNoise" if granularity == "case" else "ClasswiseNoise"
    assert manifest.run["method"] == learned
    trainers = manifest.run["config"]["trainers"]
    assert len(trainers) == (2 if approach == "error_maximizing" and granularity != "case" else 1)
    assert (trainers[0]["perturber"] is None) == (approach == "error_maximizing")
    assert (tmp_path / "models" / "training.pt").is_file()
    assert changed(manifest) == ([False] * 3 + [True] * 4 if kind == "classes" else [True] * 2)
    if kind == "maps":
        for entry in manifest.scans:
            before, after, label = (
                stored_voxels(path)
                for path in (
                    datasets[kind] / entry.file,
                    tmp_path / "protected" / entry.output,
                    datasets[kind] / str(entry.label),
                )
            )
            assert not ((before != after) & (label == 0)).any(), "noise is in the exact region"
    with pytest.raises(OutputError, match=r"manifest.json.*exists already"):
        run_bundle("anti_learning", dataset_dir=str(datasets[kind]), output_dir=str(tmp_path), **QUICK)


@pytest.mark.parametrize("pattern", METHODS)
@kinds
def test_every_pattern(datasets: dict[str, Path], tmp_path: Path, kind: str, pattern: str) -> None:
    settings = {"bundle": "synthetic", "pattern": pattern, "unperturbed": None}
    if (kind, pattern) == ("maps", "linear"):
        with pytest.raises(LabelError, match="classes of whole images are needed, not label maps"):
            protect(datasets[kind], tmp_path, **settings)
        assert not tree(tmp_path)
        return
    manifest = protect(datasets[kind], tmp_path, **settings)
    assert manifest.run["method"] == METHODS[pattern] and all(changed(manifest))


@pytest.mark.parametrize(("kind", "write"), [("classes", write_class_folders), ("maps", write_dataset)])
def test_volumes(tmp_path: Path, kind: str, write: Callable[..., Path]) -> None:
    data = write(tmp_path / "data", 3, "int16", suffix=".nii.gz")
    for granularity in ("case", "class"):
        manifest = protect(data, tmp_path / granularity, granularity=granularity)
        assert changed(manifest) == ([False] * 3 + [True] * 4 if kind == "classes" else [True] * 2)


@pytest.mark.parametrize(
    ("kind", "name"), [("maps", "DynUNet"), ("maps", "SegResNet"), ("classes", "DenseNet121"), ("classes", "ViT")]
)
def test_other_surrogates(datasets: dict[str, Path], tmp_path: Path, kind: str, name: str) -> None:
    manifest = protect(datasets[kind], tmp_path, **{"network_def#name": name, "steps": 1})
    assert {network["name"] for network in manifest.run["perturber"]["networks"]} == {name}


@pytest.mark.parametrize(
    ("unperturbed", "expected"), [(None, "1111111"), (0, "0001111"), (1, "1110011"), (2, "1111100")]
)
def test_a_class_is_spared(datasets: dict[str, Path], tmp_path: Path, unperturbed: int | None, expected: str) -> None:
    manifest = protect(datasets["classes"], tmp_path, "synthetic", pattern="lattice", unperturbed=unperturbed)
    assert "".join(str(int(one)) for one in changed(manifest)) == expected


@kinds
def test_goals_of_the_error_maximizing_approach(datasets: dict[str, Path], tmp_path: Path, kind: str) -> None:
    made = []
    for name, settings in {"next": {}, "other": {"targets": [2, 0, 1]}, "any": {"goal": "untargeted"}}.items():
        manifest = protect(datasets[kind], tmp_path / name, approach="error_maximizing", unperturbed=None, **settings)
        made.append(tuple(entry.protected_sha256 for entry in manifest.scans))
    assert len(set(made)) == 3
    for settings, reason in (({"targets": [1, 0]}, "number of targets"), ({"goal": "some"}, "unknown goal.* 'some'")):
        with pytest.raises(InputError, match=reason):
            protect(datasets[kind], tmp_path / "wrong", approach="error_maximizing", **settings)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"approach": "minimizing"}, "unknown approach 'minimizing'"),
        ({"granularity": "image"}, "unknown granularity 'image'"),
        (
            {"bundle": "synthetic", "pattern": "stripes"},
            "unknown pattern 'stripes'; known are lsp, ar, cuda, ops, lattice, linear",
        ),
        ({"unperturbed": 3}, "class 3 cannot be left unperturbed; give 'largest', 'none' or 0 to 2"),
        ({"network_def#name": "ResNet19"}, "unknown name 'ResNet19'"),
        ({"epsilon": 1e-3}, "a/0.*less than one storage step"),
    ],
    ids=str,
)
def test_wrong_settings_are_found_before_anything_is_written(
    datasets: dict[str, Path], tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        protect(datasets["classes"], tmp_path, **settings)
    assert not tree(tmp_path)


@pytest.mark.parametrize(("kind", "granularity"), [("classes", "case"), ("maps", "class")])
def test_same_seed_same_bytes_and_other_seed_other_noise(
    datasets: dict[str, Path], tmp_path: Path, kind: str, granularity: str
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        settings = {"seed": seed, "granularity": granularity, "augmentation#noise": 0.1, "augmentation#flip": True}
        protect(datasets[kind], tmp_path / name, **settings)
    first, second, other = (tree(tmp_path / name / "noise") for name in "abc")
    assert first == second and tree(tmp_path / "a" / "protected") == tree(tmp_path / "b" / "protected")
    assert tree(tmp_path / "a" / "protected") != tree(tmp_path / "c" / "protected") and first != other


def stop_at(patch: pytest.MonkeyPatch, owner: Any, function: str, call: int) -> None:
    """Make the n-th call of a function raise as Ctrl-C does."""
    original, calls = getattr(owner, function), iter(range(1000))

    def stopping(*arguments: Any) -> Any:
        if next(calls) == call:
            raise KeyboardInterrupt
        return original(*arguments)

    patch.setattr(owner, function, stopping)


@pytest.mark.parametrize(
    ("settings", "owner", "function", "call"),
    [
        ({}, ProtectionTrainer, "_iteration", 3),
        ({}, publication, "publish_scan", 4),
        ({"stop_at_error": 1.1}, publication, "publish_scan", 4),
        ({"granularity": "class"}, ProtectionTrainer, "_iteration", 3),
        ({"granularity": "class", "approach": "error_maximizing"}, ProtectionTrainer, "_iteration", 6),
        ({"approach": "error_maximizing"}, ProtectionTrainer, "_iteration", 3),
    ],
    ids=str,
)
def test_stopped_runs_go_on_to_the_same_bytes(
    datasets: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    owner: Any,
    function: str,
    call: int,
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, owner, function, call)
        protect(datasets["classes"], tmp_path / "out", **settings)
    for name in ("out", "whole"):
        protect(datasets["classes"], tmp_path / name, **settings)
    for folder in ("noise", "protected"):
        assert tree(tmp_path / "out" / folder) == tree(tmp_path / "whole" / folder)


@pytest.mark.parametrize(
    "change",
    [{"augmentation#noise": 0.1}, {"network_def#name": "ViT"}, {"learning_rate": 0.1}, {"pattern_rate": 0.1}],
    ids=str,
)
def test_training_with_other_settings_never_goes_on(
    datasets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, ProtectionTrainer, "_iteration", 3)
        protect(datasets["classes"], tmp_path, granularity="class")
    with pytest.raises(OutputError, match=r"training.pt.*other settings"):
        protect(datasets["classes"], tmp_path, granularity="class", **change)


@kinds
@pytest.mark.parametrize("settings", [{}, {"granularity": "class"}, {"bundle": "synthetic"}], ids=str)
def test_a_checkpoint_protects_further_cases(
    datasets: dict[str, Path], tmp_path: Path, kind: str, settings: dict[str, Any]
) -> None:
    protect(datasets[kind], tmp_path / "out", **settings)
    checkpoint = str(tmp_path / "out" / "models" / "perturber.safetensors")
    if kind == "classes":
        further = write_class_folders(tmp_path / "more", shape=(31, 27), first_seed=50)
    else:
        further = WRITE[kind](tmp_path / "more", names=("x", "y", "z"), first_seed=50)

    def apply(data: Path, out: Path) -> Manifest:
        run_bundle("error_minimizing", "apply", dataset_dir=str(data), output_dir=str(out), checkpoint=checkpoint)
        return verify(out, data)

    manifest = apply(further, tmp_path / "new")
    assert changed(manifest) == ([False] * 3 + [True] * 4 if kind == "classes" else [True] * 3)
    apply(datasets[kind], tmp_path / "again")
    assert tree(tmp_path / "again" / "protected") == tree(tmp_path / "out" / "protected")
    assert (tmp_path / "again" / "models" / "perturber.safetensors").read_bytes() == Path(checkpoint).read_bytes()


def test_in_short(datasets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = str(datasets["classes"]), str(tmp_path / "out")
    words = ["protect", "synthetic", data, out, "--pattern", "lsp"]
    assert main([*words, "--unperturbed", "1"]) == 0
    assert main(["verify", out, "--clean", data]) == 0
    assert main(["apply", f"{out}/models/perturber.safetensors", data, str(tmp_path / "again")]) == 0
    assert tree(tmp_path / "again" / "protected") == tree(tmp_path / "out" / "protected")
    assert main([*words, "--unperturbed", "nobody", "--overwrite"]) == WRONG_INPUT
    assert "class 'nobody' cannot be left unperturbed" in capsys.readouterr().err


def test_methods_have_names() -> None:
    methods = Catalog.load("methods")
    assert method_names() == bundle_names() + methods.names() and len(set(method_names())) == len(method_names())
    for name in methods.names():
        settings = methods.description(name)
        file = bundle_root(settings.pop("bundle")) / "configs/protect.yaml"
        assert settings.keys() <= ConfigParser.load_config_file(str(file)).keys()
    with pytest.raises(InputError, match=r"unknown method 'minimizing'; did you mean 'error_minimizing'"):
        run_bundle("minimizing", dataset_dir="x", output_dir="y")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("error_minimizing_class", "ClasswiseNoise"),
        ("error_maximizing_untargeted", "GradientNoise"),
        ("ops", "FixedVoxels"),
    ],
)
def test_methods_by_name(datasets: dict[str, Path], tmp_path: Path, name: str, expected: str) -> None:
    settings = {"epsilon": EPSILON} if name == "ops" else QUICK
    run_bundle(name, dataset_dir=str(datasets["classes"]), output_dir=str(tmp_path), **settings)
    manifest = verify(tmp_path, datasets["classes"])
    assert manifest.run["method"] == expected and all(
        trainer["max_epochs"] == 2 for trainer in manifest.run["config"]["trainers"]
    ), "settings that are given win"
    if name == "error_maximizing_untargeted":
        assert manifest.run["perturber"]["objective"]["goal"] == "maximize"

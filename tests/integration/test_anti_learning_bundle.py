# SPDX-License-Identifier: Apache-2.0
"""The anti_learning bundle as people run it: every approach on classes of whole images and on class maps."""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
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
DEFAULTS = {"approach": "error_minimizing", "granularity": "case"}
# Kind, approach and granularity: each two of them in all ways.
COMBINED = [
    ("classes", "error_minimizing", "case"),
    ("maps", "error_maximizing", "case"),
    ("maps", "error_minimizing", "class"),
    ("classes", "error_maximizing", "class"),
    ("classes", "error_minimizing", "universal"),
    ("maps", "error_maximizing", "universal"),
]


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


@pytest.fixture(scope="module")
def made(datasets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., SimpleNamespace]:
    """Protects a dataset with some settings, once for all tests that read ``out`` and ``manifest``."""

    @functools.cache
    def make(kind: str, **settings: Any) -> SimpleNamespace:
        out = tmp_path_factory.mktemp("made")
        return SimpleNamespace(out=out, manifest=protect(datasets[kind], out, **settings))

    return lambda kind, **settings: make(kind, **{k: v for k, v in settings.items() if DEFAULTS.get(k) != v})


def changed(manifest: Manifest) -> list[bool]:
    return [entry.measured["linf"] > 0 for entry in manifest.scans]


def test_approaches_and_granularities_are_combined() -> None:
    assert {combined[1:] for combined in COMBINED} == set(product(APPROACHES, GRANULARITIES))


@pytest.mark.parametrize(("kind", "approach", "granularity"), COMBINED)
def test_protects_verifies_restores(
    datasets: dict[str, Path], made: Callable[..., SimpleNamespace], kind: str, approach: str, granularity: str
) -> None:
    done = made(kind, approach=approach, granularity=granularity)
    assert done.manifest.run["method"] == ("GradientNoise" if granularity == "case" else "ClasswiseNoise")
    trainers = done.manifest.run["config"]["trainers"]
    assert len(trainers) == (2 if approach == "error_maximizing" and granularity != "case" else 1)
    assert (trainers[0]["perturber"] is None) == (approach == "error_maximizing")
    assert (done.out / "models" / "training.pt").is_file()
    assert changed(done.manifest) == ([False] * 3 + [True] * 4 if kind == "classes" else [True] * 2)
    if kind == "maps":
        for entry in done.manifest.scans:
            files = (datasets[kind] / entry.file, done.out / "protected" / entry.output, datasets[kind] / entry.label)
            before, after, label = map(stored_voxels, files)
            assert not ((before != after) & (label == 0)).any(), "noise is in the exact region"


def test_a_finished_output_stays(datasets: dict[str, Path], made: Callable[..., SimpleNamespace]) -> None:
    with pytest.raises(OutputError, match=r"manifest.json.*exists already"):
        protect(datasets["classes"], made("classes").out)


@pytest.mark.parametrize("pattern", METHODS)
@kinds
def test_every_pattern(datasets: dict[str, Path], tmp_path: Path, kind: str, pattern: str) -> None:
    settings = {"bundle": "synthetic", "pattern": pattern, "unperturbed": None}
    if (kind, pattern) == ("maps", "linear"):
        with pytest.raises(LabelError, match="needs one class for each whole image, and these cases have label maps"):
            protect(datasets[kind], tmp_path, **settings)
        assert not tree(tmp_path)
        return
    manifest = protect(datasets[kind], tmp_path, **settings)
    assert manifest.run["method"] == METHODS[pattern] and all(changed(manifest))


@pytest.mark.parametrize(
    ("granularity", "write", "expected"),
    [("case", write_class_folders, [False] * 3 + [True] * 4), ("class", write_dataset, [True] * 2)],
)
def test_volumes(tmp_path: Path, granularity: str, write: Callable[..., Path], expected: list[bool]) -> None:
    data = write(tmp_path / "data", 3, "int16", suffix=".nii.gz")
    assert changed(protect(data, tmp_path / "out", granularity=granularity)) == expected


@pytest.mark.parametrize(("kind", "name"), [("maps", "DynUNet"), ("classes", "ViT")])
def test_other_surrogates(datasets: dict[str, Path], tmp_path: Path, kind: str, name: str) -> None:
    manifest = protect(datasets[kind], tmp_path, **{"network_def#name": name, "steps": 1})
    assert {network["name"] for network in manifest.run["perturber"]["networks"]} == {name}


@pytest.mark.parametrize(
    ("unperturbed", "expected"), [(None, "1111111"), (0, "0001111"), (1, "1110011"), (2, "1111100")]
)
def test_a_class_is_spared(datasets: dict[str, Path], tmp_path: Path, unperturbed: int | None, expected: str) -> None:
    manifest = protect(datasets["classes"], tmp_path, "synthetic", pattern="lattice", unperturbed=unperturbed)
    assert "".join(str(int(one)) for one in changed(manifest)) == expected


def test_goals_of_the_error_maximizing_approach(datasets: dict[str, Path], tmp_path: Path) -> None:
    made, maximizing = [], {"approach": "error_maximizing", "unperturbed": None}
    for name, settings in {"next": {}, "other": {"targets": [2, 0, 1]}, "any": {"goal": "untargeted"}}.items():
        manifest = protect(datasets["classes"], tmp_path / name, **maximizing, **settings)
        made.append(tuple(entry.protected_sha256 for entry in manifest.scans))
    assert len(set(made)) == 3
    for settings, reason in (({"targets": [1, 0]}, "number of targets"), ({"goal": "some"}, "unknown goal.* 'some'")):
        with pytest.raises(InputError, match=reason):
            protect(datasets["classes"], tmp_path / "wrong", **maximizing, **settings)


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
    made: Callable[..., SimpleNamespace],
    settings: dict[str, Any],
    owner: Any,
    function: str,
    call: int,
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, owner, function, call)
        protect(datasets["classes"], tmp_path, **settings)
    protect(datasets["classes"], tmp_path, **settings)
    for folder in ("noise", "protected"):
        assert tree(tmp_path / folder) == tree(made("classes", **settings).out / folder)


def test_training_goes_on_with_the_same_settings_alone(
    datasets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, ProtectionTrainer, "_iteration", 3)
        protect(datasets["classes"], tmp_path, granularity="class")
    others = {"augmentation#noise": 0.1, "network_def#name": "ViT", "learning_rate": 0.1, "pattern_rate": 0.1}
    for name, value in others.items():
        with pytest.raises(OutputError, match=r"training.pt.*other settings"):
            protect(datasets["classes"], tmp_path, granularity="class", **{name: value})
    protect(datasets["classes"], tmp_path, granularity="class")


@kinds
@pytest.mark.parametrize("settings", [{}, {"granularity": "class"}, {"bundle": "synthetic"}], ids=str)
def test_a_checkpoint_protects_further_cases(
    datasets: dict[str, Path],
    tmp_path: Path,
    made: Callable[..., SimpleNamespace],
    kind: str,
    settings: dict[str, Any],
) -> None:
    out = made(kind, **settings).out
    checkpoint = str(out / "models" / "perturber.safetensors")
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
    assert tree(tmp_path / "again" / "protected") == tree(out / "protected")
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

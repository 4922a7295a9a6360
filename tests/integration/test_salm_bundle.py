# SPDX-License-Identifier: Apache-2.0
"""The salm bundle as people run it, and its masks in other bundles, by configuration alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monai_unlearnable.__main__ import main
from monai_unlearnable.data import read_scan
from monai_unlearnable.errors import InputError
from monai_unlearnable.noise import Manifest, NoiseStore
from monai_unlearnable.perturbers import load_perturber, load_surrogate
from monai_unlearnable.publishing.restore import restore
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.training import ProtectionTrainer
from tests.helpers import stored_voxels, tree, write_class_folders, write_dataset

QUICK: dict[str, Any] = {
    "epochs": 2,
    "epoch_length": 2,
    "batch_size": 2,
    "network_def#width": 4,
    "epsilon": 0.08,
    "steps": 3,
}
SPARSE = {"_target_": "monai_unlearnable.masks.Sparsity", "fraction": 0.05}
WRITE: dict[str, Callable[..., Path]] = {
    "classes": lambda root, **more: write_class_folders(root, shape=(24, 20), **more),
    "volumes": lambda root, **more: write_class_folders(root, 3, "int16", suffix=".nii.gz", **more),
    "maps": lambda root, **more: write_dataset(root, 2, "uint8", suffix=".png", **more),
    "volume maps": lambda root, **more: write_dataset(root, 3, "int16", suffix=".nii.gz", **more),
}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One dataset of each kind; the largest class of the images is the first one."""
    return {kind: write(tmp_path_factory.mktemp("data") / "d") for kind, write in WRITE.items()}


@pytest.fixture(scope="module")
def plain(datasets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What becomes of the classes of pictures without further settings. Shared: read only."""
    out = tmp_path_factory.mktemp("plain") / "out"
    protect(datasets["classes"], out)
    return out


def protect(data: Path, out: Path, method: str = "salm", **settings: Any) -> Manifest:
    """Protect a dataset, check everything that is promised, and return the manifest."""
    run_bundle(method, dataset_dir=str(data), output_dir=str(out), **{**QUICK, **settings})
    manifest = verify(out, data)
    restore(out, out / "restored")
    for entry in manifest.scans:
        assert read_scan(out / "restored" / entry.file).digest() == read_scan(data / entry.file).digest()
    return manifest


def changes(manifest: Manifest, data: Path, out: Path) -> list[int]:
    """Voxels changed, counted from the files."""
    pairs = ((data / entry.file, out / "protected" / entry.output) for entry in manifest.scans)
    return [int((stored_voxels(before) != stored_voxels(after)).sum()) for before, after in pairs]


@pytest.mark.parametrize(("kind", "fraction"), list(zip(WRITE, [0.02, 0.2, 0.2, 0.02], strict=True)))
def test_protects_verifies_restores(datasets: dict[str, Path], tmp_path: Path, kind: str, fraction: float) -> None:
    manifest = protect(datasets[kind], tmp_path, fraction=fraction)
    counts, voxels = changes(manifest, datasets[kind], tmp_path), [np.prod(entry.shape) for entry in manifest.scans]
    if "maps" in kind:  # a share of the region
        voxels = [int((stored_voxels(datasets[kind] / str(entry.label)) > 0).sum()) for entry in manifest.scans]
    assert all(count <= int(fraction * size) for count, size in zip(counts, voxels, strict=True))
    assert [count > 0.3 * fraction * size for count, size in zip(counts, voxels, strict=True)] == (
        [False] * 3 + [True] * 4 if "maps" not in kind else [True] * 2
    )
    assert manifest.run["method"] == "GradientNoise"
    assert manifest.run["budget"] == {"epsilon": 0.08, "norm": "linf", "fraction": fraction}


@pytest.mark.parametrize(
    "settings",
    [
        {"mask_refresh": "once"},
        {"mask_refresh": "step"},
        {"score": "gradient_times_input"},
        {"score": "random"},
        {"score": "foreground"},
        {"score": "variance"},
        {"of": "foreground"},
        {"per": "element"},
        {"patch": 4},
        {"fitted": 2.0},
        {"augmentation#flip": True, "samples": 2},
    ],
    ids=str,
)
def test_every_choice_gives_noise_of_its_own(
    datasets: dict[str, Path], plain: Path, tmp_path: Path, settings: dict
) -> None:
    manifest = protect(datasets["classes"], tmp_path, **settings)
    alike = settings == {"per": "element"}  # of images with one channel
    assert (tree(plain / "protected") == tree(tmp_path / "protected")) == alike
    assert 0 < max(changes(manifest, datasets["classes"], tmp_path)) <= int(0.2 * 24 * 20)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score": "luck"}, "unknown score 'luck'; known are gradient, gradient_times_input, random"),
        ({"mask_refresh": "never"}, "unknown mask_refresh 'never'"),
        ({"fraction": 0}, r"must lie in \(0, 1\]"),
        ({"of": "air"}, "unknown base"),
        ({"patch": 0}, "at least one voxel"),
    ],
)
def test_wrong_settings_are_found_before_anything_is_written(
    datasets: dict[str, Path], tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        protect(datasets["classes"], tmp_path, **settings)
    assert not tree(tmp_path)


def test_same_seed_same_bytes(datasets: dict[str, Path], tmp_path: Path) -> None:
    for name, more in (("first", {}), ("again", {"protection#cache_gib": 0}), ("other", {"seed": 1})):
        run_bundle("salm", dataset_dir=str(datasets["volume maps"]), output_dir=str(tmp_path / name), **QUICK, **more)
    first, again, other = (tree(tmp_path / name / "protected") for name in ("first", "again", "other"))
    assert first == again and first != other


def test_a_stopped_run_goes_on_to_the_same_bytes(
    datasets: dict[str, Path], plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, calls, iterate = datasets["classes"], [0], ProtectionTrainer._iteration

    def stopping(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 4:
            raise KeyboardInterrupt
        return iterate(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ProtectionTrainer, "_iteration", stopping)
        protect(data, tmp_path / "cut")
    protect(data, tmp_path / "cut")
    assert tree(tmp_path / "cut" / "protected") == tree(plain / "protected")
    assert tree(tmp_path / "cut" / "noise") == tree(plain / "noise")


@pytest.mark.parametrize("kind", ["classes", "maps"])
def test_a_checkpoint_protects_further_cases(datasets: dict[str, Path], tmp_path: Path, kind: str) -> None:
    protect(datasets[kind], tmp_path / "out", fraction=0.05)
    more = WRITE[kind](tmp_path / "more", first_seed=50)
    checkpoint = str(tmp_path / "out/models/perturber.safetensors")
    run_bundle("salm", "apply", dataset_dir=str(more), checkpoint=checkpoint, output_dir=str(tmp_path / "bundle"))
    assert main(["apply", checkpoint, str(more), str(tmp_path / "command")]) == 0
    for name in ("bundle", "command"):
        manifest = verify(tmp_path / name, more)
        voxels = np.prod(manifest.scans[0].shape)
        counts = changes(manifest, more, tmp_path / name)
        assert max(counts) > 0 and all(count <= int(0.05 * voxels) for count in counts)
        assert manifest.run["budget"]["fraction"] == 0.05, "the bound of the checkpoint is kept"


def test_only_noise_of_cases_is_selected(datasets: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sparsity selects voxels for noise of granularity 'case'"):
        protect(datasets["classes"], tmp_path, "anti_learning", sparsity=SPARSE, granularity="class")
    assert not tree(tmp_path)


def test_the_mask_works_with_error_maximizing_noise(datasets: dict[str, Path], tmp_path: Path) -> None:
    for kind in ("classes", "maps"):
        settings = {"approach": "error_maximizing", "sparsity": SPARSE}
        manifest = protect(datasets[kind], tmp_path / kind, "anti_learning", **settings)
        counts = changes(manifest, datasets[kind], tmp_path / kind)
        assert 0 < max(counts) <= int(0.05 * np.prod(manifest.scans[0].shape))


def test_the_mask_works_with_umed(datasets: dict[str, Path], tmp_path: Path) -> None:
    data, out = datasets["volume maps"], tmp_path / "salm"
    protect(data, out, fraction=0.5)
    checkpoint = f"{out}/models/perturber.safetensors"
    masks = "monai_unlearnable.masks"
    support = {
        "_target_": f"{masks}.Intersection",
        "first": {"_target_": f"{masks}.Roi"},
        "second": {
            "_target_": "monai_unlearnable.perturbers.SalientVoxels",
            "network": {"_target_": "monai_unlearnable.perturbers.load_surrogate", "path": checkpoint},
            "sparsity": SPARSE,
        },
    }
    umed = {
        "masks#support": support,
        "protection#fraction": 0.05,
        "network_def#channels": [4, 8],
        "network_def#strides": [2],
    }
    settings = {name: value for name, value in QUICK.items() if name not in ("steps", "network_def#width")}
    run_bundle("umed", dataset_dir=str(data), output_dir=str(tmp_path / "umed"), **settings, **umed)
    manifest = verify(tmp_path / "umed", data)
    counts = changes(manifest, data, tmp_path / "umed")
    assert 0 < max(counts) <= int(0.05 * np.prod(manifest.scans[0].shape))
    made = str(tmp_path / "umed/models/perturber.safetensors")
    window = str({"_target_": "monai_unlearnable.intensity.DtypeWindow"})
    given = ["--window", window, "--label_values", "[0, 1, 2]"]
    for name, settings in (("applied", []), ("with both given", given)):
        assert main(["apply", made, str(data), str(tmp_path / name), *settings]) == 0
        assert verify(tmp_path / name).run["budget"]["fraction"] == 0.05, "the checkpoint knows the bound"
    (network,) = load_perturber(made).mask_networks
    for kept, given in zip(network.parameters(), load_surrogate(checkpoint).parameters(), strict=True):
        assert torch.equal(kept, given)


def test_noise_files_grow_with_the_voxels(tmp_path: Path) -> None:
    data = write_class_folders(tmp_path / "data", shape=(96, 96), counts=(1, 1))
    sizes = []
    for fraction in (0.02, 0.04, 0.08):
        out = tmp_path / str(fraction)
        manifest = protect(data, out, fraction=fraction, unperturbed="none")
        store = NoiseStore(out / "noise")
        sizes.append(np.mean([store.path(entry.scan_id).stat().st_size for entry in manifest.scans]))
    first, second = sizes[1] - sizes[0], sizes[2] - sizes[1]
    assert 1.4 * first < second < 2.6 * first

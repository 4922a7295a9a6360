# SPDX-License-Identifier: Apache-2.0
"""The umed bundle as people run it: in this process, as a command, on two processes, on new cases."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from monai.bundle import ConfigParser, verify_metadata

from monai_unlearnable.data import read_scan
from monai_unlearnable.errors import InputError, LabelError, OutputError
from monai_unlearnable.noise import Manifest
from monai_unlearnable.publishing import publication
from monai_unlearnable.publishing.restore import restore
from monai_unlearnable.publishing.run import bundle_names, bundle_root, run_bundle
from monai_unlearnable.publishing.settings import RENAMED
from monai_unlearnable.publishing.verify import verify
from tests.helpers import tree, write_dataset
from tests.integration.commands import ROOT

CONFIGS = ROOT / "bundles" / "umed" / "configs"
QUICK: dict[str, Any] = {
    "epochs": 2,
    "epoch_length": 2,
    "batch_size": 2,
    "epsilon": 0.05,
    "network_def#channels": [4, 8, 8, 8],
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A dataset and the output of the bundle: ``data``, ``out`` and its ``checkpoint``. Shared: read only."""
    root = tmp_path_factory.mktemp("done")
    data = write_dataset(root / "data")
    run_bundle("umed", dataset_dir=str(data), output_dir=str(root / "out"), **QUICK)
    return SimpleNamespace(data=data, out=root / "out", checkpoint=str(root / "out/models/perturber.safetensors"))


@pytest.mark.parametrize(("dims", "suffix", "dtype"), [(3, ".nii.gz", "int16"), (2, ".png", "uint8")])
def test_protects_verifies_restores(tmp_path: Path, dims: int, suffix: str, dtype: str) -> None:
    data = write_dataset(tmp_path / "data", dims, dtype, suffix=suffix)
    out = tmp_path / "out"
    run_bundle("umed", dataset_dir=str(data), output_dir=str(out), **QUICK)
    manifest = verify(out, data)
    assert manifest.run["config"]["trainers"][0]["max_epochs"] == 2
    assert all(0 < entry.measured["linf"] <= 0.05 + 1e-6 for entry in manifest.scans)
    restore(out, tmp_path / "restored")
    for entry in manifest.scans:
        assert read_scan(tmp_path / "restored" / entry.file).digest() == read_scan(data / entry.file).digest()
    with pytest.raises(OutputError, match=r"manifest.json.*exists already"):
        run_bundle("umed", dataset_dir=str(data), output_dir=str(out), **QUICK)


def test_same_seed_same_bytes_and_other_seed_other_noise(done: SimpleNamespace, tmp_path: Path) -> None:
    for name, seed in (("again", 0), ("other", 1)):
        run_bundle("umed", dataset_dir=str(done.data), output_dir=str(tmp_path / name), seed=seed, **QUICK)
    for folder in ("noise", "protected"):
        assert tree(tmp_path / "again" / folder) == tree(done.out / folder)
    assert tree(tmp_path / "other/noise")["images/a.npz"] != tree(done.out / "noise")["images/a.npz"]


def test_nested_settings_are_overridden(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    run_bundle("umed", dataset_dir=str(data), output_dir=str(tmp_path / "out"), **QUICK, **{"masks#support#margin": 1})
    manifest = verify(tmp_path / "out", data)
    assert manifest.run["perturber"]["support"]["margin"] == 1


def test_checkpoint_protects_cases_it_has_never_seen(done: SimpleNamespace, tmp_path: Path) -> None:
    more = write_dataset(tmp_path / "more", names=("x", "y", "z"))
    run_bundle("umed", "apply", dataset_dir=str(more), output_dir=str(tmp_path / "new"), checkpoint=done.checkpoint)
    manifest = verify(tmp_path / "new", more)
    assert len(manifest.scans) == 3
    assert all(entry.measured["l0"] > 0 for entry in manifest.scans)
    assert manifest.run["checkpoint_sha256"] == Manifest.load(done.out / "noise/manifest.json").run["checkpoint_sha256"]


def test_checkpoint_reads_new_cases_as_it_was_trained_unless_told_otherwise(tmp_path: Path) -> None:
    data, more = write_dataset(tmp_path / "data"), write_dataset(tmp_path / "more", empty=("a",))
    trained, other = (
        {"_target_": "monai_unlearnable.intensity.FixedWindow", "low": -400, "high": high} for high in (800, 700)
    )
    run_bundle("umed", dataset_dir=str(data), output_dir=str(tmp_path / "out"), window=trained, **QUICK)
    source = {"dataset_dir": str(more), "checkpoint": str(tmp_path / "out/models/perturber.safetensors")}
    for name, settings, expected in (
        ("default", {}, (trained, [0, 1, 2])),
        ("window", {"window": other}, (other, [0, 1, 2])),
        ("labels", {"label_values": [0, 2, 1]}, (trained, [0, 2, 1])),
    ):
        run_bundle("umed", "apply", output_dir=str(tmp_path / name), **source, **settings)
        run = Manifest.load(tmp_path / name / "noise/manifest.json").run
        assert (run["window"], run["label_values"]) == expected


def test_checkpoint_protects_with_another_epsilon(done: SimpleNamespace, tmp_path: Path) -> None:
    more = write_dataset(tmp_path / "more", names=("x", "y"))
    source = {"dataset_dir": str(more), "checkpoint": done.checkpoint}
    largest = {}
    for epsilon in (QUICK["epsilon"], 0.15):
        run_bundle("umed", "apply", output_dir=str(tmp_path / f"{epsilon}"), epsilon=epsilon, **source)
        manifest = verify(tmp_path / f"{epsilon}", more)
        assert manifest.run["budget"]["epsilon"] == epsilon
        largest[epsilon] = [entry.measured["linf"] for entry in manifest.scans]
    assert all(high > 2 * low for low, high in zip(*largest.values(), strict=True))


def test_settings_below_an_expression_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"window#low.*not a group"):
        run_bundle("umed", "apply", dataset_dir="x", output_dir=str(tmp_path), **{"window#low": 3})


@pytest.mark.parametrize("name", ["epsilom", "skip_invalidd", "network_deff#channels"])
def test_mistyped_settings_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"no setting '{name}'; did you mean"):
        run_bundle("umed", dataset_dir=str(write_dataset(tmp_path / "data")), output_dir=str(tmp_path), **{name: 1})


def test_settings_with_another_name_now_say_it(tmp_path: Path) -> None:
    settings = {"view#mirror": True, "quarantine": True, "surrogate_lifetime": 100}
    for name, new in zip(settings, ("augmentation", "skip_invalid", "surrogates#lifetime"), strict=True):
        with pytest.raises(InputError, match=f"no setting '{name}'; .* is called '{new}' now"):
            run_bundle("umed", dataset_dir="x", output_dir=str(tmp_path), **{name: settings[name]})
    files = [str(bundle_root(name) / "configs" / "protect.yaml") for name in bundle_names()]
    known = {name for file in files for name in ConfigParser.load_config_file(file)}
    assert {new.partition("#")[0] for new in RENAMED.values()} <= known and not known & set(RENAMED)


def test_training_with_other_settings_never_goes_on_from_a_checkpoint(done: SimpleNamespace, tmp_path: Path) -> None:
    where = {"dataset_dir": str(done.data), "output_dir": str(tmp_path)}
    shutil.copytree(done.out / "models", tmp_path / "models")
    with pytest.raises(OutputError, match=r"training.pt.*other settings"):
        run_bundle("umed", **where, **QUICK, **{"masks#support#margin": 2})
    run_bundle("umed", **where, device="cpu", **QUICK)
    verify(tmp_path, done.data)


def test_a_run_that_was_stopped_after_training_goes_on(
    done: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = {"dataset_dir": str(done.data), "output_dir": str(tmp_path)}
    calls, publish = iter(range(9)), publication.publish_scan

    def stopping(*arguments):
        if next(calls) == 1:
            raise KeyboardInterrupt
        return publish(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(publication, "publish_scan", stopping)
        run_bundle("umed", **where, **QUICK)
    run_bundle("umed", **where, **QUICK)
    for folder in ("noise", "protected"):
        assert tree(tmp_path / folder) == tree(done.out / folder)


def test_input_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    (data / "labels" / "b.nii.gz").unlink()
    with pytest.raises(LabelError, match="images/b.*no label"):
        run_bundle("umed", dataset_dir=str(data), output_dir=str(tmp_path / "out"), **QUICK)
    assert not (tmp_path / "out").exists()


def test_unknown_method_lists_the_known() -> None:
    with pytest.raises(InputError, match="umed"):
        run_bundle("unmed", dataset_dir="x", output_dir="y")


@pytest.mark.parametrize("name", bundle_names("metadata.json"))
def test_every_bundle_is_complete_and_its_metadata_valid(name: str) -> None:
    root = bundle_root(name)
    if name in bundle_names():
        assert (root / "configs" / "apply.yaml").is_file()
    assert (root / "configs" / "logging.conf").is_file()
    assert (root / "docs" / "README.md").is_file()
    assert not list(root.rglob("*.py")), "bundles hold no Python"
    metadata, schema = root / "configs" / "metadata.json", ROOT / "bundles" / "meta_schema.json"
    verify_metadata(meta_file=str(metadata), filepath=str(schema))


def test_metadata_that_is_wrong_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text('{"schema": "https://a.b/c.json", "version": 1}')
    with pytest.raises(ValueError, match="Failed validating"):
        verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=str(ROOT / "bundles" / "meta_schema.json"))


def test_every_bundle_takes_the_same_names() -> None:
    common = {"dataset_dir", "datalist", "output_dir", "window", "epsilon", "device", "seed", "masks", "key"}
    for name in bundle_names():
        content = ConfigParser.load_config_file(str(bundle_root(name) / "configs" / "protect.yaml"))
        assert common | ({"epochs", "network_def"} if "train" in content else set()) <= set(content), name

# SPDX-License-Identifier: Apache-2.0
"""Commands as people type them, and what every bundle that is trained has to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai_unlearnable.data import read_scan
from monai_unlearnable.noise import Manifest
from monai_unlearnable.publishing.restore import restore
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.publishing.verify import verify
from tests.helpers import tree, write_dataset
from tests.processes import ROOT, forked


def command(*words: str, processes: int = 1) -> str:
    """Run interpreters of these words in the checkout; returns what they print."""
    done = forked(*words, processes=processes)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def as_words(settings: dict[str, object]) -> list[str]:
    """Settings as ``--name value``."""
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def bundle_words(bundle: str, settings: dict[str, object]) -> list[str]:
    """What protects with a bundle as MONAI runs it."""
    root = ROOT / "bundles" / bundle
    words = ["-m", "monai.bundle", "run", "--config_file", str(root / "configs" / "protect.yaml")]
    return [*words, "--bundle_root", str(root), *as_words(settings)]


def goes_on_and_tells_settings_apart(bundle: str, folder: Path, quick: dict[str, Any], *others: dict[str, Any]) -> None:
    """A run that was stopped while it published goes on to the same bytes; others, of other settings, give others."""
    data = write_dataset(folder / "data")

    def run(name: str, **settings: Any) -> dict[str, bytes]:
        run_bundle(bundle, dataset_dir=str(data), output_dir=str(folder / name), **{**quick, **settings})
        return tree(folder / name / "protected")

    whole = run("out")
    (folder / "out" / "noise" / "manifest.json").unlink()
    (folder / "out" / "noise" / "images" / "b.npz").unlink()
    assert run("out") == whole
    for settings in others:
        assert run(str(settings), **settings) != whole


def round_trip(bundle: str, folder: Path, dims: int, suffix: str, dtype: str, settings: dict[str, Any]) -> Manifest:
    """Protect, verify, restore, and protect further cases with the checkpoint; returns the manifest of the first."""
    data = write_dataset(folder / "data", dims, dtype, suffix=suffix)
    more = write_dataset(folder / "more", dims, dtype, suffix=suffix, names=("x", "y"))
    out = folder / "out"
    run_bundle(bundle, dataset_dir=str(data), output_dir=str(out), **settings)
    manifest = verify(out, data)
    assert all(0 < entry.measured["linf"] <= settings["epsilon"] + 1e-6 for entry in manifest.scans)
    restore(out, folder / "restored")
    for entry in manifest.scans:
        assert read_scan(folder / "restored" / entry.file).digest() == read_scan(data / entry.file).digest()
    checkpoint = str(out / "models" / "perturber.safetensors")
    run_bundle(bundle, "apply", dataset_dir=str(more), output_dir=str(folder / "new"), checkpoint=checkpoint)
    assert all(entry.measured["l0"] > 0 for entry in verify(folder / "new", more).scans)
    return manifest

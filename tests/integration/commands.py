# SPDX-License-Identifier: Apache-2.0
"""Commands as people type them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def command(*words: str) -> str:
    """Run the interpreter with these words in the checkout; returns what it prints."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def as_words(settings: dict[str, object]) -> list[str]:
    """Settings as ``--name value``."""
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def on_two_processes(bundle: str, settings: dict[str, object]) -> None:
    """Protect with a bundle as ``torchrun`` starts it."""
    root = ROOT / "bundles" / bundle
    files = str([str(root / "configs" / name) for name in ("protect.yaml", "multi_gpu.yaml")])
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "monai.bundle", "run"]
    command(*words, "--config_file", files, "--bundle_root", str(root), *as_words(settings))

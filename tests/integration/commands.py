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

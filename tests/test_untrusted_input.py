# SPDX-License-Identifier: Apache-2.0
"""No code of this package runs what a file holds; ``docs/threat-model.md`` says so.

Ruff's rules ``S`` and the banned names of ``pyproject.toml`` find most of it; here is what they do not know.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import monai_unlearnable

PACKAGE = Path(monai_unlearnable.__file__).parent
ROOT = PACKAGE.parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
BUNDLES = sorted((ROOT / "bundles").rglob("*.yaml"))
IMPORTS = "import numpy as np\nimport os, pickle, subprocess, torch, yaml\n"
# Our interpreter; nnU-Net's commands in the environment that the user names; the command of a suspect.
STARTING = {
    ("data/dicom/decoding.py", "S603"),
    ("victims/external/commands.py", "S603"),
    ("utils/processes.py", "S603"),
}
# The TorchScript file of a suspect, which the user names; scripts of our own in a page; no password.
KNOWN = {
    *STARTING,
    ("tracing/networks.py", "TID251"),
    ("report/html.py", "S704"),
    ("perturbers/random_noise.py", "S105"),
}


def ruff(*arguments: str, source: str | None = None) -> list[tuple[str, str]]:
    """File and code of what the linter finds, whether a comment suppresses it or not."""
    words = ["-m", "ruff", "check", "--select", "S,TID251", "--ignore", "S101", "--ignore-noqa", "--no-cache"]
    command = [sys.executable, *words, "--output-format", "json", *arguments]
    done = subprocess.run(command, cwd=ROOT, input=source, capture_output=True, text=True, check=False)
    found = [(Path(entry["filename"]), entry["code"]) for entry in json.loads(done.stdout)]
    return [(path.relative_to(PACKAGE).as_posix(), code) for path, code in found]


def findings(source: str) -> Iterator[str]:
    """What ruff does not find: pickled arrays and weights, whatever torch is called, and compiled text."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "torch" and any(n.name == "load" for n in node.names):
            yield f"{node.lineno}: names out of torch"
        elif isinstance(node, ast.Import) and any(name.name == "torch" and name.asname for name in node.names):
            yield f"{node.lineno}: another name of torch"
        elif isinstance(node, ast.Call):
            called, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            unsafe_torch = called == "torch.load" and given.get("weights_only") != "True"
            if unsafe_torch or given.get("allow_pickle", "False") != "False" or called == "compile":
                yield f"{node.lineno}: {called}"


def test_nothing_runs_what_a_file_holds() -> None:
    assert len(SOURCES) > 50 and set(ruff(str(PACKAGE))) == KNOWN
    found = {path.relative_to(PACKAGE).as_posix(): list(findings(path.read_text(encoding="utf-8"))) for path in SOURCES}
    assert not {name: lines for name, lines in found.items() if lines}


def test_nor_do_the_expressions_of_bundles() -> None:
    assert len(BUNDLES) > 5
    for path in BUNDLES:
        for line in path.read_text(encoding="utf-8").splitlines():
            words = [w for w in ("torch.load", "pickle", "eval(", "exec(", "yaml.", "os.system") if w in line]
            assert not words, f"{path}: {line}"


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "from torch import load",
        "import torch as t",
        "torch.jit.load(path)",
        "torch.hub.load(path)",
        "pickle.load(stream)",
        "from pickle import loads\nloads(content)",
        "import joblib",
        "import cloudpickle",
        "yaml.load(text, Loader)",
        "yaml.unsafe_load(text)",
        "np.load(path, allow_pickle=True)",
        "np.lib.format.read_array(stream, allow_pickle=flag)",
        "eval(text)",
        "exec(text)",
        "compile(text, path, 'exec')",
        "os.system(text)",
        "subprocess.run(words, shell=True)",
    ],
)
def test_it_would_be_found(source: str) -> None:
    stdin = ("--stdin-filename", str(PACKAGE / "x.py"), "-")
    assert [*findings(source), *(code for _, code in ruff(*stdin, source=IMPORTS + source))]


@pytest.mark.parametrize(
    "source",
    ["network.eval()", "torch.load(path, weights_only=True)", "np.load(path)", "yaml.safe_load(text)", "import pickle"],
)
def test_what_is_safe_is_let_through(source: str) -> None:
    stdin = ("--stdin-filename", str(PACKAGE / "x.py"), "-")
    assert not [*findings(source), *ruff(*stdin, source=IMPORTS + source)]

# SPDX-License-Identifier: Apache-2.0
"""No code of this package runs what a file holds; ``docs/threat-model.md`` says so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import monai_unlearnable

PACKAGE = Path(monai_unlearnable.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
BUNDLES = sorted((PACKAGE.parent / "bundles").rglob("*.yaml"))
MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "torch.jit.load", "torch.hub.load", "importlib.reload"}
RENAMED = {"torch", "yaml", "pickle", "os", "subprocess"}
EXCEPTIONS = {"pickle.UnpicklingError"}  # may be caught


def name_of(node: ast.AST) -> str:
    """``a.b.c`` of an expression, or nothing."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def is_constant(call: ast.Call, argument: str, value: object) -> bool:
    found = [keyword.value for keyword in call.keywords if keyword.arg == argument]
    return any(isinstance(node, ast.Constant) and node.value is value for node in found)


def findings(source: str) -> Iterator[str]:
    """What could run code that a file holds, a line each."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            loads = any("load" in name.name for name in node.names) and node.module in ("torch", "yaml", "numpy")
            if loads or (node.module or "").partition(".")[0] in MODULES:
                yield f"{node.lineno}: names out of {node.module}"
        elif isinstance(node, ast.Import):
            for name in node.names:  # another name would hide what is called
                if name.name in MODULES - {"pickle"} or (name.asname and name.name in RENAMED):
                    yield f"{node.lineno}: {name.name}"
        elif isinstance(node, ast.Attribute) and name_of(node).partition(".")[0] in MODULES:
            if name_of(node) not in EXCEPTIONS:
                yield f"{node.lineno}: {name_of(node)}"
        elif isinstance(node, ast.Call):
            called, allows = name_of(node.func), {keyword.arg for keyword in node.keywords}
            unsafe_yaml = called.startswith("yaml.") and "load" in called and not called.startswith("yaml.safe_load")
            unsafe_torch = called == "torch.load" and not is_constant(node, "weights_only", True)
            unsafe_numpy = "allow_pickle" in allows and not is_constant(node, "allow_pickle", False)
            shell = "shell" in allows and not is_constant(node, "shell", False)
            if called in CALLS or unsafe_yaml or unsafe_torch or unsafe_numpy or shell:
                yield f"{node.lineno}: {called}"


def test_nothing_runs_what_a_file_holds() -> None:
    assert len(SOURCES) > 50
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
        "pickle.load(stream)",
        "from pickle import loads",
        "import joblib",
        "yaml.load(text, Loader)",
        "yaml.unsafe_load(text)",
        "np.load(path, allow_pickle=True)",
        "np.lib.format.read_array(stream, allow_pickle=flag)",
        "eval(text)",
        "subprocess.run(words, shell=True)",
    ],
)
def test_it_would_be_found(source: str) -> None:
    assert list(findings(source))


@pytest.mark.parametrize(
    "source",
    ["network.eval()", "torch.load(path, weights_only=True)", "np.load(path)", "yaml.safe_load(text)", "import pickle"],
)
def test_what_is_safe_is_let_through(source: str) -> None:
    assert not list(findings(source))

# SPDX-License-Identifier: Apache-2.0
"""What importing the package costs and changes."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import monai_unlearnable
from monai_unlearnable import errors

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(monai_unlearnable.__path__, "monai_unlearnable.")
    if not module.name.endswith("__main__")
)

# Import everything while recording who seeds, filters warnings or configures logging.
SPY = """
import importlib, logging, random, sys, warnings
import numpy as np, torch, monai, ignite, rich.progress  # rich draws from random when imported
culprits = []
def spy(owner, name):
    original = getattr(owner, name)
    def call(*args, **kwargs):
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.startswith("monai_unlearnable"):
            culprits.append(f"{caller} calls {name}")
        return original(*args, **kwargs)
    setattr(owner, name, call)
for owner, names in {
    warnings: ["filterwarnings", "simplefilter"], logging: ["basicConfig", "captureWarnings", "disable"],
    torch: ["manual_seed", "set_num_threads", "use_deterministic_algorithms"], np.random: ["seed"], random: ["seed"],
    monai.utils: ["set_determinism"],
}.items():
    for name in names:
        spy(owner, name)
states = random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()
handlers, level = list(logging.root.handlers), logging.root.level
for name in sys.argv[1:]:
    importlib.import_module(name)
for name, logger in logging.Logger.manager.loggerDict.items():
    if name.startswith("monai_unlearnable") and isinstance(logger, logging.Logger):
        assert not logger.handlers and logger.level == 0, name
assert not culprits, culprits
assert (handlers, level) == (logging.root.handlers, logging.root.level)
now = random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()
assert [a == b for a, b in zip(states, now)] == [True] * 3
"""


def run(code: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import monai_unlearnable", "torch monai numpy scipy ignite"),
        ("import monai_unlearnable.workflows.stored", "torch monai ignite"),
        ("from monai_unlearnable.workflows import apply_stored, restore", "torch monai ignite"),
        ("import monai_unlearnable.scans, monai_unlearnable.noise, monai_unlearnable.budget", "torch monai ignite"),
    ],
)
def test_imports_are_cheap(statement: str, absent: str) -> None:
    check = f"loaded = [name for name in {absent.split()} if name in sys.modules]\nassert not loaded, loaded"
    run(f"import sys\n{statement}\n{check}")


@pytest.mark.parametrize("name", MODULES)
def test_all_names_existing_things(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert len(set(exported)) == len(exported)
    missing = [item for item in exported if not hasattr(module, item)]
    assert not missing, missing


def test_import_changes_nothing_global() -> None:
    run(SPY, *MODULES)


def test_errors_form_one_tree() -> None:
    classes = [found for name in errors.__all__ if inspect.isclass(found := getattr(errors, name))]
    assert all(issubclass(cls, errors.UnlearnableError) for cls in classes)
    error = errors.BudgetError("too much", case="c1", file="a/b.nii", value=2, limit=1)
    assert str(error) == "c1, a/b.nii: too much" and (error.value, error.limit) == (2, 1)
    assert isinstance(error, ValueError) and isinstance(errors.OutputError("full"), OSError)

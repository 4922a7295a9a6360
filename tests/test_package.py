# SPDX-License-Identifier: Apache-2.0
"""What importing the package costs and changes."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import monai_unlearnable
from monai_unlearnable import errors
from tests.processes import forked

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(monai_unlearnable.__path__, "monai_unlearnable.")
    if not module.name.endswith("__main__")
)

# Import everything while recording who seeds, filters warnings or configures logging.
SPY = """
import sys
assert not any(name.startswith("monai_unlearnable") for name in sys.modules)
import importlib, json, logging, random, sys, warnings
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
def state():
    return {
        "random": random.getstate(), "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(), "root logger": (list(logging.root.handlers), logging.root.level),
    }
before = state()
for name in sys.argv[1:]:
    importlib.import_module(name)
after = state()
loggers = {
    name for name, logger in logging.Logger.manager.loggerDict.items()
    if name.startswith("monai_unlearnable") and isinstance(logger, logging.Logger) and (logger.handlers or logger.level)
}
changed = [what for what in before if before[what] != after[what]]
print(json.dumps({"calls": culprits, "configured loggers": sorted(loggers), "changed": changed}))
"""


def run(code: str, *arguments: str) -> Any:
    """What a fresh interpreter prints last, as JSON."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import monai_unlearnable", "torch monai numpy scipy ignite rich click"),
        ("import monai_unlearnable.cli", "torch monai numpy scipy ignite"),
        ("from monai_unlearnable import apply, audit, restore, verify, OwnerKey, Budget, data", "torch monai ignite"),
    ],
)
def test_imports_are_cheap(statement: str, absent: str) -> None:
    tell = f"print(json.dumps([name for name in {absent.split()} if name in sys.modules]))"
    assert run(f"import json, sys\n{statement}\n{tell}") == []


def test_what_the_package_offers_is_what_its_page_lists() -> None:
    page = (Path(__file__).parents[1] / "docs" / "api" / "index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)`", page, re.MULTILINE)
    offered = [name for name in monai_unlearnable.__all__ if name != "__version__"]
    assert sorted(listed) == sorted(offered)
    for name in offered:
        assert getattr(monai_unlearnable, name).__doc__
    shown = run("import json, monai_unlearnable as mu; print(json.dumps(dir(mu)))")
    assert set(offered) <= set(shown), "completion shows them before they are loaded"
    with pytest.raises(AttributeError, match="no attribute 'protekt'"):
        monai_unlearnable.protekt  # noqa: B018


def test_importing_the_package_takes_no_time() -> None:
    code = "import time; start = time.process_time(); import monai_unlearnable; print(time.process_time() - start)"
    assert min(run(code) for _ in range(3)) < 0.1


def test_all_names_existing_things() -> None:
    assert len(MODULES) > 50
    for name in MODULES:
        module = importlib.import_module(name)
        exported = getattr(module, "__all__", [])
        assert len(set(exported)) == len(exported), f"{name} names something twice"
        missing = [item for item in exported if not hasattr(module, item)]
        assert not missing, f"{name} lacks {missing}"


def test_import_changes_nothing_global() -> None:
    done = forked("-c", SPY, *MODULES)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"calls": [], "configured loggers": [], "changed": []}


def test_errors_form_one_tree() -> None:
    classes = {name: found for name, found in vars(errors).items() if inspect.isclass(found)}
    raised = {name for name, found in classes.items() if issubclass(found, BaseException)}
    assert all(issubclass(classes[name], errors.UnlearnableError) for name in raised)
    assert raised == set(re.findall(r"\w+Error\b(?=  )", str(errors.__doc__))) | {"UnlearnableError"}, "all are drawn"
    assert raised < set(errors.__all__) and raised < set(monai_unlearnable.__all__)
    error = errors.BudgetError("too much", case="c1", file="a/b.nii", value=2, limit=1)
    assert str(error) == "c1, a/b.nii: too much" and (error.value, error.limit) == (2, 1)
    assert isinstance(error, ValueError) and isinstance(errors.OutputError("full"), OSError)

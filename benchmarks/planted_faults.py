# SPDX-License-Identifier: Apache-2.0
"""Faults that no test found once: each is planted in a copy of the tree, and the tests have to fail.

python benchmarks/planted_faults.py WORK

Prints for each fault the tests that find it; exit code 1 where none does. A fault whose place in the code has changed
is an error: write it down anew.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
IGNORED = shutil.ignore_patterns("__pycache__", "_build")


@dataclass(frozen=True)
class Fault:
    """A fault as a change of text.

    Args:
        what: the fault.
        file: file of the package.
        right: text that is there.
        wrong: text that takes its place.
        tests: test file in which it has to be found.
    """

    what: str
    file: str
    right: str
    wrong: str
    tests: str


FAULTS = (
    Fault(
        "the authorized model is scored on its training scans",
        "evaluation/runs.py",
        "sorted(order[1::2])",
        "sorted(order[::2])",
        "tests/evaluation/test_laboratory.py",
    ),
    Fault(
        "left and right are swapped on the axial picture",
        "report/planes.py",
        "plane[..., ::-1, ::-1]",
        'plane[..., :: 1 if self.name == "axial" else -1, ::-1]',
        "tests/report/test_pictures.py",
    ),
    Fault("the verdict's threshold is 0.6", "metrics/judgement.py", "HALF = 0.5", "HALF = 0.6", "tests/report"),
    Fault(
        "PSNR is averaged over unchanged scans too",
        "evaluation/sources.py",
        "_means(differing or [*figures.values()])",
        "_means([*figures.values()])",
        "tests/evaluation/test_laboratory.py",
    ),
    Fault(
        "the key of a run lacks the number of validations",
        "evaluation/bench.py",
        '"looks": matrix.num_validations,',
        "",
        "tests/evaluation/test_laboratory.py",
    ),
    Fault(
        "the unrolled loss is taken over all steps",
        "training/trainer.py",
        "losses[len(losses) // 2 :]",
        "losses",
        "tests/training/test_unrolled.py",
    ),
    Fault(
        "a window has no lower margin around the support",
        "perturbers/inference.py",
        "max((side.start + start) // divisor - 1, 0) * divisor",
        "(side.start + start) // divisor * divisor",
        "tests/perturbers/test_windows.py",
    ),
    Fault(
        "pretraining does not bend intensities",
        "victims/pretraining.py",
        'RandHistogramShiftd("image", prob=0.9, num_control_points=(4, 8)),',
        "",
        "tests/victims/test_finetune.py",
    ),
    Fault(
        "the colors of the heat map are reversed",
        "report/heat.py",
        "[theme.cold, theme.middle, theme.warm]",
        "[theme.warm, theme.middle, theme.cold]",
        "tests/report/test_pictures.py",
    ),
)


def found(fault: Fault, tree: Path) -> list[str]:
    """Plant a fault in a tree, run its tests, take it out again; the tests that failed."""
    path = tree / "monai_unlearnable" / fault.file
    text = path.read_text(encoding="utf-8")
    if text.count(fault.right) != 1:
        raise SystemExit(f"{path}: {fault.right!r} is there {text.count(fault.right)} times, not once")
    path.write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", fault.tests]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    path.write_text(text, encoding="utf-8")
    return re.findall(r"^FAILED \S+::(\S+)", done.stdout, re.MULTILINE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder for the copy of the tree")
    tree, console = parser.parse_args().work / "tree", Console(width=160)
    for name in ("monai_unlearnable", "tests", "bundles", "docs"):
        shutil.copytree(
            ROOT / name, tree / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "_build")
        )
    shutil.copy(ROOT / "setup.cfg", tree)
    missed = 0
    for fault in FAULTS:
        tests = found(fault, tree)
        missed += not tests
        console.print(
            f"{'found' if tests else 'MISSED'}: {fault.what}: {', '.join(tests) or fault.tests}", markup=False
        )
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()

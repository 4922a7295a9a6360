# SPDX-License-Identifier: Apache-2.0
"""Several processes under torchrun: the same bytes as one where nothing is trained, and a restart after a kill."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from monai_unlearnable.cli import main
from monai_unlearnable.crypto import OwnerKey
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.publishing.verify import verify
from tests.helpers import tree, write_dataset
from tests.integration.commands import as_words, bundle_words, command
from tests.processes import ROOT, forked
from tests.publishing.test_archives import write_archive

QUICK = {"epochs": 2, "epoch_length": 2, "batch_size": 2, "network_def#channels": [4, 8, 8, 8]}
LONGER = {**QUICK, "epochs": 3}  # the first process is killed on the way

KILLED_ONCE = """
import os, runpy, signal, sys
saved = []
def kill(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("training.pt"):
        saved.append(arguments[1])
        if len(saved) == 2:  # before the second checkpoint is in its place
            os.kill(os.getpid(), signal.SIGKILL)
attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
print("attempt", attempt, flush=True)
if attempt == "0":
    sys.addaudithook(kill)
runpy.run_module("monai_unlearnable", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset, and its output of one process."""
    root = tmp_path_factory.mktemp("one")
    data = write_dataset(root / "data", names=("a", "b", "c"))
    run_bundle("umed", dataset_dir=str(data), output_dir=str(root / "out"), **QUICK)
    checkpoint = str(root / "out/models/perturber.safetensors")
    run_bundle("umed", "apply", dataset_dir=str(data), output_dir=str(root / "applied"), checkpoint=checkpoint)
    return root


def test_apply_gives_the_bytes_of_one_process(one: Path, tmp_path: Path) -> None:
    source, out = one / "out/models/perturber.safetensors", tmp_path / "out"
    command("-m", "monai_unlearnable", "apply", str(source), str(one / "data"), str(out), processes=2)
    for folder in ("protected", "noise"):
        assert tree(out / folder) == tree(one / "applied" / folder)
    verify(out, one / "data")


def test_an_archive_is_packed_once(tmp_path: Path) -> None:
    words = ["protect", "lattice", str(write_archive(tmp_path / "scans.npz")), "--key", str(tmp_path / "owner.key")]
    OwnerKey(bytes(range(32))).save(tmp_path / "owner.key")
    assert main([*words, str(tmp_path / "one")]) == 0
    command("-m", "monai_unlearnable", *words, str(tmp_path / "two"), processes=2)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_bad_input_is_one_error_of_every_process_and_nothing_is_written(one: Path, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", names=("a", "b", "c"))
    (data / "images" / "b.nii.gz").write_bytes(b"no image")
    words = ["apply", str(one / "out/models/perturber.safetensors"), str(data), str(tmp_path / "out")]
    done = forked("-m", "monai_unlearnable", *words, processes=2)
    assert done.returncode != 0 and re.search(r"error: images/b, .*b\.nii\.gz: not a NIfTI file", done.stderr)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset, and its output of two processes that ``torchrun`` itself started."""
    root = tmp_path_factory.mktemp("two")
    data = write_dataset(root / "data", names=("a", "b", "c"))
    named = {"protection#method": "umed"}  # as words name it
    words = bundle_words("umed", {"dataset_dir": data, "output_dir": root / "out", **named, **LONGER})
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *words]
    done = subprocess.run(launch, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return root


def test_two_processes_give_one_complete_result(two: Path) -> None:
    assert [entry.scan_id for entry in verify(two / "out", two / "data").scans] == ["images/a", "images/b", "images/c"]


def test_a_killed_process_leads_to_a_restart_and_the_same_bytes(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By words, while the other was run as a bundle."""
    # Else torch's processes would look for each other where they were before the restart.
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    words = ["protect", "umed", str(two / "data"), str(tmp_path / "out"), *as_words(LONGER)]
    done = forked("-c", KILLED_ONCE, *words, processes=2, restarts=1)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("attempt 1") == 2, "one was killed, and both started again"
    for folder in ("protected", "noise"):
        assert tree(tmp_path / "out" / folder) == tree(two / "out" / folder)

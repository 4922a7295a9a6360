# SPDX-License-Identifier: Apache-2.0
"""Several processes under torchrun: the same bytes as one where nothing is trained, and a restart after a kill."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from monai_unlearnable.__main__ import main
from monai_unlearnable.crypto import OwnerKey
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.publishing.verify import verify
from tests.helpers import tree, write_dataset
from tests.integration.commands import ROOT, as_words, command, on_two_processes
from tests.publishing.test_archives import write_archive

TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
QUICK = {"epochs": 2, "epoch_length": 2, "batch_size": 2, "network_def#channels": [4, 8, 8, 8]}
LONGER = {**QUICK, "epochs": 6}  # long enough to be killed on the way


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
    command(*TWO, "-m", "monai_unlearnable", "apply", str(source), str(one / "data"), str(out))
    for folder in ("protected", "noise"):
        assert tree(out / folder) == tree(one / "applied" / folder)
    verify(out, one / "data")


def test_an_archive_is_packed_once(tmp_path: Path) -> None:
    words = ["protect", "lattice", str(write_archive(tmp_path / "scans.npz")), "--key", str(tmp_path / "owner.key")]
    OwnerKey(bytes(range(32))).save(tmp_path / "owner.key")
    assert main([*words, str(tmp_path / "one")]) == 0
    command(*TWO, "-m", "monai_unlearnable", *words, str(tmp_path / "two"))
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_bad_input_is_one_error_of_every_process_and_nothing_is_written(one: Path, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", names=("a", "b", "c"))
    (data / "images" / "b.nii.gz").write_bytes(b"no image")
    words = ["apply", str(one / "out/models/perturber.safetensors"), str(data), str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, *TWO, "-m", "monai_unlearnable", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and re.search(r"error: images/b, .*b\.nii\.gz: not a NIfTI file", done.stderr)
    assert not (tmp_path / "out").exists()


def children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset, and its output of two processes."""
    root = tmp_path_factory.mktemp("two")
    data = write_dataset(root / "data", names=("a", "b", "c"))
    on_two_processes("umed", {"dataset_dir": data, "output_dir": root / "out", **LONGER})
    return root


def test_two_processes_give_one_complete_result(two: Path) -> None:
    assert [entry.scan_id for entry in verify(two / "out", two / "data").scans] == ["images/a", "images/b", "images/c"]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes as Linux shows them")
def test_a_killed_process_leads_to_a_restart_and_the_same_bytes(two: Path, tmp_path: Path) -> None:
    """By words, while the other was run as a bundle."""
    words = [*TWO, "--max-restarts=1", "-m", "monai_unlearnable", "protect", "umed", str(two / "data"), str(tmp_path)]
    # Else torch's processes would look for each other where they were before the restart.
    environment = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    launch = [sys.executable, *words, *as_words(LONGER)]
    with subprocess.Popen(launch, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as run:
        while not (tmp_path / "models" / "training.pt").exists():
            with contextlib.suppress(subprocess.TimeoutExpired):  # it needs the processor more than we do
                run.wait(0.05)
            assert run.poll() is None
        os.kill(children(run.pid)[-1], signal.SIGKILL)
        _, messages = run.communicate()
    assert run.returncode == 0, messages[-3000:]
    assert "exitcode: -9" in messages, "it was killed, and started again"
    for folder in ("protected", "noise"):
        assert tree(tmp_path / folder) == tree(two / "out" / folder)

# SPDX-License-Identifier: Apache-2.0
"""Interpreters that start at once: each is forked from a process that has imported MONAI, which takes seconds.

Nothing of the package is imported here: a forked interpreter begins without it.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import uuid
from multiprocessing.context import ForkServerContext
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]


def forking() -> ForkServerContext:
    """A context whose processes are forked from one that has imported MONAI and what comes with it."""
    context = multiprocessing.get_context("forkserver")
    if sys.platform == "linux":  # elsewhere libraries may not be forked once they are loaded
        context.set_forkserver_preload(["monai", "rich.progress"])
    return context


def interpret(*words: str) -> None:
    """What an interpreter does that is started with these words, ``-m MODULE ...`` or ``-c CODE ...``."""
    os.chdir(ROOT)
    kind, what, *arguments = words
    sys.argv = [what if kind == "-m" else kind, *arguments]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


def forked(*words: str, processes: int = 1, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    """Run interpreters of the same words together, as ``torchrun`` does and by its own code, but forked.

    Args:
        words: ``-m MODULE ...`` or ``-c CODE ...``.
        processes: number of interpreters.
        restarts: number of times they are all started again when one has failed.

    Returns:
        1 if they failed, else 0, and what all of them printed in all attempts.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    forking()
    before = signal.getsignal(signal.SIGTERM)
    with TemporaryDirectory() as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            max_restarts=restarts,
            run_id=str(uuid.uuid4()),
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            start_method="forkserver",
            signals_to_handle="SIGTERM",
            logs_specs=DefaultLogsSpecs(logs, redirects=Std.ALL),
        )
        try:
            elastic_launch(config, interpret)(*words)
            code = 0
        except ChildFailedError:
            code = 1
        finally:
            signal.signal(signal.SIGTERM, before)
        out, err = (
            "".join(path.read_text(encoding="utf-8") for path in sorted(Path(logs).rglob(f"{name}.log")))
            for name in ("stdout", "stderr")
        )
    return subprocess.CompletedProcess(words, code, out, err)

# SPDX-License-Identifier: Apache-2.0
"""Commands of other programs, run to their end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from monai_unlearnable.errors import CommandError

__all__ = ["finished"]

PAUSE = 0.2  # seconds between two looks at a command that runs
GRACE = 10  # seconds that a command has to end


def finished(
    command: Sequence[str],
    environment: Mapping[str, str] | None,
    output: int,
    meanwhile: Callable[[], None] = lambda: None,
    seconds: float | None = None,
) -> int:
    """The exit code of a command, which is ended with all its processes where this one is interrupted.

    Args:
        command: program and arguments.
        environment: environment variables; None for those of this process.
        output: file descriptor that gets what the command prints.
        meanwhile: called now and then while it runs.
        seconds: time after which it is ended; by default there is no limit.

    Raises:
        CommandError: when there is no such program, or the time is up.
    """
    nothing = subprocess.DEVNULL
    begin = time.monotonic()
    try:
        process = subprocess.Popen(  # noqa: S603 - the user named it
            command, stdin=nothing, stdout=output, stderr=output, env=environment, start_new_session=True
        )
    except OSError as error:
        raise CommandError(f"cannot be run: {error.strerror or error}", file=command[0]) from error
    try:
        while process.poll() is None:
            if seconds is not None and time.monotonic() - begin > seconds:
                raise CommandError("was ended, since it took too long", file=command[0], limit=seconds)
            meanwhile()
            time.sleep(PAUSE)
        return process.returncode
    finally:
        if process.poll() is None:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        try:
            os.killpg(process.pid, number)
            process.wait(GRACE)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue

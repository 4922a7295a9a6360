# SPDX-License-Identifier: Apache-2.0
"""Work of others that is given a time: commands run to their end, and functions."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from monai_unlearnable.errors import CommandError

__all__ = ["finished", "time_limit"]

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


@contextmanager
def time_limit(seconds: float | None, name: str) -> Iterator[None]:
    """Stop what is done inside when the time is up.

    It works in the main thread, on systems with alarms, and once a call of compiled code returns; elsewhere there is no
    limit. What is stopped must not swallow the error.

    Args:
        seconds: time; None for no limit.
        name: what is limited, for the error.

    Raises:
        CommandError: when the time is up.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if seconds is None or not is_main or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise CommandError("was ended, since it took too long", file=name, limit=seconds)

    earlier = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


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

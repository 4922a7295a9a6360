# SPDX-License-Identifier: Apache-2.0
"""nnU-Net's commands: where they are, and how one is run, logged and, where it fails, told in one line."""

from __future__ import annotations

import errno
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from monai_unlearnable.errors import CommandError, InputError, OutputError, one_line
from monai_unlearnable.utils.processes import finished

__all__ = ["ENVIRONMENT", "Commands"]

logger = logging.getLogger(__name__)

ENVIRONMENT = "MONAI_UNLEARNABLE_NNUNET"  # variable that names the environment which has nnU-Net
OLDEST = (2, 8)  # version
NEEDED = ("nnUNetv2_plan_and_preprocess", "nnUNetv2_train", "nnUNetv2_predict")
ADVICE = (
    "nnU-Net is not installed{where}: install nnunetv2 into an environment of its own and name it as "
    f"{ENVIRONMENT}=FOLDER (docs: nnU-Net itself)"
)
TELLING = re.compile(r"^(?:[\w.]*(?:Error|Exception|Exit|Interrupt)|nnunetv2[\w.]*)\b.*")  # last line of a traceback
FULL = re.compile(r"No space left on device|Disk quota exceeded|\[Errno (?:28|122)\]")
KILLED = re.compile(r"killed by your OS|[Ww]orkers? died|6 feet under")
KILL = 9  # signal of a system that runs out of memory
TAIL = 64 * 1024  # bytes of a log that are searched


@dataclass(frozen=True)
class Commands:
    """nnU-Net's commands in one environment.

    Args:
        folder: folder that holds them.
        variables: environment variables that they get.
        log: file that their output is appended to.
    """

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    log: Path = Path(os.devnull)

    @classmethod
    def find(cls, variables: Mapping[str, str] | None = None, log: Path = Path(os.devnull)) -> Commands:
        """The commands of the environment that ``MONAI_UNLEARNABLE_NNUNET`` names: its folder, or that of its programs.

        Without the variable, those beside the running interpreter, else those on the search path.

        Raises:
            InputError: when there are none, with what to do.
        """
        named = os.environ.get(ENVIRONMENT)
        if named:
            place = Path(named).expanduser()
            place = place.parent if place.is_file() else place  # an interpreter
            folders = [place / "bin", place / "Scripts", place]
        else:
            on_path = shutil.which(NEEDED[1])
            folders = [Path(sys.executable).parent, *([Path(on_path).parent] if on_path else [])]
        for folder in folders:
            if all(shutil.which(name, path=str(folder)) for name in NEEDED):
                return cls(folder, variables or {}, log)
        raise InputError(ADVICE.format(where=f" in {named}, which {ENVIRONMENT} names" if named else ""))

    def with_variables(self, **variables: str) -> Commands:
        """The commands with further environment variables."""
        return replace(self, variables={**self.variables, **variables})

    @property
    def version(self) -> str:
        """The version of nnU-Net, by the interpreter that runs its commands.

        Raises:
            CommandError: when it cannot be told.
        """
        return _version(self._program(NEEDED[1]))

    def check(self) -> None:
        """Check that this is a version of nnU-Net that can be extended by a trainer and gives its log.

        Raises:
            InputError: when it is older.
        """
        numbers = tuple(int(part) for part in re.findall(r"\d+", self.version)[:2])
        if numbers < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise InputError(f"nnU-Net {self.version} is too old; {oldest} or newer is needed", file=self.folder)

    def run(self, name: str, *arguments: object, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Run a command to its end.

        Args:
            name: name of the command.
            *arguments: its arguments.
            meanwhile: called now and then while it runs.

        Raises:
            OutputError: when the disk is full.
            CommandError: when it fails otherwise, with the last telling line of its output and the log's name.
        """
        command = [self._program(name), *map(str, arguments)]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as stream:
            stream.write(f"\n$ {' '.join(command)}\n".encode())
            stream.flush()
            begin = stream.tell()
            code = finished(command, self._environment(), stream.fileno(), meanwhile)
        if code:
            raise self._failure(name, code, begin)

    def _program(self, name: str) -> str:
        found = shutil.which(name, path=str(self.folder))
        if found is None:
            raise InputError(ADVICE.format(where=f" in {self.folder}"))
        return found

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        kept = os.environ if self.folder == Path(sys.executable).parent else own
        return {**kept, "PYTHONUNBUFFERED": "1", **self.variables}

    def _failure(self, name: str, code: int, begin: int) -> CommandError | OutputError:
        with self.log.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(begin, size - TAIL))
            lines = [line.strip() for line in stream.read().decode("utf-8", "replace").splitlines() if line.strip()]
        if any(FULL.search(line) for line in lines):
            return OutputError(f"{name}: {os.strerror(errno.ENOSPC)}", file=self.log.parent)
        if code < 0:
            reason = f"was stopped by signal {_signal(-code)}{'; out of memory?' if code == -KILL else ''}"
        elif any(KILLED.search(line) for line in lines):
            reason = "failed: a process of it ended; out of memory?"
        else:
            telling = [line for line in lines if TELLING.match(line)] or lines or [f"exit code {code}"]
            reason = f"failed: {one_line(telling[-1])}"
        return CommandError(f"{name} {reason}", file=self.log)


def _signal(number: int) -> str:
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)


@lru_cache
def _version(program: str) -> str:
    with Path(program).open("rb") as stream:
        first = stream.readline().decode("utf-8", "replace").strip()
    interpreter = shlex.split(first[2:]) if first.startswith("#!") else [str(Path(program).parent / "python")]
    code = "from importlib.metadata import version; print(version('nnunetv2'))"
    try:
        command = [*interpreter, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        raise CommandError("the version of nnU-Net cannot be told: is its environment whole?", file=program) from error
    return done.stdout.strip()

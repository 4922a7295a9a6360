# SPDX-License-Identifier: Apache-2.0
"""Commands that work long: each can say what an interruption leaves."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import click
import pytest

from monai_unlearnable.cli import program
from monai_unlearnable.cli.work import Messages, Warnings, Work

LONG = (
    "protect",
    "apply",
    "verify",
    "restore",
    "audit",
    "publish",
    "evaluate",
    "laboratory",
    "run",
    "frontier",
    "demo",
)


def commands(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield from commands(command) if isinstance(command, click.Group) else [command]


@pytest.mark.parametrize("command", [c for c in commands(program) if isinstance(c, Work)], ids=lambda c: c.name)
def test_what_is_kept_can_be_told(command: Work) -> None:
    arguments = {str(parameter.name): f"<{parameter.name}>" for parameter in command.params}
    kept = command.kept(arguments) if callable(command.kept) else command.kept.format(**arguments)
    assert "same command" in kept and "{" not in kept


@pytest.mark.parametrize("name", LONG)
def test_what_works_long_talks(name: str) -> None:
    options = {option for parameter in program.commands[name].params for option in parameter.opts}
    assert {"--verbose", "--quiet", "--log-file"} <= options


def test_warnings_are_told_as_such_and_those_of_others_with_their_name(capsys: pytest.CaptureFixture[str]) -> None:
    messages = Messages(logging.WARNING, Warnings())
    for name in ("monai_unlearnable.publishing.writing", "monai"):
        messages.handle(logging.makeLogRecord({"name": name, "levelname": "WARNING", "msg": "look"}))
    assert capsys.readouterr().err == "warning: look\nmonai: look\n"

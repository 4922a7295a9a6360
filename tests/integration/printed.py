# SPDX-License-Identifier: Apache-2.0
"""What the pages print to be typed: fenced blocks, their commands, and what each command is given."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from textwrap import dedent
from typing import Any

import click
import fire
import monai.bundle
from monai.bundle import ConfigParser
from torch.distributed.run import parse_args as parse_torchrun

from monai_unlearnable import choosing, proof
from monai_unlearnable.choosing.trials import Trials
from monai_unlearnable.cli import main, parse_overrides, program
from monai_unlearnable.evaluation.matrix import Matrix
from monai_unlearnable.publishing.run import configuration
from monai_unlearnable.publishing.settings import check_settings

__all__ = ["PYTHON", "ROOT", "SHELL", "Block", "Command", "blocks", "in_sentences", "pages"]

ROOT = Path(__file__).resolve().parents[2]
SHELL, PYTHON = ("bash", "console", "sh", "shell"), ("python",)
FENCED = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
COMMENT = re.compile(r"(?:^|\s)#.*$")  # of the shell; settings such as a#b have one in their middle
BUNDLE = ("python", "-m", "monai.bundle", "run")
STARTS = (("monai-unlearnable",), ("python", "-m", "monai_unlearnable"), BUNDLE)
TORCHRUN = "torchrun"


@dataclass(frozen=True)
class Command:
    """A command of this program, or of MONAI's for its bundles.

    Args:
        line: the statement of the shell that has it.
        words: what the program gets.
        is_bundle: whether it is ``python -m monai.bundle run``.
    """

    line: str
    words: tuple[str, ...]
    is_bundle: bool = False

    def __str__(self) -> str:
        return f"{'monai.bundle run' if self.is_bundle else 'monai-unlearnable'} {shlex.join(self.words)}"

    @property
    def names(self) -> list[str]:
        """Names of the command and, in a group, of the one in it."""
        group = program.commands.get(self.words[0])
        return list(self.words[: 1 + isinstance(group, click.Group)])

    def given(self) -> dict[str, Any]:
        """What the command line understands, by name; as it does when the command is run.

        Raises:
            click.UsageError: when an option or argument is unknown or missing.
        """
        if self.is_bundle:
            return parse_overrides(self.words)
        command, context, words = program, click.Context(program), list(self.words)
        while isinstance(command, click.Group):
            name, command, words = command.resolve_command(context, words)
            context = click.Context(command, parent=context)
        return command.make_context(name, words).params

    def check(self) -> None:
        """Check that every option and setting is known, without running anything.

        Raises:
            Exception: of the command line or of the configuration, naming the first that is not.
        """
        given = self.given()
        if self.is_bundle:
            file = ROOT / given["config_file"]
            _check_known({k: v for k, v in given.items() if k not in ("config_file", "bundle_root")}, file)
        elif self.names[0] in ("protect", "apply") and given["settings"]:
            settings = parse_overrides(given["settings"])
            if given.get("method") == "auto":
                _check_names(settings, choosing.protect_auto, Trials, Matrix)
            else:
                kind = "protect" if "method" in given else "apply"
                _check_known(settings, configuration(given.get("method", "umed"), kind)[0])
        elif self.names[0] in ("evaluate", "laboratory", "frontier"):
            settings = parse_overrides(given["settings"])
            _check_names(settings, proof.laboratory, proof.prepare_laboratory, proof.frontier, Matrix)

    def run(self) -> int:
        """Run the command in this process; returns its exit code."""
        if not self.is_bundle:
            return main(self.words)
        fire.Fire({"run": monai.bundle.run}, command=["run", *self.words])
        return 0


def _check_known(settings: dict[str, Any], file: Path) -> None:
    check_settings(settings, ConfigParser.load_config_file(str(file)), file)


def _check_names(settings: dict[str, Any], *takers: Any) -> None:
    known = {name for taker in takers for name in inspect.signature(taker).parameters}
    known |= {field.name for field in fields(Matrix)}
    assert set(settings) <= known, f"unknown: {sorted(set(settings) - known)}"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Args:
        place: page and line.
        language: word behind the fence.
        text: content, without the indentation of the fence.
    """

    place: str
    language: str
    text: str

    def statements(self) -> Iterator[list[str]]:
        """The words of each statement of a block of the shell; the sides of ``||`` are two."""
        pending = ""
        for line in self.text.splitlines():
            pending += COMMENT.sub("", line) if not pending else line
            if pending.endswith("\\"):
                pending = pending[:-1]
                continue
            try:
                words = shlex.split(pending)
            except ValueError:  # a quoted value goes on in the next line
                pending += "\n"
                continue
            sides = " ".join(map(shlex.quote, words)).split(" '||' ")
            yield from (shlex.split(side) for side in sides if side)
            pending = ""
        assert not pending, f"{self.place}: a quote is not closed"

    def commands(self) -> Iterator[Command | list[str]]:
        """The commands of a block of the shell; statements of other programs as their words."""
        for words in self.statements():
            found = next((found for start in range(len(words)) if (found := _command(words, start))), None)
            yield found or words


def _command(words: list[str], start: int) -> Command | None:
    """The command that begins at a word, if one does."""
    line = shlex.join(words)
    if words[start] == TORCHRUN:
        given = parse_torchrun(words[start + 1 :])
        script, rest = given.training_script, given.training_script_args
        assert given.module, f"{line}: torchrun starts a module"
        words, start = ["python", "-m", script, *rest], 0
    for begin in STARTS:
        end = start + len(begin)
        is_known = begin != STARTS[0] or (len(words) > end and words[end] in program.commands)
        if tuple(words[start:end]) == begin and is_known:
            return Command(line, tuple(words[end:]), begin is BUNDLE)
    return None


def in_sentences(page: str) -> list[Command]:
    """The commands with arguments that the sentences of a page name."""
    text = FENCED.sub("", (ROOT / page).read_text(encoding="utf-8"))
    codes = [shlex.split(" ".join(code.split())) for code in INLINE.findall(text) if code.count("'") % 2 == 0]
    bare = [words for words in codes if len(words) > 1 and words[0] != TORCHRUN]
    found = [_command(words, 0) or Command(shlex.join(words), tuple(words)) for words in bare]
    return [each for each in found if not each.is_bundle and len(each.words) > 1 and each.words[0] in program.commands]


def pages() -> list[str]:
    """All pages that print commands, relative to the project."""
    found = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("bundles/*/docs/README.md"))]
    return [str(page.relative_to(ROOT)) for page in found if blocks(str(page.relative_to(ROOT)), *SHELL, *PYTHON)]


def blocks(page: str, *languages: str) -> list[Block]:
    """The fenced blocks of a page, in their order; by default those of all languages."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = [
        Block(f"{page}:{text.count(chr(10), 0, fence.start()) + 1}", fence[2], dedent(fence[3]))
        for fence in FENCED.finditer(text)
    ]
    return [block for block in found if not languages or block.language in languages]

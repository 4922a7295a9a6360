# SPDX-License-Identifier: Apache-2.0
"""Commands that take settings by name: their help lists the settings, and the shell completes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem
from rich.table import Table

from monai_unlearnable.cli.terminal import console
from monai_unlearnable.cli.work import Work
from monai_unlearnable.errors import UnlearnableError

if TYPE_CHECKING:
    from monai_unlearnable.publishing.manual import Setting

__all__ = ["AUTO", "METHOD", "Examining", "Protecting"]

AUTO = "auto"  # in the place of a method


class _WithSettings(Work):
    """A command with settings by name beside its options."""

    def known(self, given: Mapping[str, Any]) -> Sequence[Setting]:
        """The settings that it takes.

        Args:
            given: its arguments so far.

        Raises:
            InputError: when they name a method that does not exist.
        """
        raise NotImplementedError

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Options, and settings too."""
        items = super().shell_complete(ctx, incomplete)
        if not incomplete.startswith("-"):
            return items
        try:
            known = self.known(ctx.params)
        except UnlearnableError:
            return items
        names = {f"--{one.name}": one.meaning for one in known}
        return items + [CompletionItem(name, help=told) for name, told in names.items() if name.startswith(incomplete)]


class Protecting(_WithSettings):
    """``protect METHOD``, whose help lists the settings of the method."""

    def known(self, given: Mapping[str, Any]) -> Sequence[Setting]:
        """The settings of the method."""
        from monai_unlearnable.publishing.manual import manual, manual_of_auto

        if given.get("method") is None:
            return ()
        return (manual_of_auto() if given["method"] == AUTO else manual(given["method"])).settings

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Arguments of the command; ``METHOD --help`` prints the settings of the method and ends there."""
        asks = not ctx.resilient_parsing and any(word in ctx.help_option_names for word in args)
        if asks and not args[0].startswith("-"):
            self._show(args[0])
            ctx.exit()
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter:
            if given and Path(given[0]).is_dir():
                words = f"the name of a method comes before the dataset, such as {ctx.info_name} umed {given[0]} OUT"
                raise click.UsageError(words, ctx) from None
            raise

    def _show(self, method: str) -> None:
        from monai_unlearnable.publishing.manual import manual, manual_of_auto

        found = manual_of_auto() if method == AUTO else manual(method)
        click.echo(f"Usage: monai-unlearnable protect {method} DATASET_DIR OUT [--SETTING VALUE]...")
        click.echo(f"\n{found.summary}\n")
        console().print(_table(found.settings), markup=False, highlight=False)
        of_command = "Also: " if method == AUTO else "With every method: --dry-run, "
        click.echo(f"\n{of_command}--verbose, --quiet, --log-file FILE; see protect --help")


class Examining(_WithSettings):
    """A command whose settings are those of the laboratory.

    Args:
        decided: settings that the command decides on itself.
        **settings: arguments of :class:`~monai_unlearnable.cli.work.Work`.
    """

    def __init__(self, *, decided: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(**settings)
        self.decided = decided

    def known(self, given: Mapping[str, Any]) -> Sequence[Setting]:
        """The settings of the laboratory."""
        from monai_unlearnable.publishing.manual import manual_of_laboratory

        return [one for one in manual_of_laboratory().settings if one.name not in self.decided]

    def get_help(self, ctx: click.Context) -> str:
        """The help, with the settings at its end."""
        terminal = console()
        with terminal.capture() as captured:
            terminal.print(_table(self.known({})), markup=False, highlight=False)
        return f"{super().get_help(ctx)}\n\n{captured.get().rstrip()}"


class _Method(click.Path):
    """The name of a method, or a configuration file."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names of methods that begin so, else files."""
        from monai_unlearnable.publishing.run import method_names

        names = [name for name in (AUTO, *method_names()) if name.startswith(incomplete)]
        return [CompletionItem(name) for name in names] or super().shell_complete(ctx, param, incomplete)


METHOD = click.argument("method", type=_Method(readable=False))


def _table(settings: Sequence[Setting]) -> Table:
    """Settings, a line each."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    for name in ("Setting", "Default", "Meaning"):
        table.add_column(name, no_wrap=name == "Setting")
    for setting in settings:
        table.add_row(f"--{setting.name}", setting.default, setting.meaning)
    return table

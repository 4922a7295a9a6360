# SPDX-License-Identifier: Apache-2.0
"""The owner's key, and the keys that others get."""

from __future__ import annotations

from collections.abc import Sequence

import click

import monai_unlearnable as mu
from monai_unlearnable.cli.values import PATH

__all__ = ["COMMANDS"]


@click.group()
def key() -> None:
    """Make the owner's key, and the keys that others get."""


@key.command()
@click.argument("file", type=PATH)
def new(file: str) -> None:
    """Write a new random key to a file, which only you can read."""
    mu.OwnerKey.generate().save(file)
    click.echo(f"written: {file}; keep a copy in a safe place: nothing opens without it")


@key.command()
@click.argument("file", type=PATH)
def derive(file: str) -> None:
    """Write how a key is derived from a passphrase. It asks for the passphrase."""
    from monai_unlearnable.crypto import KeyDerivation
    from monai_unlearnable.crypto.keys import ask_passphrase

    KeyDerivation.generate().checking(ask_passphrase(twice=True)).save(file)
    click.echo(f"written: {file}; keep a copy in a safe place: the passphrase alone opens nothing")


@key.command()
@click.argument("owner_key", metavar="KEY", type=PATH)
@click.argument("file", type=PATH)
def public(owner_key: str, file: str) -> None:
    """Write the public key to a file. Others check your statements with it."""
    from monai_unlearnable.crypto.keys import load_key, owner
    from monai_unlearnable.crypto.signing import save_public_key

    save_public_key(owner(load_key(owner_key)), file)
    click.echo(f"written: {file}; give it to whoever checks your statements")


@key.command()
@click.argument("owner_key", metavar="KEY", type=PATH)
@click.argument("out", type=PATH)
@click.argument("cases", metavar="CASE...", nargs=-1, required=True)
@click.argument("file", type=PATH)
def share(owner_key: str, out: str, cases: Sequence[str], file: str) -> None:
    """Write the keys of chosen cases for a recipient. The recipient can restore only those."""
    from monai_unlearnable.crypto import load_key
    from monai_unlearnable.crypto.encrypted import SUFFIX
    from monai_unlearnable.noise import NoiseStore
    from monai_unlearnable.publishing.layout import Layout

    noise = Layout(out).noise
    ring = NoiseStore(noise, load_key(owner_key)).share(cases)
    ring.save(file)
    click.echo(f"written: {file}; it opens {', '.join(f'{name}{SUFFIX}' for name in ring.keys)} of {noise}")


COMMANDS = (key,)

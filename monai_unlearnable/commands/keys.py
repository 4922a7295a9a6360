# SPDX-License-Identifier: Apache-2.0
"""The word key: new, derive, public, share."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from monai_unlearnable.commands.words import Words

__all__ = ["add_key_words"]


def add_key_words(words: Words) -> None:
    """Add the words to a parser."""
    about = "make the owner's key, and what others get of it"
    key = Words(words.add("key", lambda *_: None, about))
    key.add("new", _new, "write a new random key to a file, which only you can read", "file")
    about = "write what makes a key of a passphrase, which is asked for, to a file"
    key.add("derive", _derive, about, "file")
    about = "write the public key, which others check your statements with, to a file"
    key.add("public", _public, about, "key", "file")
    about = "write the keys of chosen cases for a recipient, who can restore these alone"
    share = key.add("share", _share, about, "key", "out")
    share.add_argument("cases", nargs="+", metavar="case")
    share.add_argument("recipient", metavar="file")


def _new(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.crypto import OwnerKey

    OwnerKey.generate().save(arguments.file)
    _say(console, arguments.file, "keep a copy in a safe place: nothing opens without it")


def _derive(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.crypto import KeyDerivation
    from monai_unlearnable.crypto.keys import ask_passphrase

    KeyDerivation.generate().checking(ask_passphrase(twice=True)).save(arguments.file)
    _say(console, arguments.file, "keep a copy in a safe place: the passphrase alone opens nothing")


def _public(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.crypto.encrypted import load_key, owner
    from monai_unlearnable.crypto.signing import save_public_key

    save_public_key(owner(load_key(arguments.key)), arguments.file)
    _say(console, arguments.file, "give it to whoever checks your statements")


def _share(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.crypto import load_key
    from monai_unlearnable.noise import NoiseStore
    from monai_unlearnable.publishing.layout import Layout

    layout = Layout(Path(arguments.out))
    ring = NoiseStore(layout.noise, load_key(arguments.key)).share(arguments.cases)
    ring.save(arguments.recipient)
    files = ", ".join(f"{name}.sealed" for name in ring.keys)
    _say(console, arguments.recipient, f"it opens {files} of {layout.noise}")


def _say(console: Console, file: str, what: str) -> None:
    console.print(f"written: {file}; {what}", highlight=False, soft_wrap=True, markup=False)

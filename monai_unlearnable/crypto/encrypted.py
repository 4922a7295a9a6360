# SPDX-License-Identifier: Apache-2.0
"""The owner's files on disk: plain as they are, or with a key each sealed in a file of the same name and ``.sealed``.

Where a file is asked for by its plain path, the key tells which of the two is meant. The other one is never read in its
place: noise that somebody put beside sealed noise is not the owner's."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from monai_unlearnable.crypto.keyfiles import naming, read_file
from monai_unlearnable.crypto.keys import KeyDerivation, KeyRing, OwnerKey, ask_passphrase, forget_passphrase
from monai_unlearnable.crypto.sealing import seal, unseal
from monai_unlearnable.errors import KeyMismatchError, NoiseError
from monai_unlearnable.utils.files import below, write_atomic

__all__ = [
    "SEALED",
    "Key",
    "is_owned",
    "load_key",
    "misplaced",
    "open_owned",
    "owner",
    "place",
    "places",
    "read_owned",
    "secret_seed",
    "write_owned",
]

Key = OwnerKey | KeyRing

SEALED = ".sealed"
KINDS = (".npz", ".json", ".pt", ".safetensors")  # of the owner's files


def load_key(file: str | Path | None) -> Key | None:
    """The key in a file of any kind: an owner's key, a key ring, or how a passphrase, which is asked for, becomes one.

    Args:
        file: None for no key.

    Raises:
        NoiseError: naming the file, when it is none of these, or the passphrase is another.
    """
    if file is None:
        return None
    with naming(file, "key"):
        content = read_file(file)
    if b'"monai_unlearnable key derivation ' in content:
        derivation = KeyDerivation.load(file)
        with naming(file, "key"):
            try:
                return OwnerKey.from_passphrase(ask_passphrase(), derivation)
            except NoiseError:
                forget_passphrase()
                raise
    return KeyRing.load(file) if b'"monai_unlearnable key ring ' in content else OwnerKey.load(file)


def secret_seed(seed: int, key: Key | None) -> int:
    """The seed that noise is made from: with a key one that only its owner knows, and another one for each key.

    Args:
        seed: the one in the settings.
        key: the owner's, or None to take the seed as it is.
    """
    return seed if key is None else int.from_bytes(owner(key).derive(b"seed 1 %d" % seed), "big")


def place(path: str | Path, key: Key | None) -> Path:
    """Where a file lies that is called ``path`` when it is plain; the name of the sealed one stands for it too."""
    return places(path)[key is not None]


def is_owned(path: str | Path) -> bool:
    """Whether there is such a file, plain or sealed."""
    return any(path.is_file() for path in places(path))


def open_owned(path: str | Path, key: Key | None, name: str | None = None) -> BinaryIO:
    """Open a file of the owner's; what was sealed is in memory alone.

    Args:
        path: of the plain file, see :func:`place`.
        key: that it was sealed with; None for plain files.
        name: that it was sealed under; by default that of the plain file.

    Raises:
        KeyMismatchError: naming the file, when it is sealed and there is no key, the other way round, or the key does
            not open it.
        OSError: when it cannot be read.
    """
    plain, sealed = places(path)
    if key is None:
        if sealed.exists() and not plain.exists():
            raise KeyMismatchError("is sealed: give its key", file=sealed)
        return plain.open("rb")
    if plain.exists() and not sealed.exists():
        raise KeyMismatchError("is not sealed: give no key", file=plain)
    name = name or plain.name
    own = key.find(name) if isinstance(key, KeyRing) else key
    return io.BytesIO(unseal(sealed.read_bytes(), own, name, file=sealed))


def read_owned(path: str | Path, key: Key | None, name: str | None = None) -> bytes:
    """The content of a file; see :func:`open_owned`."""
    with open_owned(path, key, name) as stream:
        return stream.read()


def write_owned(path: str | Path, content: bytes, key: Key | None, name: str | None = None) -> None:
    """Write a file of the owner's, atomic; with a key nothing but what is sealed reaches the disk.

    Raises:
        NoiseError: when the key can only open.
        OutputError: naming the file, when it cannot be written.
    """
    if key is not None:
        content = seal(content, owner(key), name or place(path, None).name)
    write_atomic(place(path, key), content)


def misplaced(folder: Path, key: Key | None) -> Iterator[Path]:
    """Plain files of the owner's below a folder where there is a key, sealed ones where there is none."""
    for path in below(folder):
        if path.name.endswith(KINDS if key else SEALED) and path.is_file():
            yield path


def owner(key: Key | None) -> OwnerKey:
    """The owner's key, where nothing else will do.

    Raises:
        NoiseError: when it is a key ring.
    """
    if not isinstance(key, OwnerKey):
        raise NoiseError("a key ring opens files alone; this takes the owner's key")
    return key


def places(path: str | Path) -> tuple[Path, Path]:
    """Where a file lies when it is plain, and when it is sealed."""
    plain = Path(path).with_name(Path(path).name.removesuffix(SEALED))
    return plain, plain.with_name(plain.name + SEALED)

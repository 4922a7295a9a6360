# SPDX-License-Identifier: Apache-2.0
"""The owner's key, keys derived from it, the key ring of a recipient, and the derivation from a passphrase."""

from __future__ import annotations

import functools
import getpass
import hashlib
import hmac
import os
import secrets
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from monai_unlearnable.crypto.keyfiles import (
    from_base64,
    naming_kind,
    read_file,
    read_record,
    to_base64,
    write_new,
    write_record,
)
from monai_unlearnable.errors import KeyFileError, KeyMismatchError
from monai_unlearnable.utils.files import leads_outside
from monai_unlearnable.utils.values import check_path

__all__ = [
    "FileKey",
    "Key",
    "KeyDerivation",
    "KeyRing",
    "OwnerKey",
    "ask_passphrase",
    "load_key",
    "owner",
    "secret_seed",
]

SIZE = 32  # bytes of a key
KEY_FILE = "monai_unlearnable-owner-key-1:"


@dataclass(frozen=True, eq=False, repr=False)
class _Secret:
    secret: bytes

    def __post_init__(self) -> None:
        if not isinstance(self.secret, bytes) or len(self.secret) != SIZE:
            raise KeyFileError(f"a key has {SIZE} bytes")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Secret) or type(other) is not type(self):
            return NotImplemented
        return hmac.compare_digest(self.secret, other.secret)


@dataclass(frozen=True)
class KeyDerivation:
    """How a passphrase becomes a key: salt and cost of scrypt. It is no secret, but without it the key is lost.

    Args:
        salt: 16 to 64 random bytes.
        n: rounds, a power of two; scrypt takes ``128 * n * r`` bytes of memory.
        r: size of a block.
        p: repetitions.
        check: value that reveals a mistyped passphrase, see :meth:`checking`; None takes any.

    Raises:
        KeyFileError: when the cost is too small to keep guesses slow, or so large that it can only exhaust the machine.
    """

    salt: bytes
    n: int = 2**17
    r: int = 8
    p: int = 1
    check: bytes | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.salt, bytes) or not 16 <= len(self.salt) <= 64:
            raise KeyFileError("the salt must have 16 to 64 bytes")
        if any(type(cost) is not int for cost in (self.n, self.r, self.p)):
            raise KeyFileError("n, r and p must be whole numbers")
        if self.n < 2**14 or self.n & (self.n - 1) or self.r < 8 or self.p < 1 or self.n * self.r * self.p > 2**23:
            raise KeyFileError("n must be a power of two from 2**14, r from 8, p from 1, and n * r * p at most 2**23")

    @classmethod
    def generate(cls, n: int = 2**17, r: int = 8, p: int = 1) -> KeyDerivation:
        """A new salt; the usual cost is 128 MiB and about half a second."""
        return cls(secrets.token_bytes(16), n, r, p)

    def checking(self, passphrase: str) -> KeyDerivation:
        """The same derivation, bound to one passphrase, so that a mistyped one is found.

        Raises:
            KeyFileError: when the passphrase is empty.
        """
        return replace(self, check=_checksum(OwnerKey.from_passphrase(passphrase, self).secret))

    def save(self, path: str | Path) -> None:
        """Write JSON, see :func:`~monai_unlearnable.crypto.keyfiles.write_new`."""
        check = None if self.check is None else to_base64(self.check)
        write_record(path, "key derivation", {**asdict(self), "salt": to_base64(self.salt), "check": check})

    @classmethod
    def load(cls, path: str | Path) -> KeyDerivation:
        """Read what :meth:`save` wrote. The bounds hold here too: the file may come from others.

        Raises:
            KeyFileError: naming the file, when it is missing, broken or out of bounds.
        """
        with naming_kind(path, "key derivation"):
            content = read_record(path, "key derivation", {"salt", "n", "r", "p", "check"})
            check = None if content["check"] is None else from_base64(content["check"])
            return cls(**{**content, "salt": from_base64(content["salt"]), "check": check})


class OwnerKey(_Secret):
    """The owner's secret, which encrypts and opens every file. Whoever has it can undo the protection.

    Args:
        secret: 32 random bytes.
    """

    @classmethod
    def generate(cls) -> OwnerKey:
        """A new key."""
        return cls(secrets.token_bytes(SIZE))

    @classmethod
    def from_passphrase(cls, passphrase: str, derivation: KeyDerivation) -> OwnerKey:
        """The key of a passphrase: the same passphrase and derivation give the same key.

        Raises:
            KeyFileError: when the passphrase is empty, or not the one that the derivation was made for.
        """
        if not passphrase:
            raise KeyFileError("the passphrase is empty")
        typed = unicodedata.normalize("NFC", passphrase)  # keyboards differ in how they compose accents
        d = derivation
        scrypt = Scrypt(salt=d.salt, length=SIZE, n=d.n, r=d.r, p=d.p)
        key = cls(scrypt.derive(typed.encode("utf-8", "surrogatepass")))
        if d.check is not None and not hmac.compare_digest(d.check, _checksum(key.secret)):
            raise KeyFileError("the passphrase is wrong")
        return key

    def derive(self, purpose: bytes) -> bytes:
        """32 bytes for one purpose, which tell nothing about those for others: HKDF-Expand of RFC 5869, SHA-256."""
        # Expanding is enough for keys that are uniform; and what purposes hold that others can change stays out of the
        # salt of HKDF-Extract, where RFC 5869 wants nothing that they choose.
        return HKDFExpand(SHA256(), SIZE, b"monai_unlearnable " + purpose).derive(self.secret)

    def save(self, path: str | Path) -> None:
        """Write a line of text, see :func:`~monai_unlearnable.crypto.keyfiles.write_new`."""
        write_new(path, f"{KEY_FILE}{to_base64(self.secret + _checksum(self.secret))}\n".encode())

    @classmethod
    def load(cls, path: str | Path) -> OwnerKey:
        """Read what :meth:`save` wrote.

        Raises:
            KeyFileError: naming the file, when it is missing, another kind of file, or mistyped.
        """
        with naming_kind(path, "owner's key"):
            line = read_file(path).decode("ascii", "replace").strip()
            if not line.startswith(KEY_FILE):
                raise KeyFileError(f"it does not begin with {KEY_FILE}")
            checked = from_base64(line.removeprefix(KEY_FILE))
            if not hmac.compare_digest(_checksum(checked[:SIZE]), checked[SIZE:]):
                raise KeyFileError("its checksum is wrong: characters were changed, added or lost")
            return cls(checked[:SIZE])


class FileKey(_Secret):
    """The key of one encrypted file and no other; the owner may give it to a recipient.

    Args:
        secret: 32 bytes, from :func:`~monai_unlearnable.crypto.encrypted.file_key`.
    """


@dataclass(frozen=True)
class KeyRing:
    """The keys of chosen files, for one recipient.

    Args:
        keys: name and key of each file.
    """

    keys: Mapping[str, FileKey]

    def find(self, name: str) -> FileKey:
        """The key of a file.

        Raises:
            KeyMismatchError: naming the file, when there is none.
        """
        if name not in self.keys:
            raise KeyMismatchError("the key ring has no key for it; it restores the cases it was made for", case=name)
        return self.keys[name]

    def save(self, path: str | Path) -> None:
        """Write JSON, see :func:`~monai_unlearnable.crypto.keyfiles.write_new`."""
        write_record(path, "key ring", {"keys": {name: to_base64(key.secret) for name, key in self.keys.items()}})

    @classmethod
    def load(cls, path: str | Path) -> KeyRing:
        """Read what :meth:`save` wrote.

        Raises:
            KeyFileError: naming the file, when it is missing or broken.
        """
        with naming_kind(path, "key ring"):
            keys = read_record(path, "key ring", {"keys"})["keys"]
            if not isinstance(keys, dict):
                raise KeyFileError("its keys have no names")
            if any(map(leads_outside, keys)):
                raise KeyFileError("a name in it lies outside the folder")
            return cls({name: FileKey(from_base64(text)) for name, text in keys.items()})


def _checksum(secret: bytes) -> bytes:
    return hashlib.sha256(KEY_FILE.encode() + secret).digest()[:4]


Key = OwnerKey | KeyRing


def load_key(source: Key | str | Path | None) -> Key | None:
    """The key in a file of any kind: an owner's key, a key ring, or a derivation, whose passphrase is asked for.

    Args:
        source: path of the file; None for no key; a key, which is taken as it is.

    Raises:
        KeyFileError: naming the file, when it is none of these, or the passphrase is another.
    """
    if source is None or isinstance(source, (OwnerKey, KeyRing)):
        return source
    check_path("key", source)
    with naming_kind(source, "key"):
        content = read_file(source)
    if b'"monai_unlearnable key derivation ' in content:
        derivation = KeyDerivation.load(source)
        with naming_kind(source, "key"):
            try:
                return OwnerKey.from_passphrase(ask_passphrase(), derivation)
            except KeyFileError:
                _typed.cache_clear()  # it is asked for again next time
                raise
    return KeyRing.load(source) if b'"monai_unlearnable key ring ' in content else OwnerKey.load(source)


def owner(key: Key | None) -> OwnerKey:
    """The owner's key, where no other key will do.

    Raises:
        KeyFileError: when it is a key ring.
    """
    if not isinstance(key, OwnerKey):
        raise KeyFileError("a key ring opens files alone; this takes the owner's key")
    return key


def secret_seed(seed: int, key: Key | None) -> int:
    """The seed that noise is made from; with a key it is secret, and another one for each key.

    Args:
        seed: the one in the settings.
        key: the owner's key, or None to take the seed as it is.
    """
    return seed if key is None else int.from_bytes(owner(key).derive(b"seed 1 %d" % seed), "big")


VARIABLE = "MONAI_UNLEARNABLE_PASSPHRASE"

_typed = functools.cache(getpass.getpass)  # asked for once by a command that needs the key in several places


def ask_passphrase(twice: bool = False) -> str:
    """The passphrase from the environment variable, else from the terminal, which does not show it.

    Args:
        twice: whether a new passphrase must be typed twice.

    Raises:
        KeyFileError: when there is neither, or the two differ.
    """
    known = os.environ.get(VARIABLE)
    if known is not None:
        return known
    if not sys.stdin.isatty():
        raise KeyFileError(f"a passphrase is needed, and there is no terminal: set {VARIABLE}")
    if not twice:
        return _typed("passphrase: ")
    typed = getpass.getpass("passphrase: ")
    if getpass.getpass("once more: ") != typed:
        raise KeyFileError("the two passphrases differ")
    return typed

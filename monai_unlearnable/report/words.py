# SPDX-License-Identifier: Apache-2.0
"""What readers are told in place of names in catalogs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from monai_unlearnable.utils.catalog import Catalog

__all__ = ["catalog_words", "program_words"]


@cache
def catalog_words(kind: str) -> Mapping[str, str]:
    """Words by name, of those entries of the package's catalog that have some."""
    return Catalog.load(kind).words


def program_words(victim: str) -> str:
    """The program that trains a victim in its own way, or the victim's name: ``"nnU-Net v2 itself"``."""
    return catalog_words("external").get(victim, victim)

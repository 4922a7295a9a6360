# SPDX-License-Identifier: Apache-2.0
"""Catalogs are read once, and nobody notices."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from monai_unlearnable.utils.catalog import KINDS, Catalog, component_locator


class Later:
    """A component of a module that is loaded when others have been looked for already."""


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_done_to_a_catalog_is_not_done_to_the_next(kind: str) -> None:
    first, second = Catalog.load(kind), Catalog.load(kind)
    assert first == second and first.entries
    first.entries.clear()
    assert Catalog.load(kind) == second


def test_components_are_found_that_were_loaded_later(monkeypatch: pytest.MonkeyPatch) -> None:
    assert component_locator().get_component_module_name("Later") is None
    assert component_locator() is component_locator()
    module = ModuleType("monai_later")
    module.Later = Later  # type: ignore[attr-defined]
    monkeypatch.setattr(Later, "__module__", module.__name__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert isinstance(Catalog("networks", {"late": {"_target_": "Later"}}).build("late"), Later)


@pytest.mark.parametrize("path", ["/data/set #2", "@x", "%x", "x"])
def test_paths_reach_an_entry_as_they_are(path: str) -> None:
    entry = {"_target_": "monai_unlearnable.victims.Recipe", "name": "it", "size": [8, 8], "weights": "$@weights or ''"}
    recipe = Catalog("recipes", {"it": entry}).build("it", weights=path)
    assert Path(recipe.weights) == Path(path)

# SPDX-License-Identifier: Apache-2.0
"""What is typed becomes a value, or one clear line."""

from __future__ import annotations

from typing import Any

import pytest

from monai_unlearnable.cli.values import parse_epsilons, parse_overrides, parse_value
from monai_unlearnable.errors import InputError

VALUES: dict[str, Any] = {
    "14/255": 14 / 255,
    "-1 / 2": -0.5,
    "[1/2, 3]": [0.5, 3],
    "{'umed': {'epsilon': 8/255}}": {"umed": {"epsilon": 8 / 255}},
    "{umed: {epsilon: 8/255}}": {"umed": {"epsilon": 8 / 255}},
    "'1/2'": "1/2",
    "./1/2": "./1/2",
    "1/2/3": "1/2/3",
    "$8 / 255": "$8 / 255",  # which MONAI evaluates
    "2026-11-21": "2026-11-21",
    "UNet,DynUNet": "UNet,DynUNet",
    "null": None,
    "true": True,
    "1e-3": 1e-3,
    "/data/set #2": "/data/set #2",  # no comment
    "12 #3": "12 #3",
    "#2": "#2",
    "a  b ": "a  b ",
    "a\nb": "a\nb",
    "'a #b'": "a #b",
    '["a #b", c] # which are two': ["a #b", "c"],
}
PATHS = ["/data/set #2", "a: b", "2024", "no", "1e3", "null", "~", "[a]", "{a}", "*x", "!x", "- x", "'q'", "1/2", "@x"]
UNREADABLE = ["[", "{'a':", "1/0", "[1/0]", "{[]: 1}", "[" * 2000, "9" * 5000, "x: y: z", "!!python/name:os.system"]


@pytest.mark.parametrize("text", VALUES)
def test_values(text: str) -> None:
    found = parse_value(text)
    assert found == VALUES[text] and type(found) is type(VALUES[text])


@pytest.mark.parametrize("text", UNREADABLE, ids=range(len(UNREADABLE)))
def test_what_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(InputError, match="--name is .* cannot be read: .") as caught:
        parse_overrides(["--name", text])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_what_was_typed(path: str) -> None:
    names = ("datalist", "test_dir", "key", "weights", "catalog", "other_dir", "report_dir")
    words = [word for name in names for word in (f"--{name}", path)]
    assert parse_overrides([*words, f"--checkpoint={path}"]) == dict.fromkeys([*names, "checkpoint"], path)


def test_epsilons_are_typed_in_either_unit() -> None:
    assert parse_epsilons("6, 8/255,0.5,14/255", "--epsilons") == [6, 8, 0.5, 14]
    for wrong in ("6,x", "6,", "", "[6]", "6/0"):
        with pytest.raises(InputError, match="--epsilons holds"):
            parse_epsilons(wrong, "--epsilons")

# SPDX-License-Identifier: Apache-2.0
"""The settings of a method, as its help lists them."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature
from typing import Any

import pytest
import yaml

from monai_unlearnable.choosing import protect_auto
from monai_unlearnable.choosing.trials import OWNERS
from monai_unlearnable.cli import main
from monai_unlearnable.errors import InputError
from monai_unlearnable.evaluation.matrix import Matrix
from monai_unlearnable.publishing.manual import PLUMBING, manual, manual_of_auto
from monai_unlearnable.publishing.run import configuration, method_names


@pytest.mark.parametrize("method", method_names())
def test_every_setting_that_a_user_may_want_is_listed(method: str) -> None:
    """Each line of a bundle that is no plumbing says what it means, and defaults are those of the configuration."""
    file, preset = configuration(method)
    content = yaml.safe_load(file.read_text())
    found = {setting.name: setting for setting in manual(method).settings}
    plain = {
        name
        for name, value in content.items()
        if name not in PLUMBING and name not in preset and not isinstance(value, (dict, list))
    }
    derived = {"is_minimizing", "is_shared", "objective", "training_noise"}  # which follow from others
    pattern = preset.get("pattern")
    others = set() if pattern in (None, "linear") else {"batch_size", "patch_size"}
    others |= set() if pattern in (None, "lattice") else {"code"}
    assert plain - derived - others <= found.keys()
    for name, value in content.items():
        if name in found and isinstance(value, (int, float)) and name not in preset:
            assert found[name].default == str(value).lower()
    assert all(setting.meaning and len(setting.meaning) < 160 for setting in found.values())


def test_names_of_methods_have_defaults_of_their_own() -> None:
    settings = {setting.name: setting.default for setting in manual("error_minimizing_class").settings}
    assert settings["epochs"] == "20"
    assert "approach" not in settings


def test_what_one_pattern_alone_uses_is_not_listed_with_the_others() -> None:
    shown = {name: {setting.name for setting in manual(name).settings} for name in ("lattice", "linear", "synthetic")}
    assert "code" in shown["lattice"] and "batch_size" not in shown["lattice"]
    assert "batch_size" in shown["linear"] and "code" not in shown["linear"]
    assert {"code", "batch_size", "patch_size"} <= shown["synthetic"]


@pytest.mark.parametrize("command", [[], ["key"], ["trace"], ["evidence"]])
def test_lists_of_commands_are_read_to_the_end(command: list[str], capsys: Any) -> None:
    assert main([*command, "--help"]) == 0
    assert "..." not in capsys.readouterr().out.partition("Commands:")[2]


def test_help_of_trace_lists_its_options(capsys: Any) -> None:
    assert main(["trace", "--help"]) == 0
    assert {"--model", "--keys", "--stop-after", "--max-probes", "prepare"} <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", ["evaluate", "laboratory", "frontier"])
def test_help_of_an_examination_lists_its_settings(command: str, capsys: Any) -> None:
    assert main([command, "--help"]) == 0
    told = capsys.readouterr().out
    assert "--num_validations" in told and "--countermeasures" in told
    assert ("--protected" in told) == (command == "laboratory"), "the others decide on it"


def test_epsilon_is_shown_as_it_is_typed() -> None:
    assert next(s.default for s in manual("umed").settings if s.name == "epsilon") == "14/255"


@pytest.mark.parametrize("words", [["umed", "--help"], ["umed", "DATASET", "OUT", "-h"]])
def test_help_of_a_method_lists_its_settings(words: list[str], capsys: Any) -> None:
    assert main(["protect", *words]) == 0
    told = capsys.readouterr().out
    assert "--carrier_axis" in told and "largest change of a voxel" in told


def test_help_of_auto_lists_what_it_takes(capsys: Any) -> None:
    """All that are its own, with the defaults that hold, and no others than it knows."""
    shown = {setting.name: setting.default for setting in manual_of_auto().settings}
    parameters = signature(protect_auto).parameters.items()
    own = {name: parameter.default for name, parameter in parameters if parameter.kind == parameter.KEYWORD_ONLY}
    typed = {None: "", False: "false", 40.0: "40", "patches": "patches"}
    assert {name: typed[default] for name, default in own.items()} | {"length": "standard"} == {
        name: shown[name] for name in own
    }
    assert shown["width"] == str(Matrix.width)
    assert shown.keys() <= {*own, *OWNERS, *(field.name for field in fields(Matrix))}
    assert main(["protect", "auto", "--help"]) == 0
    assert "--psnr" in capsys.readouterr().out


def test_help_without_a_method_is_that_of_the_command(capsys: Any) -> None:
    assert main(["protect", "--help"]) == 0
    assert "protect METHOD --help" in capsys.readouterr().out


def test_help_of_an_unknown_method_names_those_that_there_are(capsys: Any) -> None:
    with pytest.raises(InputError, match="did you mean 'umed'"):
        manual("umet")
    assert main(["protect", "umet", "--help"]) == 2
    assert "did you mean 'umed'" in capsys.readouterr().err

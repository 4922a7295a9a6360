# SPDX-License-Identifier: Apache-2.0
"""Settings of a bundle as users give them, checked against those that its configuration has."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from pydoc import ErrorDuringImport, locate
from typing import Any

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.distributed import check_available
from monai_unlearnable.utils.text import alternatives
from monai_unlearnable.utils.values import check_number, check_path, check_switch, check_whole, check_wholes

__all__ = ["check_settings", "is_evaluated"]

# Earlier, longer names of bundle settings, for those who still use them.
RENAMED = {
    "amp": "train#trainer#amp",
    "budget": "protection",
    "cache_gib": "protection#cache_gib",
    "curves": "protection#curves",
    "quarantine": "skip_invalid",
    "resume": "protection#resume",
    "spared": "unperturbed",
    "surrogate_interval": "train#trainer#strategy#surrogate_interval",
    "surrogate_lifetime": "surrogates#lifetime",
    "surrogate_warmup": "surrogates#warmup",
    "tile": "pattern_size",
    "view": "augmentation",
}
# Settings of 1 or more.
COUNTS = ("epochs", "epoch_length", "batch_size", "iterations", "steps", "samples", "horizon", "cases_per_step")
SIZES = ("patch_size", "pattern_size", "channels", "strides")  # lists of numbers of 1 or more
NUMBERS = ("epsilon", "learning_rate", "step_size", "pattern_rate")  # which may be expressions in a configuration
QUOTIENT = re.compile(r"\$\s*[\d.]+\s*/\s*[\d.]+")
WINDOW = "{_target_: FixedWindow, low: -160, high: 240}"
TARGET, EXPRESSION = "_target_", "$"
# Checks of plain arguments, by annotation.
KINDS: dict[str, Callable[[str, Any], None]] = {
    "bool": check_switch,
    "int": check_whole,
    "float": check_number,
    "Sequence[int]": check_wholes,
}
LEVELS = re.compile("#|::")  # between the names of nested settings
REFERENCE = re.compile(rf"@((?:\w|{LEVELS.pattern})+)")  # to another setting


def check_settings(settings: Mapping[str, Any], known: Mapping[str, Any], of: str) -> None:
    """Check that a configuration has the settings, and that they are of the kind of its own values.

    Args:
        settings: settings by name; ``a#b`` is nested.
        known: content of the configuration.
        of: what the configuration is of, for errors: a method, or a file.

    Raises:
        InputError: naming the first setting that is unknown or of another kind.
    """
    for name, value in settings.items():
        group = LEVELS.split(name)[0]
        if group not in known:
            close = alternatives(name, known)
            hint = close if close.endswith("?") else ""
            hint = f"; {group!r} is called {RENAMED[group]!r} now" if group in RENAMED else hint
            raise InputError(f"{of} has no setting {name!r}{hint}")
        if _is_plain(value):
            *above, last = LEVELS.split(name)
            _check_kind(name, value, _found(known, [*above, last]))
            if above:
                _check_nested(name, last, value, _found(known, above))
            if isinstance(value, Mapping):
                _check_component(name, value)
        elif isinstance(value, str):
            _check_references(name, value, known)
            if value.startswith(EXPRESSION):
                _check_expression(name, value)


def _is_plain(value: Any) -> bool:
    """Whether a value is what it is, rather than an expression that the configuration is to evaluate."""
    return not (isinstance(value, str) and value.startswith((EXPRESSION, "@")))


def is_evaluated(path: str | Path) -> bool:
    """Whether a path is given as an expression or as a reference to a setting; such a name is no part of a path."""
    return isinstance(path, str) and (path.startswith(EXPRESSION) or REFERENCE.fullmatch(path) is not None)


def _check_references(name: str, value: str, known: Mapping[str, Any]) -> None:
    """Refuse a reference to the setting itself, and one to what the configuration does not have."""
    for reference in REFERENCE.findall(value):
        levels = LEVELS.split(reference)
        if levels == LEVELS.split(name):
            raise InputError(f"{name} is {value!r}, which refers to itself")
        if levels[0] and levels[0] not in known:  # relative references begin with a separator
            hint = alternatives(levels[0], known)
            raise InputError(f"{name} is {value!r}, and there is no setting {levels[0]!r}{hint}")


def _check_expression(name: str, value: str) -> None:
    try:
        ast.parse(REFERENCE.sub("setting", value.removeprefix(EXPRESSION)).strip())
    except (SyntaxError, ValueError) as error:
        raise InputError(f"{name} is {value!r}, which is no expression: {getattr(error, 'msg', error)}") from error


def _found(known: Any, names: list[str]) -> Any:
    """The value of a nested setting; None where the configuration has none."""
    for name in names:
        known = known.get(name) if isinstance(known, Mapping) else None
    return known


def _check_nested(name: str, last: str, value: Any, group: Any) -> None:
    """Check a setting of a group: an entry that it has, or an argument of the class that it makes."""
    if not isinstance(group, Mapping):
        return  # told where the configuration is read
    if TARGET not in group:
        if last not in group:
            raise InputError(f"there is no setting {name!r}{alternatives(last, group)}")
    elif last == TARGET:
        _target(name, value)
    elif _is_plain(group[TARGET]) and not last.startswith("_"):
        _check_argument(name, last, value, _target(name, group[TARGET]))


def _check_component(name: str, value: Mapping[str, Any]) -> None:
    """Check a part that is given as a whole, with the parts in it."""
    made = _target(name, value[TARGET]) if TARGET in value and _is_plain(value[TARGET]) else None
    for key, argument in value.items():
        if made is not None and not key.startswith("_") and _is_plain(argument):
            _check_argument(f"{name}#{key}", key, argument, made)
        if isinstance(argument, Mapping):
            _check_component(f"{name}#{key}", argument)


def _target(name: str, path: Any) -> Callable[..., Any]:
    """What makes a part: a dotted path, or a name of MONAI's."""
    from monai.bundle.config_item import ComponentLocator

    modules = [] if "." in str(path) else ComponentLocator().get_component_module_name(str(path))
    module = modules if isinstance(modules, str) else next(iter(modules or ()), None)
    try:
        found = locate(f"{module}.{path}" if module else str(path))
    except ErrorDuringImport:
        found = None
    if not callable(found):
        raise InputError(f"{name}: there is no class or function {path!r}")
    return found


def _check_argument(name: str, argument: str, value: Any, made: Callable[..., Any]) -> None:
    """Check the name of an argument, and its value where the annotation is that of a plain one."""
    try:
        parameters = inspect.signature(made).parameters
    except (TypeError, ValueError):
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()) and argument not in parameters:
        return
    if argument not in parameters:
        raise InputError(f"{name}: {made.__name__} takes no {argument!r}{alternatives(argument, parameters)}")
    annotation = parameters[argument].annotation
    kinds = (annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)).split(" | ")
    if value is None and "None" in kinds:
        return
    checks = [KINDS[kind] for kind in kinds if kind in KINDS]
    if len(checks) == len([kind for kind in kinds if kind != "None"]) == 1:
        checks[0](name, value)


def _check_kind(name: str, value: Any, own: Any) -> None:
    if isinstance(own, Mapping) and not isinstance(value, Mapping):
        example = "{_target_: NAME}" if TARGET in own else f"{{{next(iter(own), 'name')}: VALUE}}"
        raise InputError(f"{name} is {value!r}, not a group such as {example}")
    if isinstance(own, bool):
        check_switch(name, value)
    elif name in COUNTS:
        check_whole(name, value, 1)
    elif name == "seed":
        check_whole(name, value)
    elif LEVELS.split(name)[-1] in SIZES:
        check_wholes(name, value, 1)
    elif name in ("datalist", "dataset_dir", "output_dir", "checkpoint"):
        check_path(name, value)
    elif name == "device":
        check_available(value)
    elif name == "window":
        if value is not None and not (isinstance(value, Mapping) and TARGET in value):
            raise InputError(f"window is {value!r}, not a group such as {WINDOW}")
    elif isinstance(own, (int, float)) or QUOTIENT.fullmatch(str(own)) or (name in NUMBERS and value is not None):
        check_number(name, value)

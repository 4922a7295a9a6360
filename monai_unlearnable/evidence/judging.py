# SPDX-License-Identifier: Apache-2.0
"""What a figure claims: whether the exploiter was stopped, and whether a stronger run says otherwise."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

from monai_unlearnable.evidence.entries import Entry, Overstated, Score
from monai_unlearnable.report.rows import NO_COUNTERMEASURE, OWN_RECIPE
from monai_unlearnable.report.summaries import HALF
from monai_unlearnable.report.verdict import SMALL_DROP

__all__ = ["NOT_STOPPED", "RECIPES", "STOPPED", "UNKNOWN", "VICTIMS", "WEAKENED"]
__all__ += ["by_strength", "claim", "exploiter_words", "fraction", "size_words", "stronger_run", "victim_words"]
__all__ += ["weight", "with_overstated"]

STOPPED, WEAKENED, NOT_STOPPED, UNKNOWN = "stopped", "weakened", "not stopped", "no control"
RECIPES = {
    "plain": "no augmentation",
    "early_stop": "early stopping",
    "patches": "random patches",
    "mirror": "mirroring",
    "monai": "MONAI's tutorial pipeline",
    "nnunet": "nnU-Net's augmentation",
    "adversarial": "adversarial training",
    "loss_maximizing": "the hardest of five augmentations",
    "slow_stem": "a slow stem",
    "weight_recovery": "weight recovery with 5% clean cases",
    "finetune": "fine-tuning",
    "finetune_frozen": "fine-tuning with a frozen encoder",
}  # recipes in words; others are told by their names
VICTIMS = {
    "nnunetv2": "nnU-Net v2 itself",
    "nnunetv2_noda": "nnU-Net v2 itself without augmentation",
    "nnunetv2_nomirroring": "nnU-Net v2 itself without mirroring",
    "nnunetv2_adam": "nnU-Net v2 itself with AdamW",
    "nnunetv2_2d": "nnU-Net v2 itself on slices",
    "nnunetv2_stock": "nnU-Net v2 itself as it plans for a GPU",
}  # victims in words; others are told by their names


def fraction(entry: Entry) -> float:
    """How far the score lies between chance, 0, and the originals, 1; NaN where these were not trained on.

    Random noise may do worse than chance, and protected data better than originals: the value is not clipped.
    """
    if entry.clean is None or entry.clean.mean <= entry.chance:
        return math.nan
    return (entry.score.mean - entry.chance) / (entry.clean.mean - entry.chance)


def claim(entry: Entry) -> str:
    """``"stopped"`` where at most half of what originals teach is left, ``"not stopped"`` where less than 10 points
    are lost, between them ``"weakened"``; ``"no control"`` where the originals were not trained on."""
    left = fraction(entry)
    if entry.clean is None or math.isnan(left):
        return UNKNOWN
    if left <= HALF:
        return STOPPED
    return NOT_STOPPED if entry.clean.mean - entry.score.mean < SMALL_DROP else WEAKENED


def by_strength(entries: Iterable[Entry]) -> list[Entry]:
    """Entries in the order in which they are shown: newest first, of one day the attack that wins first."""

    def place(entry: Entry) -> tuple[float, ...]:
        left = fraction(entry)
        return (-1.0 if math.isnan(left) else left), entry.score.mean

    return sorted(sorted(entries, key=place, reverse=True), key=lambda entry: entry.date or "", reverse=True)


def stronger_run(entry: Entry, others: Mapping[str, Entry]) -> str | None:
    """The name of the run that refutes an entry: on the same data an exploiter who was not stopped.

    A shorter training of the same exploiter is none. Of several the one of the largest :func:`weight` is taken.

    Args:
        entry: an entry.
        others: entries by name, the entry itself perhaps among them.
    """
    if claim(entry) != STOPPED:
        return None
    found = {name: other for name, other in others.items() if other.data == entry.data and _refutes(other, entry)}
    return max(found, key=lambda name: weight(found[name]), default=None)


def weight(entry: Entry) -> tuple[bool, bool, float]:
    """How much a run that was not stopped counts: more without countermeasure, then as a program of its own, then by
    what it reached."""
    return entry.countermeasure == NO_COUNTERMEASURE, entry.recipe == OWN_RECIPE, fraction(entry)


def _refutes(other: Entry, entry: Entry) -> bool:
    if other.exploiter == entry.exploiter and (other.iterations or 0) <= (entry.iterations or 0):
        return False
    return fraction(other) > HALF and other.score.mean - entry.score.mean > _spread(entry.score) + _spread(other.score)


def _spread(score: Score) -> float:
    """Half of the interval, in points."""
    return 0.0 if score.interval is None else (score.interval[1] - score.interval[0]) / 2


def with_overstated(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """The entries that become overstated because of others, changed; those that are marked already stay as they are."""
    changed = {}
    for name, entry in entries.items():
        by = None if entry.overstated else stronger_run(entry, entries)
        if by is not None:
            other = entries[by]
            clean = f" of {other.clean.mean:.1f}" if other.clean else ""
            words = exploiter_words(other) + _apart(other, entry)
            remark = f"{words} reaches {other.score.mean:.1f}{clean}."
            changed[name] = dataclasses.replace(entry, overstated=Overstated(by=by, remark=remark))
    return changed


def _apart(other: Entry, entry: Entry) -> str:
    """What tells two exploiters apart who are the same in words: the input or the length."""
    if exploiter_words(other) != exploiter_words(entry):
        return ""
    sizes = [size_words(one) for one in (other, entry)]
    if sizes[0] and sizes[0] != sizes[1]:
        return f", with an input of {sizes[0]},"
    return (
        f", after {other.iterations:,} iterations," if other.iterations != entry.iterations and other.iterations else ""
    )


def size_words(entry: Entry) -> str:
    """The size of the network's input, such as ``"48x64x48"``; empty where it is not known."""
    size = entry.victim_settings.get("size")
    return "x".join(map(str, size)) if isinstance(size, list) else ""


def victim_words(entry: Entry) -> str:
    """The network, or the program that trains one."""
    return VICTIMS.get(entry.victim, entry.victim)


def exploiter_words(entry: Entry) -> str:
    """What the exploiter did, in words: ``"UNet, mirroring, after median"``."""
    recipe = "" if entry.recipe == OWN_RECIPE else f", {RECIPES.get(entry.recipe, entry.recipe)}"
    after = "" if entry.countermeasure == NO_COUNTERMEASURE else f", after `{entry.countermeasure}`"
    return f"{victim_words(entry)}{recipe}{after}"

# SPDX-License-Identifier: Apache-2.0
"""What the figures say, in plain words, and never more than they say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monai_unlearnable.report.rows import CLEAN, PROTECTED, RANDOM, Summary

__all__ = ["SMALL_DROP", "state_verdict"]

SMALL_DROP = 10.0  # points of Dice; a smaller drop is no protection
POOR_MODEL = 30.0  # percent; clean training that ends below it leaves little to protect


def state_verdict(summaries: Sequence[Summary]) -> str:
    """One paragraph on whether the protection works, cautious where it does not or where the control says otherwise.

    Args:
        summaries: of all victims; protected ones are compared with the clean and random ones of the same victim.
    """
    dice = {(s.victim, s.recipe, s.training): s.dice for s in summaries if np.isfinite(s.dice)}
    kinds = list(dict.fromkeys((s.victim, s.recipe) for s in summaries))
    pairs = [(v, r) for v, r in kinds if (v, r, CLEAN) in dice and (v, r, PROTECTED) in dice]
    if not pairs:
        return "No verdict is possible: no model was trained on both the original and the protected scans."
    clean = np.array([dice[v, r, CLEAN] for v, r in pairs])
    protected = np.array([dice[v, r, PROTECTED] for v, r in pairs])
    random = np.array([dice.get((v, r, RANDOM), np.nan) for v, r in pairs])
    names = [victim if _unique(pairs, victim) else f"{victim} ({recipe})" for victim, recipe in pairs]
    sentences = [
        _comparison(clean, protected, random),
        _strength(names, clean, protected),
        _control(clean, protected, random),
        _seeds(summaries),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _unique(pairs: Sequence[tuple[str, str]], victim: str) -> bool:
    return sum(other == victim for other, _ in pairs) == 1


def _figure(values: np.ndarray) -> str:
    mean = f"{values.mean():.1f}"
    return mean if len(values) == 1 else f"{mean} ({values.min():.1f} to {values.max():.1f})"


def _comparison(clean: np.ndarray, protected: np.ndarray, random: np.ndarray) -> str:
    known = random[np.isfinite(random)]
    control = f"; equal-size random noise leaves {_figure(known)}" if len(known) else ""
    over = "" if len(clean) == 1 else f" on average over {len(clean)} kinds of model"
    return (
        f"Models trained on the protected scans reach Dice {_figure(protected)} on clean scans{over}, "
        f"against {_figure(clean)} for models trained on the originals{control}."
    )


def _strength(names: Sequence[str], clean: np.ndarray, protected: np.ndarray) -> str:
    drop = clean - protected
    failed = [name for name, points in zip(names, drop, strict=True) if points < SMALL_DROP]
    if clean.mean() < POOR_MODEL:
        return "Even the models trained on the originals learned little, so this comparison proves nothing."
    if len(failed) == len(names):
        return f"The protection failed: it costs models less than {SMALL_DROP:.0f} points, so the scans remain usable."
    if failed:
        return f"The protection failed against {', '.join(failed)}: less than {SMALL_DROP:.0f} points are lost there."
    if (protected > clean / 2).any():
        return "The protection weakens training but does not prevent it: more than half of the usual Dice is left."
    return ""


def _control(clean: np.ndarray, protected: np.ndarray, random: np.ndarray) -> str:
    known = np.isfinite(random)
    if (clean - protected).mean() < SMALL_DROP or clean.mean() < POOR_MODEL:
        return ""
    if not known.any():
        return "There is no control with random noise, so the drop cannot be credited to the method."
    lost, all_lost = (clean - random)[known], (clean - protected)[known]
    if (lost >= all_lost - SMALL_DROP).any():
        return "Random noise of the same size does about as much harm, so the drop cannot be credited to the method."
    if (lost >= SMALL_DROP).any():
        return "Random noise of the same size does harm too, so part of the drop is owed to its size alone."
    return ""


def _seeds(summaries: Sequence[Summary]) -> str:
    fewest = min(s.seeds for s in summaries)
    return "" if fewest > 1 else "Some figures rest on a single training run; repeat with other seeds before quoting."

# SPDX-License-Identifier: Apache-2.0
"""The meaning of the figures in plain words, and no more than they say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from monai_unlearnable.metrics.judgement import NOT_STOPPED, POOR, SMALL_DROP, STOPPED, UNSTOPPED, WEAKENED, is_poor
from monai_unlearnable.report.controlled import ControlledSummaries
from monai_unlearnable.report.frontier import frontier_lines
from monai_unlearnable.report.rows import CLEAN, DIVERGED, MOVED
from monai_unlearnable.report.summaries import Summary, attempt, iterations_of
from monai_unlearnable.utils.grouping import distinct, grouped

__all__ = ["state_verdict"]


def state_verdict(summaries: Sequence[Summary]) -> str:
    """One paragraph on whether the protection works, cautious where it does not or where the control says otherwise.

    Protected data are compared with the clean and random ones of the same victim.
    """
    controlled = ControlledSummaries(summaries)
    protected = [s for method in controlled.methods for s in controlled.baselines(method)]
    if not protected:
        nothing = "No verdict is possible: no model was trained on both the original and the protected scans."
        return " ".join(filter(None, (nothing, _failures(summaries))))
    if len(controlled.methods) > 1:
        sentences = [_in_short(controlled, method) for method in controlled.methods]
    else:
        sentences = [_comparison(controlled, protected), _strength(controlled, protected)]
        sentences += (
            [] if _poor(controlled, protected) else [_peak(controlled, protected), _strongest(controlled, protected)]
        )
    sentences += [_control(controlled, protected), _failures(summaries), _length(summaries), _seeds(summaries)]
    return " ".join(filter(None, sentences))


def _figure(values: Sequence[float]) -> str:
    mean, span = f"{np.mean(values):.1f}", _span(values)
    return f"{mean} ({span})" if " to " in span else mean


def _span(values: Sequence[float]) -> str:
    ends = distinct(f"{value:.1f}" for value in (min(values), max(values)))
    return " to ".join(ends)


def _clean(controlled: ControlledSummaries, group: Sequence[Summary]) -> list[float]:
    """Scores of the clean controls, each once."""
    controls = {id(control): control.score for one in group if (control := controlled.control(one))}
    return list(controls.values())


def _strengths(group: Sequence[Summary]) -> int:
    return len(distinct(s.data for s in group))


def _comparison(controlled: ControlledSummaries, group: Sequence[Summary]) -> str:
    found = {id(random): random.score for one in group if (random := controlled.random(one))}
    control = f"; equal-size random noise leaves {_figure(list(found.values()))}" if found else ""
    victims, scores = len(distinct(s.victim for s in group)), [s.score for s in group]
    over = f" on average over {victims} kinds of model" if victims > 1 else ""
    reached = _figure(scores)
    if _strengths(group) > 1:
        reached, over = _span(scores), f", depending on which of {_strengths(group)} strengths"
    return (
        f"Models trained on the protected scans reach {group[0].metric} {reached} on clean scans{over}, "
        f"against {_figure(_clean(controlled, group))} for models trained on the originals{control}."
    )


def _p50(controlled: ControlledSummaries, method: str) -> str:
    """Up to which PSNR the protection holds, in words; empty where that is not known.

    Victims without a clean control, or whom even originals teach little, say nothing of it.
    """
    lines = [
        line
        for line in frontier_lines(controlled)
        if (line.method, line.recipe) == (method, controlled.recipe)
        and math.isfinite(line.clean)
        and not is_poor(line.clean, line.chance)
    ]
    reached = [line for line in lines if line.p50 is not None]
    if not lines:
        return ""
    if not reached:
        return "at none of its strengths half of the usual score is lost"
    lowest = min(reached, key=lambda line: line.p50 or 0.0)
    unless = f", never against {', '.join(line.victim for line in lines if line not in reached)}"
    held = f"half of the usual score is lost up to a PSNR of {lowest.words} (P50, {lowest.victim})"
    return held + (unless if len(reached) < len(lines) else "")


def _drops(controlled: ControlledSummaries, group: Sequence[Summary]) -> list[float]:
    return [control.score - one.score for one in group if (control := controlled.control(one))]


def _poor(controlled: ControlledSummaries, group: Sequence[Summary]) -> bool:
    """Whether the clean controls learned too little to compare with."""
    return is_poor(float(np.mean(_clean(controlled, group))), group[0].chance)


def _holds_nowhere(controlled: ControlledSummaries, group: Sequence[Summary]) -> bool:
    """Whether the protection stops or weakens none of the victims."""
    return all(controlled.judgement(s) == NOT_STOPPED for s in group)


def _strength(controlled: ControlledSummaries, group: Sequence[Summary]) -> str:
    if _poor(controlled, group):
        return "Even the models trained on the originals learned little, so this comparison proves nothing."
    if _holds_nowhere(controlled, group):
        cost = f"models lose less than {SMALL_DROP:.0f} points{_of_some(group)}, so the scans remain usable"
        return f"The protection does not hold: {cost}."
    if _strengths(group) > 1:
        held = _p50(controlled, group[0].method)
        return f"{held[:1].upper()}{held[1:]}." if held else ""
    names = [s.victim for s in group if controlled.judgement(s) == NOT_STOPPED]
    if names:
        lost = f"less than {SMALL_DROP:.0f} points are lost{_of_some(group)}"
        return f"The protection does not hold against {', '.join(names)}: {lost}."
    if any(controlled.judgement(s) == WEAKENED for s in group):
        left = f"more than half of the usual score is left{_of_some(group)}"
        return f"The protection weakens training but does not prevent it: {left}."
    return ""


def _of_some(group: Sequence[Summary]) -> str:
    """That judgement is by the seed that learned most, where there are several."""
    return " with one seed at least" if any(s.seeds > 1 for s in group) else ""


def _baseline_fraction(controlled: ControlledSummaries, group: Sequence[Summary]) -> float:
    """Most of the usual score that the baselines reach, as a fraction."""
    return max((controlled.fraction(s) for s in group if controlled.judgement(s) != POOR), default=math.nan)


def _told(controlled: ControlledSummaries, group: Sequence[Summary]) -> Summary | None:
    """The other way of training that the verdict tells of.

    It is the strongest where the protection holds; but of data in one strength the one that wins more than all
    baselines, whatever these reach.
    """
    best, others = controlled.strongest(group[0].method), controlled.others(group[0].method)
    if best is None or controlled.judgement(best) != STOPPED or _strengths(group) > 1:
        return best
    most = max(others, key=controlled.fraction)
    return most if controlled.fraction(most) > _baseline_fraction(controlled, group) else best


def _strongest(controlled: ControlledSummaries, group: Sequence[Summary]) -> str:
    """What brings most of the score back, unless the sentence on strength has said the worst already."""
    best = _told(controlled, group)
    control = controlled.control(best) if best else None
    if best is None or control is None or _holds_nowhere(controlled, group):
        return ""
    where = best.victim if len(distinct(s.data for s in group)) == 1 else f"{best.victim}, {best.data}"
    reached = f"{best.score:.1f} of {control.score:.1f} ({where})"
    if controlled.judgement(best) == STOPPED:
        return _nothing_won(controlled, best, reached)
    if best.score >= control.score:
        reached = f"{best.score:.1f}, no less than {control.score:.1f} on the originals ({where})"
        return f"With {attempt(best)} the score is {reached}, so the protection does not hold against it."
    if controlled.judgement(best) == NOT_STOPPED:
        return f"With {attempt(best)} the score returns to {reached}, so the protection does not hold against it."
    if controlled.fraction(best) <= _baseline_fraction(controlled, group):
        return ""
    return f"With {attempt(best)} the score comes back to {reached}, more than half, so the protection is weak there."


def _nothing_won(controlled: ControlledSummaries, best: Summary, reached: str) -> str:
    """That no other way of training wins: where the protection holds at all, if one wins where it does not."""
    tried = len(distinct(attempt(s) for s in controlled.held(best.method)))
    elsewhere = any(controlled.judgement(s) in UNSTOPPED for s in controlled.others(best.method))
    if tried == 1:
        text = f"the other way of training that was tried, {attempt(best)}, brings back {reached}, less than half."
    else:
        text = (
            f"none of the {tried} other ways of training that were tried brings back more than half; the best is "
            f"{attempt(best)} with {reached}."
        )
    return f"Where {controlled.recipe} training is stopped, {text}" if elsewhere else f"{text[:1].upper()}{text[1:]}"


def _peak(controlled: ControlledSummaries, group: Sequence[Summary]) -> str:
    """Models that were good on the way and then forgot."""
    high = [s for s in group if controlled.judgement(s) == STOPPED and controlled.judgement(s, s.peak) in UNSTOPPED]
    if not high:
        return ""
    best = max(high, key=lambda s: s.peak)
    kept = "which early stopping on a few clean scans would keep"
    return f"On the way it reaches up to {best.peak:.1f} ({best.victim}), {kept}."


def _in_short(controlled: ControlledSummaries, method: str) -> str:
    """One method among several: what it leaves, and what brings the score back."""
    group = controlled.baselines(method)
    if not group:
        return f"{method}: no verdict is possible."
    scores, clean = [s.score for s in group], _figure(_clean(controlled, group))
    several = _strengths(group) > 1
    text = f"{method} leaves {group[0].metric} {_span(scores) if several else _figure(scores)} of {clean}"
    if _poor(controlled, group):
        return f"{text}, where even the originals teach little, so this proves nothing."
    if _holds_nowhere(controlled, group):
        return f"{text}: it does not protect."
    parts = [text, _p50(controlled, method) if several else ""]
    best = _told(controlled, group)
    control = controlled.control(best) if best else None
    if best is not None and control is not None:
        verb = "brings only" if controlled.judgement(best) == STOPPED else "brings"
        parts.append(f"{attempt(best)} {verb} {best.score:.1f} of {control.score:.1f} back ({best.victim})")
    return f"{'; '.join(part for part in parts if part)}."


def _control(controlled: ControlledSummaries, group: Sequence[Summary]) -> str:
    """Whether random noise of the same size does the same, told by the strongest noise of each method."""
    if _poor(controlled, group):
        return ""
    harmed = [one for one, lost in _largest_drops(controlled, group) if lost >= SMALL_DROP]
    if not harmed:
        return ""
    known = [one for one in harmed if controlled.random(one)]
    if not known:
        return "There is no control with random noise of the same size, so the drop cannot be credited to the method."
    as_much, partly = [], []
    for one in known:
        control, random = controlled.control(one), controlled.random(one)
        assert control is not None and random is not None  # those known have both
        lost = control.score - random.score
        as_much += [one.method] if lost >= control.score - one.score - SMALL_DROP else []
        partly += [one.method] if lost >= SMALL_DROP else []
    several = len(controlled.methods) > 1
    if as_much:
        whom = ", ".join(distinct(as_much)) if several else "the method"
        return f"Random noise of the same size does about as much harm, so the drop cannot be credited to {whom}."
    if partly:
        whom = f" of {', '.join(distinct(partly))}" if several else ""
        return f"Random noise of the same size does harm too, so part of the drop{whom} is owed to its size alone."
    return ""


def _largest_drops(controlled: ControlledSummaries, group: Sequence[Summary]) -> list[tuple[Summary, float]]:
    """Of each method and victim the summary that costs most, with the points."""
    pairs = grouped(zip(group, _drops(controlled, group), strict=True), lambda pair: (pair[0].method, pair[0].victim))
    return [max(members, key=lambda pair: pair[1]) for members in pairs.values()]


def _failures(summaries: Sequence[Summary]) -> str:
    """How many trainings have no score, and where the first is."""
    statuses = [status for s in summaries for status in s.statuses]
    if not statuses:
        return ""
    total = len(statuses) + sum(s.seeds for s in summaries)
    first = next(s for s in summaries if s.statuses)
    diverged = sum(status == DIVERGED for status in statuses)
    counts = {"diverged": diverged, "failed": len(statuses) - diverged}
    kinds = [f"{count} {kind}" for kind, count in counts.items() if count]
    where = f"{first.victim}, {attempt(first)}, {'originals' if first.training == CLEAN else first.data}"
    return (
        f"Of {total} trainings {' and '.join(kinds)} ({where}{', ...' if len(statuses) > 1 else ''}); they count "
        "neither for nor against the protection."
    )


def _length(summaries: Sequence[Summary]) -> str:
    """How long models were trained, and whether that was long enough."""
    length = iterations_of(summaries)
    moving = [s for s in summaries if s.mark]
    after = f"The figures are those after {length} iterations" if length else ""
    if not moving:
        return f"{after}." if after else ""
    first = moving[0]
    where = f"{first.victim}, {attempt(first)}, {first.words}{', ...' if len(moving) > 1 else ''}"
    still = f"{len(moving)} of {len(summaries)} still moved by more than {MOVED:.0f} points in the last fifth ({where})"
    return f"{after or 'Not all figures are final'}; {still}, so longer training may change the verdict."


def _seeds(summaries: Sequence[Summary]) -> str:
    fewest = min((s.seeds for s in summaries if s.done), default=0)
    return "Some figures rest on a single training run; repeat with other seeds before quoting." if fewest == 1 else ""

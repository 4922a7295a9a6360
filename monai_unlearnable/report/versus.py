# SPDX-License-Identifier: Apache-2.0
"""Method against method: which of two protections leaves models less, over the same test cases."""

from __future__ import annotations

from monai_unlearnable.report.columns import format_interval, format_number, format_p, victim_name
from monai_unlearnable.report.matrix import Matrix, difference_test
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.tags import LONG, details, note, text_table

__all__ = ["COLUMNS", "WORDS", "rows", "section"]

COLUMNS = ("Victim", "Countermeasure", "Method", "Against", "Difference", "95% interval", "p")
WORDS = 4  # leading columns that hold words
EXPLANATION = (
    "Difference is the score of the first method less that of the other, mean over test cases, in points: below 0 the "
    "first leaves models less. Interval and p are those of the paired test over the same test cases; p is not "
    "corrected for the number of pairs. Where a method comes in several strengths, equal ones are compared."
)


def rows(results: Results) -> list[tuple[str, ...]]:
    """Paired tests between every two protected data that the same victim was trained on in the same way.

    Args:
        results: pairs whose test cases are not known are left out.

    Returns:
        Text in the order of :data:`COLUMNS`.
    """
    summaries = results.summaries()
    tested = [(pair, difference_test(pair[1], pair[0])) for pair in Matrix(summaries).rivals()]
    return [
        (
            victim_name(first, summaries),
            first.countermeasure,
            first.words,
            second.words,
            format_number(test.difference, "+.1f"),
            format_interval(test.interval, "+.1f"),
            format_p(test.p_value),
        )
        for (first, second), test in tested
        if test.cases
    ]


def section(results: Results) -> str:
    """These tests as a table of the page, a long one folded; empty where there are not two methods."""
    found = rows(results)
    if not found:
        return ""
    title = "Method against method"
    shown = text_table(title, COLUMNS, found, WORDS) + note(EXPLANATION)
    return f"<h3>{title}</h3>{shown if len(found) <= LONG else details(f'{len(found)} pairs', shown)}"

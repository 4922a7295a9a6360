# SPDX-License-Identifier: Apache-2.0
"""Reports: results to tables, pictures and one self-contained page."""

from monai_unlearnable.report.comparison import Comparison, compare, comparison_table
from monai_unlearnable.report.frontier import FrontierLine
from monai_unlearnable.report.html import compare_page, write_comparison, write_report
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import VictimRow
from monai_unlearnable.report.tables import frontier_table, markdown_frontier, markdown_table, victim_table

__all__ = [
    "Comparison",
    "FrontierLine",
    "Results",
    "VictimRow",
    "compare",
    "compare_page",
    "comparison_table",
    "frontier_table",
    "markdown_frontier",
    "markdown_table",
    "victim_table",
    "write_comparison",
    "write_report",
]

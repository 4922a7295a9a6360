# SPDX-License-Identifier: Apache-2.0
"""Reports: results to tables, pictures and one self-contained page."""

from .compare import Comparison, compare, comparison_table
from .compare_page import compare_page, write_comparison
from .frontier import FrontierLine
from .html import write_report
from .markdown import markdown_frontier, markdown_table
from .results import Results
from .rows import VictimRow
from .table import frontier_table, victim_table

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

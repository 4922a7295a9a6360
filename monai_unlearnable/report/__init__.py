# SPDX-License-Identifier: Apache-2.0
"""Reports: results as tables, pictures and one self-contained page."""

from monai_unlearnable.report.comparison import Comparison, compare, comparison_table
from monai_unlearnable.report.frontier import FrontierLine
from monai_unlearnable.report.html import compare_page, write_comparison, write_report
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import VictimRow
from monai_unlearnable.report.tables import markdown_table, p50_table, victim_table

__all__ = ["Comparison", "FrontierLine", "Results", "VictimRow", "compare", "comparison_table"]
__all__ += ["markdown_table", "p50_table", "victim_table"]
__all__ += ["compare_page", "write_comparison", "write_report"]

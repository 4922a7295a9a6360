# SPDX-License-Identifier: Apache-2.0
"""Reports: results to tables, pictures and one self-contained page."""

from .html import write_report
from .results import Results
from .rows import VictimRow
from .table import victim_table

__all__ = ["Results", "VictimRow", "victim_table", "write_report"]

# SPDX-License-Identifier: Apache-2.0
"""What was measured before, as data: one JSON file a figure, and the tables of all documents rendered from them."""

from monai_unlearnable.evidence.documents import documents, rewrite, stale
from monai_unlearnable.evidence.earlier import Background, background
from monai_unlearnable.evidence.entries import Entry, Overstated, Score, load_entries, own_entries, save_entry
from monai_unlearnable.evidence.queries import Query
from monai_unlearnable.evidence.recording import entries_from, record
from monai_unlearnable.evidence.tables import render
from monai_unlearnable.evidence.traces import TraceEntry, own_traces, save_trace

__all__ = [
    "Background",
    "Entry",
    "Overstated",
    "Query",
    "Score",
    "TraceEntry",
    "background",
    "documents",
    "entries_from",
    "load_entries",
    "own_entries",
]
__all__ += ["own_traces", "record", "render", "rewrite", "save_entry", "save_trace", "stale"]

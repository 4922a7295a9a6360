# SPDX-License-Identifier: Apache-2.0
"""What was measured before, as data: one JSON file a figure, and the tables of all documents rendered from them."""

from monai_unlearnable.evidence.entries import Entry, Overstated, Score, load_entries, save_entry
from monai_unlearnable.evidence.judging import claim, fraction
from monai_unlearnable.evidence.recording import entries_from, record

__all__ = ["Entry", "Overstated", "Score", "claim", "entries_from", "fraction", "load_entries", "record"]
__all__ += ["save_entry"]

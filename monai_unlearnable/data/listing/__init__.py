# SPDX-License-Identifier: Apache-2.0
"""What a dataset folder holds: cases by lists, tables, or names of folders and files; and what is passed over."""

from .datalist import Case
from .dataset import Listing, PassedOver, list_dataset, load_cases

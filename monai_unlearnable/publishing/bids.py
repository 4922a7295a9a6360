# SPDX-License-Identifier: Apache-2.0
"""The description of a BIDS dataset, published with a line on what this program did."""

from __future__ import annotations

import json
import logging
from importlib import metadata
from pathlib import Path
from typing import Any

from monai_unlearnable.utils.files import encode_json, reading, write_atomic

__all__ = ["publish_description"]

logger = logging.getLogger(__name__)

PACKAGE = "monai_unlearnable"


def publish_description(dataset_dir: Path, target: Path) -> None:
    """Write the description of the published files, where the dataset has one; atomic.

    Its fields are kept, and ``GeneratedBy`` gets an entry for this program after those that are there.

    Args:
        dataset_dir: folder of the originals.
        target: file to write.

    Raises:
        ScanError: naming the file, when it cannot be read.
        OutputError: naming the file, when it cannot be written.
    """
    source = dataset_dir / target.name
    with reading(source):
        text = source.read_bytes() if source.is_file() else None
    if text is None:
        return
    try:
        content = json.loads(text)
        earlier = content.get("GeneratedBy", [])
        if not isinstance(earlier, list):
            raise TypeError("GeneratedBy is no list")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        logger.warning("%s is not published: it is no description of a BIDS dataset: %s", source, error)
        return
    write_atomic(target, encode_json({**content, "GeneratedBy": [*earlier, _entry()]}))


def _entry() -> dict[str, Any]:
    """What BIDS asks of a program."""
    known = metadata.metadata(PACKAGE)
    address = next((url.partition(", ")[2] for url in known.get_all("Project-URL") or ()), None)
    entry = {
        "Name": PACKAGE,
        "Version": known["Version"],
        "Description": "Noise within a budget was added to the scans, which makes it harder to train models on them.",
    }
    return entry if address is None else {**entry, "CodeURL": address}

# SPDX-License-Identifier: Apache-2.0
"""Pictures of the page, each with what it shows."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from html import escape

from monai_unlearnable.report.columns import capital
from monai_unlearnable.report.page import RESOLUTION
from monai_unlearnable.report.results import Results

__all__ = ["KINDS", "gallery"]

SCREEN = 98  # pixels of the page an inch of a picture
NARROW = {"heat": 0.66, "frontier": 0.66, "bars": 0.6, "curves": 0.6}  # of their width, to which charts may shrink
CAPTIONS = {
    "heat": "{metric} on clean held-out scans in percent, means over seeds. Orange: models learn next to nothing. "
    "Blue: they learn as much as from the originals with the same network and recipe. Star: some seeds have no score. "
    "Hatched: none has. Dash: not tried.",
    "frontier": "{metric} on clean held-out scans against how close the training scans are to the originals; to the "
    "right and below is better. Bars span the seeds; with one seed, they are 95% intervals over test cases. The ring "
    "marks where half of the usual score is lost.",
    "bars": "{metric} on clean held-out scans at the end of training, without countermeasures. Lines span the seeds, "
    "dots are the seeds; with one seed, the line is the interval over test cases.",
    "curves": "{metric} on clean held-out scans during training, averaged over seeds; bands span the seeds. Shown are "
    "victims that were trained plainly, and attempts that brought most of the score back.",
    "prediction": "What models find in a clean test scan, beside the expert's outline.",
    "montage": "A scan before and after protection, seen through its intensity window, their difference magnified, and "
    "the label with the voxels that were changed.",
}
KINDS = (*CAPTIONS, "")


def gallery(results: Results, images: Mapping[str, bytes], kind: str) -> str:
    """Pictures of one kind side by side where there is room, the PNG inside the page, with one caption.

    Args:
        results: for what pictures say.
        images: PNG bytes by name; ``x_dark`` is shown in place of ``x`` on dark screens.
        kind: prefix of the names; empty for those of no known kind.
    """
    names = [name for name in images if _kind(name) == kind and not _is_dark(name, images)]
    if not names:
        return ""
    metric = capital(results.metric)
    if not kind:
        return "".join(_figure([name], images, kind, name.replace("_", " "), name.replace("_", " ")) for name in names)
    caption = CAPTIONS[kind].format(metric=metric)
    if kind in ("prediction", "montage"):
        return "".join(_figure([name], images, kind, caption * (name == names[-1]), caption) for name in names)
    return _figure(names, images, kind, caption, f"{_alternative(kind, results)} The tables hold the same figures.")


def _kind(name: str) -> str:
    return next((known for known in CAPTIONS if name.startswith(known)), "")


def _is_dark(name: str, images: Mapping[str, bytes]) -> bool:
    return name.endswith("_dark") and name.removesuffix("_dark") in images


def _figure(names: Sequence[str], images: Mapping[str, bytes], kind: str, caption: str, alternative: str) -> str:
    frames = "".join(_frame(images[name], images.get(f"{name}_dark"), kind, alternative) for name in names)
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    many = "frames" if len(names) > 1 else "frames one"
    return f'<figure><div class="{many}">{frames}</div>{below}</figure>'


def _frame(content: bytes, dark: bytes | None, kind: str, alternative: str) -> str:
    source = f'<source media="(prefers-color-scheme: dark)" srcset="{_data(dark)}">' if dark else ""
    width, height = _size(content)
    sizes = f' style="width:{width}px;min-width:{NARROW[kind] * width:.0f}px"' if kind in NARROW else ""
    image = f'<img src="{_data(content)}" alt="{escape(alternative)}" width="{width}" height="{height}"{sizes}>'
    look = "frame chart" if kind in NARROW else "frame"
    return f'<div class="{look}" tabindex="0"><picture>{source}{image}</picture></div>'


def _size(content: bytes) -> tuple[int, int]:
    """Width and height on the page, from the head of a PNG; of others nothing is known."""
    if content[12:16] != b"IHDR":
        return RESOLUTION, RESOLUTION
    width, height = struct.unpack(">II", content[16:24])
    return round(width * SCREEN / RESOLUTION), round(height * SCREEN / RESOLUTION)


def _data(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _alternative(kind: str, results: Results) -> str:
    words = {"heat": "Heat maps", "frontier": "Frontier", "bars": "Bars", "curves": "Learning curves"}[kind]
    shown = results.summaries()[:12]
    values = "; ".join(f"{s.victim}, {s.recipe}, {s.words}: {s.failure or format(s.score, '.1f')}" for s in shown)
    return f"{words} of {results.metric} in percent. At the end: {values}."

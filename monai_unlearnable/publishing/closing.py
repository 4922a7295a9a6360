# SPDX-License-Identifier: Apache-2.0
"""What a run ends with: the facts of the output, what to publish and to keep, and the commands that come next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_unlearnable.data import load_cases
from monai_unlearnable.errors import InputError
from monai_unlearnable.noise import Manifest
from monai_unlearnable.publishing.archives import is_archive
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.pacs import STUDIES
from monai_unlearnable.publishing.plan import native_steps
from monai_unlearnable.utils.text import counted, first_few, of_255

__all__ = ["Closing"]


@dataclass(frozen=True)
class Closing:
    """The summary of a finished output.

    Args:
        manifest: record of the run.
        layout: the output.
        source: what the noise comes from, in the user's words: the name of a method, a folder or a checkpoint.
        dataset: the clean dataset, in the user's words.
        program: words that start the program.
        key: file of the owner's key, if the output is encrypted.
        datalist: list of the cases, if one was given.
    """

    manifest: Manifest
    layout: Layout
    source: str
    dataset: str
    program: str
    key: str | None = None
    datalist: str | None = None

    def page(self) -> str:
        """The facts for people to read, a line each."""
        return "\n".join(f"{name:<12} {text}" for name, text in self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        scans, names = self.manifest.scans, self.manifest.unchanged
        cases = len({entry.case_id for entry in scans})
        count = counted(cases, "case") + ("" if cases == len(scans) else f" of {counted(len(scans), 'scan')}")
        yield "done", f"{count}, with {self.source}"
        if names:
            yield "unchanged", f"{counted(len(names), 'scan')}, where nothing may change: {first_few(names)}"
        changed = [entry.measured for entry in scans if entry.measured.get("l0")]
        if found := [figures["psnr"] for figures in changed if "psnr" in figures]:
            low, high = (f"{value:.1f}" for value in (min(found), max(found)))
            yield "fidelity", f"PSNR {low if low == high else f'{low} to {high}'} dB of the scans that changed"
        widths = [high - low for entry in scans for low, high in zip(entry.window.low, entry.window.high, strict=True)]
        epsilon = scans[0].budget.epsilon
        native = native_steps(epsilon * min(widths), epsilon * max(widths))
        yield "budget", f"kept: {of_255(epsilon)} of the window, {native} in the units of the files"
        layout = self.layout
        public = [path for path in (layout.protected, layout.statement) if path.exists()]
        described = f"; {layout.croissant} describes the set for programs" if layout.croissant.exists() else ""
        yield "to publish", " and ".join(map(str, public)) + described
        yield "to keep", self._kept()
        for words in self._next():
            yield "next", shlex.join(words)

    def _kept(self) -> str:
        layout = self.layout
        own = [layout.noise, layout.models, layout.unpacked, layout.fetched]
        folders = " and ".join(str(path) for path in own if path.exists())
        if self.key is None:
            return f"{folders}: whoever has them can undo the noise"
        return f"{folders}, encrypted; and {self.key}: nothing opens without it"

    def _next(self) -> Iterator[Sequence[str]]:
        start, root, key = shlex.split(self.program), str(self.layout.root), self._option("--key", self.key)
        folder = self._folder()
        clean = self.dataset if is_archive(self.dataset) else folder
        yield [*start, "verify", root, *self._option("--clean", clean), *key]
        if folder is not None:
            listed = self._option("--datalist", self.datalist)
            test = [] if self._has_test(folder) else ["--test_dir", "TEST"]
            yield [*start, "evaluate", root, folder, *listed, *test, *key]

    @staticmethod
    def _option(name: str, value: str | None) -> list[str]:
        return [] if value is None else [name, value]

    def _folder(self) -> str | None:
        """The folder of the clean dataset; None where it stays on a server or in an archive."""
        places = (Path(self.dataset), self.layout.unpacked, self.layout.fetched / STUDIES)
        return next((str(place) for place in places if place.is_dir()), None)

    def _has_test(self, folder: str) -> bool:
        """Whether the dataset has test cases of its own, with labels, which an evaluation needs."""
        try:
            return bool(load_cases(folder, self.datalist, "test"))
        except InputError:
            return False

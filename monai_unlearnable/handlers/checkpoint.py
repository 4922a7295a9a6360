# SPDX-License-Identifier: Apache-2.0
"""Checkpoints from which a stopped run goes on."""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint

from monai_unlearnable.errors import OutputError
from monai_unlearnable.noise import fingerprint
from monai_unlearnable.noise.vault import Key, open_owned, place, write_owned

__all__ = ["ResumableCheckpoint"]

logger = logging.getLogger(__name__)


class ResumableCheckpoint:
    """Saves the state of a run after each epoch, and loads it where the run has been before.

    Args:
        path: file of the checkpoint.
        objects: what to save besides the engine: anything with ``state_dict`` and ``load_state_dict``.
        settings: JSON-ready; a checkpoint of a run with other settings is refused.
        interval: epochs between two saves.
        overwrite: start anew instead of going on.
        key: the owner's, to seal the checkpoint.

    Raises:
        OutputError: naming the file, when the settings differ or it cannot be read or written.
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, Any],
        settings: Any = None,
        interval: int = 1,
        overwrite: bool = False,
        key: Key | None = None,
    ) -> None:
        self.key = key
        self.path, self.objects, self.interval, self.overwrite = Path(path), dict(objects), interval, overwrite
        self.settings = _Settings(fingerprint(settings))

    def attach(self, engine: Engine) -> None:
        """Load when ``engine`` starts, save after its epochs."""
        content = {"engine": engine, "settings": self.settings, **self.objects}
        # Ignite's own saver removes the file before it writes the next one: a run killed in between would start anew.
        checkpoint = Checkpoint(content, self._save, filename_pattern=self.path.name, n_saved=1)
        if place(self.path, self.key).is_file() and not self.overwrite:
            self._load(content)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval) | Events.COMPLETED, checkpoint)

    def _save(self, content: Mapping[str, Any], filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        if idist.get_rank() == 0:
            stream = io.BytesIO()
            torch.save(content, stream)
            write_owned(self.path, stream.getvalue(), self.key)

    def _load(self, content: dict[str, Any]) -> None:
        try:
            with open_owned(self.path, self.key) as stream:
                state = torch.load(stream, map_location="cpu", weights_only=True)
            if state["settings"]["fingerprint"] != self.settings.value:
                raise OutputError(
                    "the checkpoint there belongs to a run with other settings; choose another folder or set overwrite",
                    file=self.path,
                )
            Checkpoint.load_objects(content, state)
        except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
            raise OutputError(f"the checkpoint cannot be read: {error}", file=self.path) from error
        logger.info("going on from %s", self.path)


class _Settings:
    def __init__(self, value: str) -> None:
        self.value = value

    def state_dict(self) -> dict[str, str]:
        return {"fingerprint": self.value}

    def load_state_dict(self, state: Mapping[str, str]) -> None:
        self.value = state["fingerprint"]

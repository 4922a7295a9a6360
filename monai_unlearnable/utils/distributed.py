# SPDX-License-Identifier: Apache-2.0
"""Several processes that work together: their turns, their shares, and their results.

A process that did not join a group (``torch.distributed``) is the only one. Torch is loaded by those that join."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

from monai_unlearnable.errors import InputError

__all__ = [
    "PATIENCE",
    "check_available",
    "check_device",
    "count",
    "default_device",
    "gather",
    "gather_shares",
    "joined",
    "rank",
    "share",
]
__all__ += ["started", "wait"]

PATIENCE = timedelta(days=7)  # shares take unequally long: the first to be done waits for the others
LEAVING, LEAVE = "leaving", timedelta(minutes=1)  # key by which each says that it leaves, and how long others wait

T = TypeVar("T")


def _group() -> Any:
    distributed: Any = sys.modules.get("torch.distributed")
    return distributed if distributed and distributed.is_available() and distributed.is_initialized() else None


def rank() -> int:
    """The number of this process, from 0."""
    group = _group()
    return int(group.get_rank()) if group else 0


def count() -> int:
    """The number of processes."""
    group = _group()
    return int(group.get_world_size()) if group else 1


def started() -> int:
    """The number of processes that ``torchrun`` started together, whether they have joined yet or not."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def wait() -> None:
    """Wait for all processes."""
    group = _group()
    if group:
        group.barrier()


def gather(value: T) -> list[T]:
    """The values of all processes, in the order of their numbers; values must be picklable."""
    group = _group()
    if not group:
        return [value]
    values: list[Any] = [None] * count()
    group.all_gather_object(values, value)
    return values


def share(items: Sequence[T]) -> Sequence[T]:
    """Every n-th item of n processes, beginning with the number of this one."""
    return items[rank() :: count()]


def gather_shares(own: Sequence[T]) -> list[T]:
    """The results of all shares, in the order of the items that were shared out."""
    parts = gather(list(own))
    result: list[Any] = [None] * sum(map(len, parts))
    for number, part in enumerate(parts):
        result[number :: len(parts)] = part
    return result


@contextmanager
def joined() -> Iterator[None]:
    """A group of the processes that ``torchrun`` started, if any; each has a GPU of its own if there are GPUs."""
    if started() == 1 or _group():
        yield
        return
    import torch
    from torch.distributed.rendezvous import rendezvous

    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    store, number, size = next(rendezvous("env://"))
    backend = "nccl" if cuda else "gloo"
    torch.distributed.init_process_group(backend, store=store, rank=number, world_size=size, timeout=PATIENCE)
    try:
        yield
        with suppress(RuntimeError):  # another that failed tells why itself
            wait()
            _take_leave(store)
    finally:
        torch.distributed.destroy_process_group()


def _take_leave(store: Any) -> None:
    """Leave the group together: one that closes its connections while another is still in a barrier aborts it."""
    store.set(f"{LEAVING} {rank()}", "")
    store.wait([f"{LEAVING} {number}" for number in range(count())], LEAVE)


def check_device(name: str) -> None:
    """Check that torch knows a device by its name, whether it is there or not.

    Raises:
        InputError: when it does not.
    """
    import torch

    try:
        torch.device(name if isinstance(name, torch.device) else str(name))
    except RuntimeError:
        raise InputError(f"unknown device {name!r}; give cpu, cuda or cuda:1") from None


def check_available(name: str) -> None:
    """Check that a device is there.

    Raises:
        InputError: when it is not, or torch does not know its name.
    """
    import torch

    check_device(name)
    device = torch.device(name if isinstance(name, torch.device) else str(name))
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device is {str(name)!r}, and torch finds no such GPU; give cpu", value=str(name))


def default_device() -> str:
    """``"cuda"`` if there is a GPU, else ``"cpu"``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"

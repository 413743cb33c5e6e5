"""Interface of a compiled graph, as used by the chain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ..device_memory import Stream


class Binding(Protocol):
    """An engine bound to one batch size and fixed tensor addresses."""

    def enqueue(self, stream: Stream) -> None:
        """Launch one run on a stream. Raises ModelError."""

    def free(self) -> None:
        """Free it. Idempotent."""


class Engine(Protocol):
    """One graph compiled for some batch sizes. Batch sizes count rows: images x draws for the leak encoder."""

    types: Mapping[str, str]  # tensor name to "float32" or "float16"
    batches: tuple[int, ...]

    def workspace(self, batch: int) -> int:
        """Return the scratch bytes on the device that a run needs; 0 if the engine allocates its own."""

    def bind(self, batch: int, addresses: Mapping[str, int], workspace: int, *, stream: Stream) -> Binding:
        """Bind it to a batch size. `workspace`: address of `self.workspace(batch)` bytes that no concurrent run uses.

        Raises ModelError, BackendError.
        """

    def free(self) -> None:
        """Free the engine. Free its bindings first. Idempotent."""

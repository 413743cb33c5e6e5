"""What the chain needs of a compiled graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ..device_memory import Stream


class Binding(Protocol):
    """An engine set up for one batch size on fixed addresses."""

    def enqueue(self, stream: Stream) -> None:
        """Run it once on a stream. Raises ModelError."""

    def free(self) -> None:
        """Give it back; a second time is nothing."""


class Engine(Protocol):
    """One graph, compiled for some batch sizes. Batches here count samples: images x draws for the leak encoder."""

    types: Mapping[str, str]  # tensor name to "float32" or "float16"
    batches: tuple[int, ...]

    def workspace(self, batch: int) -> int:
        """Bytes of device memory that running it needs beside its tensors; 0 where it looks after itself."""

    def bind(self, batch: int, addresses: Mapping[str, int], workspace: int, *, stream: Stream) -> Binding:
        """Set it up. `workspace` is the address of that much memory; nothing else may use it at the same time.

        Raises ModelError, BackendError.
        """

    def free(self) -> None:
        """Give it back, after its bindings; a second time is nothing."""

"""Checkpoints as safetensors: tensors plus one JSON object, without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..core.errors import CheckpointError, one_line
from ..core.files import atomic_write

_STATE = "state"


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors with a JSON state."""

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]  # JSON

    def write(self, path: Path) -> None:
        """Write the file atomically. Raises StorageError."""
        tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in self.tensors.items()}
        atomic_write(path, save(tensors, metadata={_STATE: json.dumps(self.state)}))

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Read a checkpoint. Raises CheckpointError naming the file."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            state = json.loads(metadata[_STATE])
        except FileNotFoundError as error:
            raise CheckpointError(f"{path} is missing; run the training again with the same command") from error
        except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
            reason = one_line(error)
            raise CheckpointError(f"{path} can't be read ({reason}); train again with --restart") from error
        if not isinstance(state, dict):
            raise CheckpointError(f"{path} holds no training state; train again with --restart")
        return cls(tensors, state)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors under `prefix.`, without the prefix."""
        return {k.removeprefix(f"{prefix}."): v for k, v in self.tensors.items() if k.startswith(f"{prefix}.")}


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with `prefix.` before their names."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}

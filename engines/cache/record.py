"""The JSON file of an engine: its key, its SHA-256, how it was built, and its layers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from ...core.errors import EngineError
from ...core.files import sha256_bytes
from ..library.layers import FusedLayer
from ..library.network import NetworkLayer
from .key import EngineKey, read_fields

RECORD_FORMAT = 2
RECORD_LIMIT = 16 << 20  # bytes of the JSON file
ENGINE_LIMIT = 16 << 30  # bytes of the engine


@dataclass(frozen=True)
class OutputParity:
    """The error of one output of the derived ONNX against the bundle's, in ONNX Runtime on the golden image."""

    output: str
    error: float  # RMS difference divided by the standard deviation of the bundle's output
    limit: float


@dataclass(frozen=True, kw_only=True)
class EngineRecord:
    """The metadata of an engine, in a cache or an engine folder."""

    key: EngineKey
    sha256: str  # of the engine's bytes
    size: int  # bytes
    created: str  # UTC, ISO 8601
    seconds: float  # duration of the build
    leakrt: str  # version of LeakRT that built it
    bundle: str  # identity of the source bundle
    memory: dict[str, int]  # bytes as reported by the builder: "activations", "weights"
    layers: tuple[NetworkLayer, ...]  # as parsed, before fusion
    compiled: tuple[FusedLayer, ...]  # as logged by the builder, for every profile; empty if it logs none
    warnings: tuple[str, ...]
    parity: tuple[OutputParity, ...]  # empty: not checked, or built from the bundle's own ONNX
    refused: tuple[str, ...] = ()  # why the acceptance test refused the variant, if it was kept all the same

    @property
    def file(self) -> str:
        """File name of the engine."""
        return f"{self.key.graph}.{self.key.precision}.engine"

    @property
    def json_file(self) -> str:
        """File name of this record."""
        return f"{self.key.graph}.{self.key.precision}.json"

    def check(self, data: bytes) -> None:
        """Raise EngineError if `data` is not the engine that this record describes."""
        if len(data) != self.size or sha256_bytes(data) != self.sha256:
            raise EngineError(f"{self.file} is truncated or changed (SHA-256 differs)")

    def to_bytes(self) -> bytes:
        """Return the content of the JSON file."""
        body = {"format": RECORD_FORMAT, **asdict(self), "key": self.key.to_json()}
        if not self.refused:  # as in records of versions that knew no refused variants
            del body["refused"]
        return json.dumps(body, indent=1, sort_keys=True, allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> EngineRecord:
        """Parse the result of `to_bytes`. Raises EngineError naming `where`."""
        if len(data) > RECORD_LIMIT:
            raise EngineError(f"{where}: too large for the JSON file of an engine (over {RECORD_LIMIT >> 20} MiB)")
        try:
            body = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise EngineError(f"{where}: not JSON ({error})") from error
        if not isinstance(body, dict) or body.pop("format", None) != RECORD_FORMAT:
            raise EngineError(f"{where}: not the JSON file of an engine in format {RECORD_FORMAT}; rebuild the engine")
        values: dict[str, Any] = read_fields(cls, {"refused": [], **body}, where)
        try:
            values["key"] = EngineKey.from_json(values["key"])
        except EngineError as error:
            raise EngineError(f"{where}: {error}") from error
        values["layers"] = tuple(NetworkLayer(**read_fields(NetworkLayer, x, where)) for x in values["layers"])
        values["compiled"] = tuple(FusedLayer(**read_fields(FusedLayer, x, where)) for x in values["compiled"])
        values["parity"] = tuple(OutputParity(**read_fields(OutputParity, x, where)) for x in values["parity"])
        memory = values["memory"]
        if not isinstance(memory, dict) or not all(type(v) is int for v in memory.values()):
            raise EngineError(f"{where}: memory is not a mapping to integers")
        return cls(**values)

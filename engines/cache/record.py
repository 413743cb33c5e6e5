"""The JSON beside an engine: its key, its hash, how it was built and what is known of its inside."""

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
RECORD_LIMIT = 16 << 20  # bytes of the JSON
ENGINE_LIMIT = 16 << 30  # bytes of the engine


@dataclass(frozen=True)
class OutputParity:
    """How far one output of the derived ONNX lies from the bundle's, on ONNX Runtime, on the golden image."""

    output: str
    error: float  # root mean square difference over the spread of the bundle's
    limit: float


@dataclass(frozen=True, kw_only=True)
class EngineRecord:
    """One engine in a cache, or on its way to one."""

    key: EngineKey
    sha256: str  # of the engine's bytes
    size: int  # bytes
    created: str  # UTC, ISO 8601
    seconds: float  # that the build took
    leakrt: str  # version that built it
    bundle: str  # identity of the bundle it was built from
    memory: dict[str, int]  # bytes the builder stated: "activations", "weights"
    layers: tuple[NetworkLayer, ...]  # as parsed, before fusion
    compiled: tuple[FusedLayer, ...]  # as the builder logged them, each profile's; empty where it logs none
    warnings: tuple[str, ...]
    parity: tuple[OutputParity, ...]  # empty: the builder got the bundle's own ONNX

    @property
    def file(self) -> str:
        """File name of the engine; its JSON has the same stem."""
        return f"{self.key.graph}.{self.key.precision}.engine"

    @property
    def json_file(self) -> str:
        """File name of this record."""
        return f"{self.key.graph}.{self.key.precision}.json"

    def check(self, data: bytes) -> None:
        """Raises EngineError unless `data` are the bytes this record describes."""
        if len(data) != self.size or sha256_bytes(data) != self.sha256:
            raise EngineError(f"{self.file} was cut short, changed or damaged (SHA-256 differs)")

    def to_bytes(self) -> bytes:
        """The JSON file."""
        body = {"format": RECORD_FORMAT, **asdict(self), "key": self.key.to_json()}
        return json.dumps(body, indent=1, sort_keys=True, allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> EngineRecord:
        """Read what `to_bytes` wrote. Raises EngineError naming `where`."""
        if len(data) > RECORD_LIMIT:
            raise EngineError(f"{where} is too large for an engine's JSON")
        try:
            body = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise EngineError(f"{where} is not JSON ({error})") from error
        if not isinstance(body, dict) or body.pop("format", None) != RECORD_FORMAT:
            raise EngineError(
                f"{where} is not an engine's JSON of format {RECORD_FORMAT}; build it with this version of LeakRT"
            )
        values: dict[str, Any] = read_fields(cls, body, where)
        try:
            values["key"] = EngineKey.from_json(values["key"])
        except EngineError as error:
            raise EngineError(f"{where}: {error}") from error
        values["layers"] = tuple(NetworkLayer(**read_fields(NetworkLayer, x, where)) for x in values["layers"])
        values["compiled"] = tuple(FusedLayer(**read_fields(FusedLayer, x, where)) for x in values["compiled"])
        values["parity"] = tuple(OutputParity(**read_fields(OutputParity, x, where)) for x in values["parity"])
        memory = values["memory"]
        if not isinstance(memory, dict) or not all(type(v) is int for v in memory.values()):
            raise EngineError(f"{where}: memory is not a number of bytes for each kind")
        return cls(**values)

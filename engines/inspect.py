"""What is in an engine, for `leakrt inspect`: what its JSON says everywhere, the inspector's view where it can run."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..core.errors import EngineError, LeakRTError
from ..core.files import read_bounded
from .cache.cache import EngineCache
from .cache.index import read_index
from .cache.key import device_misfit
from .cache.record import ENGINE_LIMIT, RECORD_LIMIT, EngineRecord
from .library.device import list_devices, use_device
from .library.flavour import Flavour
from .library.installed import load_flavour
from .library.layers import FusedLayer, InspectedEngine, count_precisions, parse_inspection
from .library.logger import Messages, explain, listening
from .library.names import EngineInspector, ICudaEngine

_PARSED = {"HALF": "float16", "FLOAT": "float32", "BF16": "bfloat16", "FP8": "float8"}  # a network's own words


@dataclass(frozen=True, kw_only=True)
class EngineReport:
    """An engine in numbers and names.

    `layers` are the opened engine's own, or, where it is closed, those that its builder logged.
    """

    path: str
    record: EngineRecord
    layers: tuple[FusedLayer, ...]  # of every profile; empty where neither the engine nor its builder tells them
    tensors: tuple[str, ...]  # inputs and outputs
    context_memory: int  # bytes of device memory an execution context needs; 0 where the engine can't be opened
    closed: str  # why it can't be opened here; empty when it was

    @property
    def fused(self) -> tuple[FusedLayer, ...]:
        """Layers made of several ONNX nodes."""
        return tuple(layer for layer in self.layers if len(layer.nodes) > 1)

    @property
    def precisions(self) -> dict[str, int]:
        """Layers of each precision, the most frequent first: as compiled where that is known, else as parsed."""
        if self.layers:
            return count_precisions(self.layers)
        counts: dict[str, int] = {}
        for layer in self.record.layers:
            name = _PARSED.get(layer.dtype, layer.dtype.lower())
            counts[name] = counts.get(name, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    def to_json(self) -> dict[str, Any]:
        """A JSON object. The record's own list of compiled layers is left out: `layers` has them."""
        body = {**asdict(self), "precisions": self.precisions}
        del body["record"]["compiled"]
        return body


def is_engine(path: Path) -> bool:
    """Whether `leakrt inspect` should read a path as an engine."""
    return path.suffix == ".engine"


def inspect_engine(path: Path, cache: EngineCache) -> EngineReport:
    """Read an engine's JSON, and open the engine itself when the cache vouches for it and this machine can run it.

    Raises EngineError: no such engine, no JSON beside it, or its bytes are not those the JSON names.
    """
    record = _read_record(path)
    try:
        data = read_bounded(path, ENGINE_LIMIT)
    except OSError as error:
        raise EngineError(
            f"{path} can't be read ({error.strerror}); `leakrt engines list` shows what there is"
        ) from error
    try:
        record.check(data)
    except EngineError as error:
        raise EngineError(f"{path}: {error}; build it again, or copy it again from where it was built") from error
    try:
        closed = _closed(path, record, cache)
        if closed:
            return _unopened(path, record, closed)
        flavour = load_flavour(record.key.flavour)
        inspected, memory = _open(flavour, data, _device_of(record))
    except EngineError as error:
        return _unopened(path, record, str(error))
    return EngineReport(
        path=str(path),
        record=record,
        layers=inspected.layers,
        tensors=inspected.tensors,
        context_memory=memory,
        closed="",
    )


def _unopened(path: Path, record: EngineRecord, closed: str) -> EngineReport:
    """What the JSON beside an engine tells: the layers its builder logged, and the memory it stated."""
    return EngineReport(
        path=str(path),
        record=record,
        layers=record.compiled,
        tensors=record.key.tensors,
        context_memory=0,
        closed=closed,
    )


def _read_record(path: Path) -> EngineRecord:
    described = path.with_suffix(".json")
    try:
        raw = read_bounded(described, RECORD_LIMIT)
    except OSError as error:
        raise EngineError(
            f"{path} has no {described.name} beside it to read ({error.strerror}); LeakRT reads engines that it built"
        ) from error
    return EngineRecord.from_bytes(raw, str(described))


def _closed(path: Path, record: EngineRecord, cache: EngineCache) -> str:
    """Why the engine is not opened; empty when it may be."""
    entry = read_index(cache.root).engines.get(record.key.digest)
    if entry is None or entry.sha256 != record.sha256:
        return (
            f"it is not in the cache, and engines are machine code: leakrt engines add {shlex.quote(str(path.parent))}"
        )
    try:
        flavour = load_flavour(record.key.flavour)
    except LeakRTError as error:
        return str(error)
    if flavour.version != record.key.version:
        return f"it was built with {record.key.flavour} {record.key.version}, and {flavour.version} is installed"
    if not list_devices():
        return "no NVIDIA GPU here; a machine with one opens the engine itself"
    if _device_of(record) < 0:
        return device_misfit(record.key, list_devices()[0])
    return ""


def _device_of(record: EngineRecord) -> int:
    """Number of the first GPU here that can run it; -1: none."""
    devices = list_devices()
    return next((i for i, device in enumerate(devices) if not device_misfit(record.key, device)), -1)


def open_engine(flavour: Flavour, data: bytes) -> ICudaEngine:
    """An engine on the current GPU. Only give it bytes that the cache has verified. Raises EngineError."""
    messages = Messages()
    with listening(messages):
        engine: ICudaEngine = flavour.deserialize(data)
    if engine is None:
        raise EngineError(f"{flavour} refuses the engine: {explain(messages.errors)}")
    return engine


def _open(flavour: Flavour, data: bytes, device: int) -> tuple[InspectedEngine, int]:
    with use_device(device):
        engine: ICudaEngine = open_engine(flavour, data)
        inspector: EngineInspector = engine.create_engine_inspector()
        text = inspector.get_engine_information(flavour.trt.LayerInformationFormat.JSON)
        return parse_inspection(text), flavour.device_memory(engine)

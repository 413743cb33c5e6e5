"""Describe an engine for `leakrt inspect`, from its JSON file and, if it can run here, from the engine inspector."""

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

_PARSED = {"HALF": "float16", "FLOAT": "float32", "BF16": "bfloat16", "FP8": "float8"}  # TensorRT's dtype names


@dataclass(frozen=True, kw_only=True)
class EngineReport:
    """The contents of an engine.

    `layers` come from the engine inspector, or from the build log if the engine could not be opened.
    """

    path: str
    record: EngineRecord
    layers: tuple[FusedLayer, ...]  # of every profile; empty if neither source lists them
    tensors: tuple[str, ...]  # inputs and outputs
    context_memory: int  # bytes of device memory per execution context; 0 if not opened
    closed: str  # why the engine was not opened; empty if it was

    @property
    def fused(self) -> tuple[FusedLayer, ...]:
        """Layers that combine several ONNX nodes."""
        return tuple(layer for layer in self.layers if len(layer.nodes) > 1)

    @property
    def precisions(self) -> dict[str, int]:
        """Number of layers per precision, most frequent first: compiled layers if known, else parsed ones."""
        if self.layers:
            return count_precisions(self.layers)
        counts: dict[str, int] = {}
        for layer in self.record.layers:
            name = _PARSED.get(layer.dtype, layer.dtype.lower())
            counts[name] = counts.get(name, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object, without `record.compiled`, which `layers` duplicates."""
        body = {**asdict(self), "precisions": self.precisions}
        del body["record"]["compiled"]
        return body


def is_engine(path: Path) -> bool:
    """Return whether `leakrt inspect` reads `path` as an engine."""
    return path.suffix == ".engine"


def inspect_engine(path: Path, cache: EngineCache) -> EngineReport:
    """Return a report on an engine, which is opened only if it is in the cache and can run on this machine.

    Raises EngineError: the engine or its JSON file is missing or damaged, or their SHA-256 differ.
    """
    record = _read_record(path)
    try:
        data = read_bounded(path, ENGINE_LIMIT)
    except OSError as error:
        raise EngineError(
            f"{path} can't be read ({error.strerror}); `leakrt engines list` shows the cached engines"
        ) from error
    try:
        record.check(data)
    except EngineError as error:
        raise EngineError(f"{path}: {error}; rebuild it, or copy it again from the build machine") from error
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
    """Return a report from the record alone."""
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
            f"{path}: its JSON file {described.name} can't be read ({error.strerror}); copy it from the build machine"
        ) from error
    return EngineRecord.from_bytes(raw, str(described))


def _closed(path: Path, record: EngineRecord, cache: EngineCache) -> str:
    """Return why the engine must not or can't be opened, or an empty string."""
    entry = read_index(cache.root).engines.get(record.key.digest)
    if entry is None or entry.sha256 != record.sha256:
        folder = shlex.quote(str(path.parent))
        return f"it is not in the cache, and engines are machine code; run: leakrt engines add {folder}"
    try:
        flavour = load_flavour(record.key.flavour)
    except LeakRTError as error:
        return str(error)
    if flavour.version != record.key.version:
        return f"it was built with {record.key.flavour} {record.key.version}, and {flavour.version} is installed"
    if not list_devices():
        return "no NVIDIA GPU here; inspect it on a machine with a GPU to see more"
    if _device_of(record) < 0:
        return device_misfit(record.key, list_devices()[0])
    return ""


def _device_of(record: EngineRecord) -> int:
    """Return the index of the first GPU that can run the engine, or -1."""
    devices = list_devices()
    return next((i for i, device in enumerate(devices) if not device_misfit(record.key, device)), -1)


def open_engine(flavour: Flavour, data: bytes) -> ICudaEngine:
    """Deserialize an engine on the current GPU. Pass only bytes that the cache has verified. Raises EngineError."""
    messages = Messages()
    with listening(messages):
        engine: ICudaEngine = flavour.deserialize(data)
    if engine is None:
        raise EngineError(f"{flavour} can't load the engine: {explain(messages.errors)}")
    return engine


def _open(flavour: Flavour, data: bytes, device: int) -> tuple[InspectedEngine, int]:
    with use_device(device):
        engine: ICudaEngine = open_engine(flavour, data)
        inspector: EngineInspector = engine.create_engine_inspector()
        text = inspector.get_engine_information(flavour.trt.LayerInformationFormat.JSON)
        return parse_inspection(text), flavour.device_memory(engine)

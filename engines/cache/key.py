"""The full key of an engine: every input that changes the build. Its hash is the folder name in the cache."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ...core.bundle import PRECISIONS
from ...core.errors import EngineError
from ...core.files import sha256_bytes
from ..library.device import NO_DEVICE, TargetDevice
from ..library.flavour import FLAVOURS, version_numbers
from ..library.rtx import PORTABLE

KEY_FORMAT = 1
GRAPHS = ("vae_encoder", "leak_encoder")
ENGINE_STEM = rf"(?:{'|'.join(GRAPHS)})\.(?:{'|'.join(PRECISIONS)})"  # stem of an engine and of its JSON file
ENGINE_FILE = re.compile(rf"{ENGINE_STEM}\.engine")
_DIGITS = 32  # hex digits of the SHA-256
_PORTABLE_FROM = (8, 0)  # lowest capability that the default target of TensorRT-RTX supports


@dataclass(frozen=True, kw_only=True)
class EngineKey:
    """The graph, the library, the options and the target of an engine."""

    graph: str  # "vae_encoder" or "leak_encoder"
    precision: str
    source: str  # SHA-256 of the bundle's ONNX
    onnx: str  # SHA-256 of the derived ONNX that the builder parsed
    tensors: tuple[str, ...]  # input, then outputs, such as "float16 image [B, 3, 256, 256]"
    batches: tuple[int, ...]  # samples of this graph, one profile each
    flavour: str
    version: str  # of the TensorRT library
    flags: tuple[str, ...]
    level: int
    workspace: int  # MiB; 0: no limit
    dla_core: int  # -1: none
    device: TargetDevice  # NO_DEVICE if built for compute capabilities
    targets: tuple[str, ...]  # compute capabilities; empty if built for one device
    recipe: int  # version of the graph derivation (derive.RECIPE)

    def __post_init__(self) -> None:
        """Check the fields that become file names, select imports or size buffers. Raises EngineError."""
        if self.graph not in GRAPHS or self.precision not in PRECISIONS or self.flavour not in FLAVOURS:
            raise EngineError(
                f"engine key: unknown graph, precision or flavour: {self.graph!r}, {self.precision!r}, {self.flavour!r}"
            )
        if not self.batches or min(self.batches) < 1:
            raise EngineError("engine key: needs at least one batch size, and none below 1")

    @property
    def digest(self) -> str:
        """The folder name of the engine: 32 hex digits of the SHA-256 of the key."""
        return sha256_bytes(canonical({"format": KEY_FORMAT, **self.to_json()}))[:_DIGITS]

    @property
    def place(self) -> str:
        """A readable description of the target: the name of a GPU, or compute capabilities."""
        if self.targets == (PORTABLE,):
            return "8.0, 8.6, 8.9, 12.0 and later"
        return self.device.name or ", ".join(self.targets)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with one entry per field."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, data: object) -> EngineKey:
        """Parse the result of `to_json`. Raises EngineError for missing, unknown or mistyped fields."""
        values = read_fields(cls, data, "engine key")
        values["device"] = TargetDevice(**read_fields(TargetDevice, values["device"], "engine key: device"))
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class EngineQuery:
    """A query for an engine of one graph that a library version can run on a device."""

    graph: str
    precision: str
    source: str  # SHA-256 of the bundle's ONNX
    flavour: str
    version: str
    device: TargetDevice
    batches: tuple[int, ...]  # samples of this graph; the engine must have a profile for each
    recipe: int


def misfit(key: EngineKey, wanted: EngineQuery) -> str:
    """Return why an engine doesn't match a query, or an empty string if it does."""
    if (key.graph, key.precision, key.source) != (wanted.graph, wanted.precision, wanted.source):
        return "it was built from another graph"
    if (key.flavour, key.version) != (wanted.flavour, wanted.version):
        return f"it was built with {key.flavour} {key.version}, and {wanted.flavour} {wanted.version} is installed"
    if key.recipe != wanted.recipe:
        return "it was built by another version of LeakRT"
    lacking = sorted(set(wanted.batches) - set(key.batches))
    if lacking:
        return f"it has no profile for batch {', '.join(map(str, lacking))}"
    return device_misfit(key, wanted.device)


def device_misfit(key: EngineKey, device: TargetDevice) -> str:
    """Return why an engine can't run on a device, or an empty string if it can or `device` is NO_DEVICE."""
    if device == NO_DEVICE:
        return ""
    if key.targets == (PORTABLE,):
        fits = version_numbers(device.capability) >= _PORTABLE_FROM
        return "" if fits else f"it is for compute capability 8.0 and later, and {device.name} has {device.capability}"
    if key.targets:
        fits = device.capability in key.targets
        listed = ", ".join(key.targets)
        return "" if fits else f"it is for compute capability {listed}, and {device.name} has {device.capability}"
    if key.device != device:
        return f"it was built on {_place(key.device)}, and this is {_place(device)}"
    return ""


def canonical(data: Mapping[str, Any]) -> bytes:
    """Return canonical JSON: sorted keys, no spaces, ASCII. Raises ValueError for NaN and infinity."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def read_fields(kind: type, data: object, where: str) -> dict[str, Any]:
    """Read the fields of a dataclass from a JSON object, with lists as tuples.

    Raises EngineError naming `where` for missing, unknown or mistyped fields.
    """
    expected = {f.name: str(f.type) for f in fields(kind)}
    if not isinstance(data, dict) or data.keys() != expected.keys():
        raise EngineError(f"{where}: needs exactly the fields {', '.join(expected)}")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    for name, value in values.items():
        if not _fits(value, expected[name]):
            raise EngineError(f"{where}: {name} is not of type {expected[name]}")
    return values


def _fits(value: object, annotation: str) -> bool:
    if annotation in ("int", "float", "bool", "str"):
        kinds: dict[str, type | tuple[type, ...]] = {"int": int, "float": (int, float), "bool": bool, "str": str}
        named = isinstance(value, kinds[annotation]) and (annotation == "bool") == isinstance(value, bool)
        return named and (not isinstance(value, float) or math.isfinite(value))  # `canonical` writes no NaN or infinity
    if annotation.startswith("tuple["):
        inner = annotation[len("tuple[") :].split(",")[0]
        return isinstance(value, tuple) and all(_fits(item, inner) for item in value)
    return True  # nested classes are checked by their own parsers


def _place(device: TargetDevice) -> str:
    return (
        f"{device.name} ({device.capability}, {device.multiprocessors} multiprocessors, driver {device.driver})"
        if device != NO_DEVICE
        else "no device"
    )

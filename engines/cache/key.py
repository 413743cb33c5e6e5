"""The full key of an engine: everything that would make another one. Its hash names the folder in the cache."""

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
ENGINE_STEM = rf"(?:{'|'.join(GRAPHS)})\.(?:{'|'.join(PRECISIONS)})"  # of the file of an engine and its JSON
ENGINE_FILE = re.compile(rf"{ENGINE_STEM}\.engine")
_DIGITS = 32  # of SHA-256, in hex
_PORTABLE_FROM = (8, 0)  # an RTX engine built for nothing named runs from here on


@dataclass(frozen=True, kw_only=True)
class EngineKey:
    """What an engine was built from, with, and for."""

    graph: str  # "vae_encoder" or "leak_encoder"
    precision: str
    source: str  # SHA-256 of the bundle's ONNX
    onnx: str  # SHA-256 of what the builder got, derived from it
    tensors: tuple[str, ...]  # input, then outputs: "image float16 [B, 3, 256, 256]"
    batches: tuple[int, ...]  # of this graph, one profile each
    flavour: str
    version: str  # of the TensorRT library
    flags: tuple[str, ...]
    level: int
    workspace: int  # MiB; 0: all there is
    dla_core: int  # -1: none
    device: TargetDevice  # empty where the engine is for a list of compute capabilities
    targets: tuple[str, ...]  # that list; empty where it is for one device
    recipe: int  # of what is derived from the bundle's ONNX

    def __post_init__(self) -> None:
        """What becomes a file name, decides what is imported, or sizes buffers. Raises EngineError."""
        if self.graph not in GRAPHS or self.precision not in PRECISIONS or self.flavour not in FLAVOURS:
            raise EngineError(f"engine key: {self.graph!r}, {self.precision!r}, {self.flavour!r} name no engine")
        if not self.batches or min(self.batches) < 1:
            raise EngineError("engine key: batches from 1 on are needed, and at least one")

    @property
    def digest(self) -> str:
        """Hex digits that name the engine's folder."""
        return sha256_bytes(canonical({"format": KEY_FORMAT, **self.to_json()}))[:_DIGITS]

    @property
    def place(self) -> str:
        """What it is for, for people: a GPU's name, or compute capabilities."""
        if self.targets == (PORTABLE,):
            return "8.0, 8.6, 8.9, 12.0 and later"
        return self.device.name or ", ".join(self.targets)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with one entry a field."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, data: object) -> EngineKey:
        """Read what `to_json` wrote. Raises EngineError for missing, unknown or mistyped fields."""
        values = read_fields(cls, data, "engine key")
        values["device"] = TargetDevice(**read_fields(TargetDevice, values["device"], "engine key: device"))
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class EngineQuery:
    """What a runtime looks for: any engine of this graph that this library can run on this device."""

    graph: str
    precision: str
    source: str  # SHA-256 of the bundle's ONNX
    flavour: str
    version: str
    device: TargetDevice
    batches: tuple[int, ...]  # of this graph; every one must have its profile
    recipe: int


def misfit(key: EngineKey, wanted: EngineQuery) -> str:
    """Why an engine is not what is wanted, in a few words; empty when it is. Nearest misses are told most exactly."""
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
    """Why an engine can't run on a device; empty when it can, or when there is no device to ask about."""
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
    """JSON with one spelling: sorted keys, no spaces, ASCII."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def read_fields(kind: type, data: object, where: str) -> dict[str, Any]:
    """The fields of a dataclass from a JSON object, lists as tuples. Raises EngineError for any that is off."""
    expected = {f.name: str(f.type) for f in fields(kind)}
    if not isinstance(data, dict) or data.keys() != expected.keys():
        raise EngineError(f"{where}: the fields {', '.join(expected)} are needed, no others")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    for name, value in values.items():
        if not _fits(value, expected[name]):
            raise EngineError(f"{where}: {name} is not of type {expected[name]}")
    return values


def _fits(value: object, annotation: str) -> bool:
    if annotation in ("int", "float", "bool", "str"):
        kinds: dict[str, type | tuple[type, ...]] = {"int": int, "float": (int, float), "bool": bool, "str": str}
        named = isinstance(value, kinds[annotation]) and (annotation == "bool") == isinstance(value, bool)
        return named and (not isinstance(value, float) or math.isfinite(value))  # JSON as we write it has no other
    if annotation.startswith("tuple["):
        inner = annotation[len("tuple[") :].split(",")[0]
        return isinstance(value, tuple) and all(_fits(item, inner) for item in value)
    return True  # nested classes check themselves


def _place(device: TargetDevice) -> str:
    return (
        f"{device.name} ({device.capability}, {device.multiprocessors} multiprocessors, driver {device.driver})"
        if device != NO_DEVICE
        else "no device"
    )

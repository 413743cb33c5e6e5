"""Parse the layers of an engine from the inspector's JSON (two formats: 8.5 to 10, and 11) or from the build log.

The inspector needs an open engine, so a machine without the engine's GPU can only use the build log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...core.errors import EngineError

_ONNX_LAYER = re.compile(r"\[ONNX Layer: (.*?)\](?=[\s\x1e\x1f,\[]|$)")
_LOGGED = re.compile(  # one layer of the build log, in the inspector's ONELINE format
    r"Name: (?P<Name>.*?), LayerType: (?P<LayerType>[^,]*), Inputs: \[(?P<Inputs>.*?\}|)\](?:, Constants: \[.*?\])?, "
    r"Outputs: \[(?P<Outputs>.*?\}|)\](?:, TacticName: (?P<TacticName>[^,]*))?(?:, .*?Metadata: (?P<Metadata>.*))?$"
)
_LOGGED_TENSOR = re.compile(r"\{ Name: .*?, Dimensions: \[(?P<Dimensions>[-\d,]*)\].*?Datatype: (?P<Datatype>[^,}]*)")
_FOREIGN = re.compile(r"\{ForeignNode\[(.*)\]\}")
_TYPES = (
    ("bfloat16", r"\bBF16\b|BFloat16"),
    ("float16", r"\bFP16\b|\bHalf\b|Float16"),
    ("float32", r"\bFP32\b|\bFloat\b|Float32"),
    ("float8", r"\bFP8\b|Float8"),
    ("int8", r"\bInt8\b"),
    ("int4", r"\bInt4\b"),
    ("int32", r"\bInt32\b"),
    ("int64", r"\bInt64\b"),
    ("bool", r"\bBool\b"),
)


@dataclass(frozen=True, kw_only=True)
class FusedLayer:
    """One layer of an engine, built from one or several ONNX nodes."""

    name: str
    kind: str  # layer type; empty if the engine stores only names
    inputs: tuple[str, ...]  # dtype and shape: "float16 [1, 3, 256, 256]"
    outputs: tuple[str, ...]
    precision: str  # narrowest dtype of the inputs and outputs; empty if unknown
    nodes: tuple[str, ...]  # names of the ONNX nodes
    tactic: str


@dataclass(frozen=True)
class InspectedEngine:
    """The layers and the tensors that an inspector lists."""

    layers: tuple[FusedLayer, ...]
    tensors: tuple[str, ...]  # names of inputs and outputs


def parse_inspection(text: str) -> InspectedEngine:
    """Parse the JSON of `EngineInspector.get_engine_information`. Raises EngineError for an unknown format.

    8.5 to 10 have `Layers` and `Bindings`, a list of names, with dtypes such as "Row major linear FP16 format".
    11 has `Layers` and `I/O Tensors`, a list of objects, with separate dtypes and formats. A layer is an object,
    or only a name if the engine was built without details.
    """
    try:
        data = json.loads(text)
        layers = tuple(_layer(item) for item in data["Layers"])
        named = data["I/O Tensors"] if "I/O Tensors" in data else data.get("Bindings", [])
        tensors = tuple(str(item["Name"]) if isinstance(item, Mapping) else str(item) for item in named)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"can't parse the output of the engine inspector: {error}") from error
    return InspectedEngine(layers, tuple(dict.fromkeys(tensors)))


def parse_build_log(text: str) -> tuple[FusedLayer, ...]:
    """Parse the layers from the verbose message "Layers: ..." of a builder.

    Every profile has its own layers. Returns an empty tuple for another format, such as that of 8.5.
    """
    lines = text.split("\n")  # not splitlines, which would also split at the record separators in the metadata
    found = (_LOGGED.match(line.strip(" \r")) for line in lines)
    return tuple(_layer(_logged(match)) for match in found if match)


def _logged(match: re.Match[str]) -> dict[str, Any]:
    """Convert a line of the build log to a layer in the JSON format of 11."""
    item: dict[str, Any] = match.groupdict()
    for side in ("Inputs", "Outputs"):
        item[side] = [
            {"Datatype": t["Datatype"], "Dimensions": [int(n) for n in t["Dimensions"].split(",") if n]}
            for t in _LOGGED_TENSOR.finditer(item[side])
        ]
    return item


def count_precisions(layers: tuple[FusedLayer, ...]) -> dict[str, int]:
    """Return the number of layers per known precision, most frequent first."""
    counts: dict[str, int] = {}
    for layer in layers:
        if layer.precision:
            counts[layer.precision] = counts.get(layer.precision, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _layer(item: Mapping[str, Any] | str) -> FusedLayer:
    if isinstance(item, str):
        return FusedLayer(name=item, kind="", inputs=(), outputs=(), precision="", nodes=_split(item), tactic="")
    inputs, outputs = (tuple(_tensor(t) for t in item.get(side) or ()) for side in ("Inputs", "Outputs"))
    name = str(item.get("Name", ""))
    nodes = tuple(_ONNX_LAYER.findall(str(item.get("Metadata") or ""))) or _split(name)
    types = [text.split(" ", 1)[0] for text in (*inputs, *outputs)]
    tactic = item.get("TacticName") or item.get("TacticValue") or ""
    return FusedLayer(
        name=name,
        kind=str(item.get("LayerType", "")),
        inputs=inputs,
        outputs=outputs,
        precision=_narrowest(types),
        nodes=nodes,
        tactic=str(tactic),
    )


def _tensor(item: Mapping[str, Any]) -> str:
    words = item.get("Format/Datatype") or " ".join(
        str(item[key]) for key in ("Datatype", "DataType", "Format") if item.get(key)
    )
    return f"{_type(str(words))} {list(item.get('Dimensions') or [])}"


def _type(words: str) -> str:
    return next((name for name, pattern in _TYPES if re.search(pattern, words)), "unknown")


def _narrowest(types: list[str]) -> str:
    for name in ("int4", "float8", "int8", "float16", "bfloat16", "float32"):
        if name in types:
            return name
    return ""


def _split(name: str) -> tuple[str, ...]:
    """Split the name of a fused layer into node names: "a + b", "PWN(a, b)", "{ForeignNode[a...b]}"."""
    foreign = _FOREIGN.search(name)
    if foreign:
        return tuple(foreign.group(1).split("..."))
    inner = re.fullmatch(r"(?:PWN|Reformat\w*)\((.*)\)", name)
    parts = re.split(r" \+ |, ", inner.group(1) if inner else name)
    return tuple(part.strip() for part in parts if part.strip())

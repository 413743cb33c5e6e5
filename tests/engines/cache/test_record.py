"""The JSON file of an engine, which may come from another machine."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from engine_records import record_of

from leakrt.core.errors import EngineError
from leakrt.engines.cache.record import RECORD_LIMIT, EngineRecord
from leakrt.engines.library.layers import FusedLayer
from leakrt.engines.library.network import NetworkLayer

FULL = replace(
    record_of(b"engine"),
    memory={"activations": 5, "weights": 7},
    layers=(NetworkLayer("conv1", "CONVOLUTION", "HALF"),),
    compiled=(
        FusedLayer(
            name="a",
            kind="kgen",
            inputs=("float16 [1, 3]",),
            outputs=("int8 [1, 4]",),
            precision="int8",
            nodes=("conv1", "relu1"),
            tactic="tactic",
        ),
    ),
)


def test_what_is_written_is_read_back():
    assert EngineRecord.from_bytes(FULL.to_bytes(), "x.json") == FULL


def test_its_files_are_named_after_graph_and_precision():
    assert (FULL.file, FULL.json_file) == ("vae_encoder.fp16.engine", "vae_encoder.fp16.json")


@pytest.mark.parametrize("data", [b"", b"engin", b"enginX", b"engine "])
def test_check_refuses_other_bytes(data):
    FULL.check(b"engine")
    with pytest.raises(EngineError, match=r"vae_encoder.fp16.engine is truncated or changed"):
        FULL.check(data)


def changed(**changes: object) -> bytes:
    return json.dumps({**json.loads(FULL.to_bytes()), **changes}).encode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not the JSON file of an engine in format 2"),
        (changed(format=1), "not the JSON file of an engine in format 2"),
        (changed(more=1), "needs exactly the fields"),
        (changed(size="6"), "size is not of type int"),
        (changed(seconds=None), "seconds is not of type float"),
        (changed(seconds=float("nan")), "seconds is not of type float"),
        (changed(parity=[{"output": "latent", "error": float("inf"), "limit": 0.0}]), "error is not of type float"),
        (changed(memory={"weights": 1.5}), "memory is not a mapping to integers"),
        (changed(memory=[]), "memory is not a mapping to integers"),
        (changed(warnings=[1]), "warnings is not of type"),
        (changed(layers=[{"name": "a"}]), "needs exactly the fields name, kind, dtype"),
        (changed(compiled=[{"name": "a"}]), "needs exactly the fields"),
        (changed(parity=[{"output": 1, "error": 0.0, "limit": 0.0}]), "output is not of type str"),
        (changed(key={}), "x.json: engine key: needs exactly the fields"),
        (b" " * (RECORD_LIMIT + 1), "too large for the JSON file"),
    ],
)
def test_an_invalid_record_is_refused_with_the_reason(data, words):
    with pytest.raises(EngineError, match=words) as caught:
        EngineRecord.from_bytes(data, "x.json")
    assert "\n" not in str(caught.value)


def test_why_a_variant_was_refused_is_kept_and_records_of_others_are_as_before():
    refused = replace(FULL, refused=("2 faces cross",))
    assert EngineRecord.from_bytes(refused.to_bytes(), "x.json") == refused
    assert "refused" not in json.loads(FULL.to_bytes())
    with pytest.raises(EngineError, match="refused is not of type"):
        EngineRecord.from_bytes(changed(refused="yes"), "x.json")

"""The full key of an engine, and which devices and queries an engine fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine_records import GPU, KEY

from leakrt.core.errors import EngineError
from leakrt.engines.build.derive import RECIPE
from leakrt.engines.cache.key import EngineKey, EngineQuery, canonical, device_misfit, misfit
from leakrt.engines.library.device import TargetDevice


@pytest.mark.parametrize("name", [f.name for f in KEY.__dataclass_fields__.values()])
def test_every_field_of_the_key_changes_the_folder(name):
    other = {
        "graph": "leak_encoder", "precision": "fp32", "flavour": "tensorrt-rtx", "level": 4, "workspace": 7,
        "dla_core": 0, "recipe": RECIPE + 1, "batches": (1,), "tensors": (), "flags": (), "targets": ("8.6",),
        "device": replace(GPU, driver="551"), "source": "c" * 64, "onnx": "c" * 64, "version": "10.3.1",
    }[name]  # fmt: skip
    assert replace(KEY, **{name: other}).digest != KEY.digest


def wanted(**changes: object) -> EngineQuery:
    base = EngineQuery(
        graph="vae_encoder",
        precision="fp16",
        source="a" * 64,
        flavour="tensorrt",
        version="10.3.0",
        device=GPU,
        batches=(1,),
        recipe=RECIPE,
    )
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"device": replace(GPU, name="NVIDIA B")}, "built on NVIDIA A"),
        ({"device": replace(GPU, driver="551")}, "driver 550.1"),
        ({"device": replace(GPU, multiprocessors=64)}, "128 multiprocessors"),
        ({"version": "11.4.0"}, "built with tensorrt 10.3.0, and tensorrt 11.4.0 is installed"),
        ({"source": "d" * 64}, "another graph"),
        ({"batches": (1, 16)}, "no profile for batch 16"),
        ({"recipe": RECIPE + 1}, "another version of LeakRT"),
    ],
)
def test_misfit_names_the_difference(changes, words):
    assert misfit(KEY, wanted()) == ""
    assert words in misfit(KEY, wanted(**changes))


@pytest.mark.parametrize(
    ("targets", "place"),
    [((), "NVIDIA A"), (("8.6", "12.0"), "8.6, 12.0"), (("default",), "8.0, 8.6, 8.9, 12.0 and later")],
)
def test_place_describes_the_target_of_an_engine(targets, place):
    assert replace(KEY, targets=targets, device=TargetDevice() if targets else GPU).place == place


@pytest.mark.parametrize(("capability", "fits"), [("7.5", False), ("8.0", True), ("8.7", True), ("12.1", True)])
def test_a_portable_engine_needs_capability_8_0_or_later(capability, fits):
    key = replace(KEY, device=TargetDevice(), targets=("default",))
    assert (misfit(key, wanted(device=replace(GPU, capability=capability))) == "") == fits


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("graph", "../x"),
        ("precision", "fp8"),
        ("flavour", "os"),
        ("batches", "14"),
        ("level", True),
        ("level", 1.5),
        ("batches", []),
        ("batches", [0]),
        ("batches", [4, -1]),
    ],
)
def test_a_parsed_key_with_an_invalid_field_is_refused(field, value):
    with pytest.raises(EngineError, match="engine key"):
        EngineKey.from_json({**KEY.to_json(), field: value})
    with pytest.raises(EngineError, match="needs exactly the fields"):
        EngineKey.from_json({**KEY.to_json(), "extra": 1})


def test_a_key_survives_a_json_round_trip():
    assert EngineKey.from_json(KEY.to_json()) == KEY
    assert EngineKey.from_json(KEY.to_json()).digest == KEY.digest


def test_the_digest_does_not_depend_on_the_order_of_fields():
    body = {name: KEY.to_json()[name] for name in reversed(list(KEY.to_json()))}
    assert EngineKey.from_json(body).digest == KEY.digest
    assert canonical({"b": 1, "a": [1, "\u00e9"]}) == b'{"a":[1,"\\u00e9"],"b":1}'


def test_an_engine_built_for_capabilities_runs_only_on_those():
    key = replace(KEY, device=TargetDevice(), targets=("8.6", "12.0"))
    assert device_misfit(key, replace(GPU, capability="12.0")) == ""
    assert "it is for compute capability 8.6, 12.0, and NVIDIA A has 8.9" in device_misfit(key, GPU)


def test_no_device_always_fits():
    assert device_misfit(KEY, TargetDevice()) == ""

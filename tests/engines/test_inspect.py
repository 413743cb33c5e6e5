"""An engine's report, on a machine that can't open it."""

from __future__ import annotations

import pytest

from leakrt.core.bundle import Bundle
from leakrt.core.errors import EngineError
from leakrt.core.progress import silent


@pytest.fixture
def engine(variants, cache, rtx):
    """A built VAE encoder."""
    from leakrt.engines.build import BuildRequest, build_bundle
    from leakrt.engines.builder import BuildOptions

    return build_bundle(Bundle(variants), BuildRequest("fp16", rtx, BuildOptions(targets=("8.6",))), cache, silent)[0]


def test_without_a_gpu_the_layers_as_parsed_are_told(engine, cache, no_gpu):
    from leakrt.engines.inspect import inspect_engine

    report = inspect_engine(engine.path, cache)
    assert "GPU" in report.closed
    assert report.layers == ()
    assert {layer.kind for layer in report.record.layers} >= {"CONVOLUTION"}
    assert report.precisions.get("HALF", 0) > 0
    assert report.to_json()["record"]["sha256"] == engine.record.sha256


def test_an_engine_outside_the_cache_is_read_but_never_opened(engine, cache, tmp_path):
    from leakrt.engines.inspect import inspect_engine

    for path in (engine.path, engine.path.with_suffix(".json")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    cache.discard(engine.record.key.digest)
    report = inspect_engine(tmp_path / engine.path.name, cache)
    assert "not in the cache, and engines are machine code" in report.closed


def test_an_engine_that_was_changed_is_refused(engine, cache):
    from leakrt.engines.inspect import inspect_engine

    engine.path.write_bytes(engine.path.read_bytes()[:-1])
    with pytest.raises(EngineError, match="SHA-256 differs"):
        inspect_engine(engine.path, cache)


def test_an_engine_without_its_json_is_refused(cache, tmp_path):
    from leakrt.engines.inspect import inspect_engine

    (tmp_path / "x.engine").write_bytes(b"x")
    with pytest.raises(EngineError, match=r"has no x.json beside it"):
        inspect_engine(tmp_path / "x.engine", cache)

"""Reports on engines, on a machine that can't open them."""

from __future__ import annotations

import os

import pytest

from leakrt.core.bundle import Bundle
from leakrt.core.errors import EngineError
from leakrt.core.progress import silent


@pytest.fixture
def engine(variants, cache, rtx):
    """The built engine of a VAE encoder."""
    from leakrt.engines.build.build import BuildRequest, build_bundle
    from leakrt.engines.build.builder import BuildOptions

    return build_bundle(
        Bundle(variants),
        BuildRequest(precision="fp16", flavour=rtx, options=BuildOptions(targets=("8.6",))),
        cache,
        progress=silent,
    )[0]


def test_without_a_gpu_the_report_has_the_layers_of_the_build_log(engine, cache, no_gpu):
    from leakrt.engines.inspect import inspect_engine

    report = inspect_engine(engine.path, cache)
    assert "no NVIDIA GPU here" in report.closed
    nodes = {node for layer in report.layers for node in layer.nodes}
    convolutions = {layer.name for layer in report.record.layers if layer.kind == "CONVOLUTION"}
    assert convolutions
    assert convolutions <= nodes
    assert report.layers[0].inputs == ("float16 [1, 3, 40, 40]",)
    assert report.layers[-1].outputs == ("float16 [1, 4, 5, 5]",)
    assert report.precisions == {"float16": len(report.layers)}
    assert report.to_json()["record"]["sha256"] == engine.record.sha256


def test_an_engine_without_logged_layers_reports_the_parsed_ones(engine, cache):
    from dataclasses import replace

    from leakrt.engines.inspect import EngineReport

    record = replace(engine.record, compiled=())
    report = EngineReport(
        path="x.engine", record=record, layers=record.compiled, tensors=(), context_memory=0, closed="closed"
    )
    assert report.precisions["float16"] > 0
    assert sum(report.precisions.values()) == len(record.layers)


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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders")
def test_a_named_pipe_is_refused_without_blocking(engine, cache):
    from leakrt.engines.inspect import inspect_engine

    engine.path.unlink()
    os.mkfifo(engine.path)
    with pytest.raises(EngineError, match=r"can't be read \(not a regular file\)"):
        inspect_engine(engine.path, cache)


def test_an_engine_without_its_json_is_refused(cache, tmp_path):
    from leakrt.engines.inspect import inspect_engine

    (tmp_path / "x.engine").write_bytes(b"x")
    with pytest.raises(EngineError, match=r"its JSON file x.json can't be read"):
        inspect_engine(tmp_path / "x.engine", cache)

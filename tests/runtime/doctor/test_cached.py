"""The state of the engine cache as `leakrt doctor` reports it."""

from __future__ import annotations

import pytest
from engine_records import KEY, record_of

from leakrt.engines.cache.cache import EngineCache
from leakrt.engines.library.tensorrt10 import TensorRT10
from leakrt.runtime.doctor.cached import look_at_cache


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "leakrt" / "engines"


@pytest.fixture
def cache(root):
    """Two engines of TensorRT 10.3.0 for one GPU."""
    from dataclasses import replace

    cache = EngineCache(root, 8 << 30)
    for batches in ((1,), (1, 4)):
        data = bytes(batches) * 33
        cache.store(record_of(data, key=replace(KEY, batches=batches)), data)
    return cache


def test_a_missing_cache_is_reported_as_empty(root):
    state = look_at_cache([])
    assert (state.engines, state.problem, state.path) == (0, "", str(root))
    assert not root.exists()


def test_engines_are_counted(cache):
    state = look_at_cache([])
    assert (state.engines, state.bytes, state.broken, state.elsewhere) == (2, 99, 0, 0)


def test_engines_of_another_tensorrt_are_reported_with_both_versions(cache):
    installed = TensorRT10(None, "11.4.0")
    state = look_at_cache([installed])
    assert state.elsewhere == 2
    assert state.reason == "it was built with tensorrt 10.3.0, and 11.4.0 is installed"
    assert look_at_cache([TensorRT10(None, "10.3.0")]).elsewhere == 0


def test_a_truncated_engine_is_broken(cache):
    path = cache.engines()[0].path
    path.write_bytes(path.read_bytes()[:20])
    assert (look_at_cache([]).broken, look_at_cache([]).engines) == (1, 2)


def test_a_damaged_index_is_reported_with_its_fix(cache, root):
    (root / "index.json").write_text("{")
    assert "is damaged" in look_at_cache([]).problem
    assert "run: leakrt engines prune" in look_at_cache([]).problem


def test_an_invalid_limit_is_reported(monkeypatch):
    monkeypatch.setenv("LEAKRT_ENGINE_CACHE_GIB", "much")
    assert "$LEAKRT_ENGINE_CACHE_GIB='much' is not a number; give a size in GiB" in look_at_cache([]).problem

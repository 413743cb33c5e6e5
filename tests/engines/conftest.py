"""Fixtures: TensorRT-RTX, an empty cache, and a tiny bundle with all variants."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from variants import require_rtx, shared_variants


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Keep tests away from the user's cache and keys."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def cache(tmp_path):
    """An empty engine cache."""
    from leakrt.engines.cache.cache import EngineCache

    return EngineCache(tmp_path / "cache" / "leakrt" / "engines", 8 << 30)


@pytest.fixture(scope="session")
def rtx():
    """TensorRT-RTX, which builds without a GPU."""
    require_rtx()
    from leakrt.engines.library.installed import load_flavour

    return load_flavour("tensorrt-rtx")


@pytest.fixture(scope="session")
def variants() -> Path:
    """A tiny untrained bundle with fp32, fp16 and int8 variants."""
    pytest.importorskip("onnx", reason="variants are made with onnx (extra rtx)")
    return shared_variants()


@pytest.fixture
def no_gpu():
    """Skip on a machine with a GPU."""
    from leakrt.engines.library.device import list_devices

    if list_devices():
        pytest.skip("this machine has a GPU")
    return sys.platform

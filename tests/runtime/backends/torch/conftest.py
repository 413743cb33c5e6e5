"""The tiny bundle and its networks, as the torch backend gets them."""

from __future__ import annotations

import pytest

from leakrt.core.bundle import Bundle
from leakrt.core.weights import Network, from_bytes


@pytest.fixture(scope="session")
def bundle(tiny) -> Bundle:
    return Bundle(tiny)


@pytest.fixture(scope="session")
def networks(bundle) -> dict[str, Network]:
    pytest.importorskip("onnx", reason="weights are read from graphs with onnx")
    from leakrt.export.weights import weights_file

    (data,) = weights_file({name: bundle.read(name) for name in bundle.hashes}).values()
    return from_bytes(data)

"""Finding the first bad layer of a graph with one changed weight."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import TINY_SPEC, Graph, vae_encoder

from leakrt.core.progress import silent

onnx = pytest.importorskip("onnx", reason="graphs are cut with onnx (extra rtx)")


def chain(length: int) -> bytes:
    g = Graph(np.random.default_rng(3))
    name = "image"
    for i in range(length):
        name = g.conv(name, 3, 3, kernel=3, stride=1, out="latent" if i == length - 1 else f"x{i}")
    return g.build({"image": ["B", 3, 9, 11]}, {"latent": ["B", 3, 9, 11]})


def spoil(model: bytes, weight: str) -> bytes:
    graph = onnx.load_model_from_string(model)
    for tensor in graph.graph.initializer:
        if tensor.name == weight:
            tensor.raw_data = (np.frombuffer(tensor.raw_data, np.float32) * 1.5).astype(np.float32).tobytes()
    return graph.SerializeToString()


@pytest.mark.parametrize("bad", [0, 1, 6, 12])
def test_the_first_bad_layer_is_found_at_any_position(bad):
    from leakrt.engines.build.bisect import first_bad_layer
    from leakrt.engines.build.parity import relative_error, run_graph

    given = np.random.default_rng(0).standard_normal((2, 3, 9, 11)).astype(np.float32)
    model = chain(13)
    weight = onnx.load_model_from_string(model).graph.node[bad].input[1]

    def compare(part, output):
        (wanted,), (found,) = (run_graph(m, given, (output,)) for m in (part, spoil(part, weight)))
        return relative_error(found, wanted)

    found = first_bad_layer(model, compare, 1e-3, progress=silent)
    assert found is not None
    assert found.output == ("latent" if bad == 12 else f"x{bad}")
    assert found.operator == "Conv"
    assert found.before < 1e-3 < found.error
    assert found.builds <= 5


def test_a_matching_graph_has_no_bad_layer():
    from leakrt.engines.build.bisect import first_bad_layer

    assert first_bad_layer(vae_encoder(TINY_SPEC), lambda part, output: 0.0, 1e-3, progress=silent) is None


def test_nan_is_a_bad_layer():
    from leakrt.engines.build.bisect import first_bad_layer

    found = first_bad_layer(chain(3), lambda part, output: float("nan"), 1e-3, progress=silent)
    assert found is not None
    assert found.output == "x0"

"""Bundles with a pixel branch on every CPU backend: one latent of 4 + R channels, one leak encoder of two branches."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="a run is trained here (extra train)")
from runs import texture, two_branch_bundle

from leakrt.core.bundle import Bundle
from leakrt.runtime.detector import Detector

FRAMES = [texture(name, 500 + i, size=40 + i) for i, name in enumerate(("real", "blocky", "smooth", "stripes"))]


@pytest.fixture(scope="module")
def expected():
    return list(Detector.load(two_branch_bundle(), backend="onnxruntime", threads=1).check_stream(FRAMES))


@pytest.mark.parametrize("backend", ["openvino", "torch"])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_backend_gives_the_scores_of_onnx_runtime(expected, backend, threads):
    pytest.importorskip(backend)
    detector = Detector.load(two_branch_bundle(), backend=backend, threads=threads)
    for one, other in zip(detector.check_stream(FRAMES), expected, strict=True):
        assert (one.error, one.verdict, one.prototype) == (None, other.verdict, other.prototype)
        assert list(one.scores.values()) == pytest.approx(list(other.scores.values()), abs=1e-3)
        assert one.log_density == pytest.approx(other.log_density, abs=0.05)


def test_scores_do_not_depend_on_the_batch(expected):
    detector = Detector.load(two_branch_bundle(), backend="onnxruntime", threads=2)
    together = list(detector.check_stream([*FRAMES, *FRAMES]))
    for one, other in zip(together, [*expected, *expected], strict=True):
        assert one.scores == other.scores
        assert one.log_density == other.log_density


def test_the_graph_names_no_tensor_twice_and_joins_both_encoders():
    onnx = pytest.importorskip("onnx")
    bundle = Bundle(two_branch_bundle())
    graph = onnx.load_model_from_string(bundle.graph("vae_encoder", "fp32")).graph
    made = [name for node in graph.node for name in node.output]
    assert len(made) == len(set(made))
    assert graph.node[-1].op_type == "Concat"
    shape = [d.dim_value for d in graph.output[0].type.tensor_type.shape.dim]
    assert shape[1:] == [8, 4, 4] == list(bundle.spec.latent_shape)
    kernels = [tuple(t.dims) for t in graph.initializer if len(t.dims) == 4]
    assert (32, 3, 8, 8) in kernels, "the first layer of the pixel encoder is one convolution"

"""Comparing derived graphs with the bundle's graphs on the golden image."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import TINY_SPEC
from variants import Modern

from leakrt.core.bundle import Bundle
from leakrt.core.errors import ModelError, ParityError
from leakrt.core.graphs import leak_encoder_graph, vae_encoder_graph

onnx = pytest.importorskip("onnx", reason="derived graphs are made with onnx (extra rtx)")
VAE, LEAK = vae_encoder_graph(TINY_SPEC), leak_encoder_graph(TINY_SPEC)


def derived(variants, graph, precision):
    from leakrt.engines.build.derive import derive_graph

    return derive_graph(Bundle(variants).graph(graph.stem, precision), graph, precision, flavour=Modern())


def test_derived_graphs_pass_the_parity_check(variants):
    from leakrt.engines.build.parity import can_judge_int8, check_parity, golden_inputs

    bundle = Bundle(variants)
    for precision in ("fp16", "int8"):
        golden = golden_inputs(bundle, precision)
        for graph in (VAE, LEAK):
            found = check_parity(bundle, graph, precision, derived=derived(variants, graph, precision), golden=golden)
            compared = precision == "fp16" or can_judge_int8()
            assert [p.output for p in found] == ([t.name for t in graph.outputs] if compared else [])


def test_a_derived_graph_over_the_limit_is_refused_with_its_error(variants):
    from dataclasses import replace

    from leakrt.engines.build.parity import check_parity, golden_inputs

    model = onnx.load_model_from_string(derived(variants, VAE, "fp16").model)
    weight = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    weight.raw_data = (np.frombuffer(weight.raw_data, np.float16) * np.float16(1.5)).tobytes()
    wrong = replace(derived(variants, VAE, "fp16"), model=model.SerializeToString())
    bundle = Bundle(variants)
    with pytest.raises(ParityError, match=r"vae_encoder: latent of the derived fp16 graph .*\(limit 0.02\)"):
        check_parity(bundle, VAE, "fp16", derived=wrong, golden=golden_inputs(bundle, "fp16"))


def biased_convolution(bias: float) -> bytes:
    """Return a float16 convolution between Q/DQ pairs, as `derive_graph` makes it, with scales 1e-2 and 1e-4."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "x_scale": np.float16(1e-2), "w_scale": np.float16(1e-4), "y_scale": np.float16(0.25),
        "zero": np.int8(0), "w": np.full((2, 3, 1, 1), 100, np.int8), "bias": np.full(2, bias, np.float16),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "zero"], ["x_int8"]),
        helper.make_node("DequantizeLinear", ["x_int8", "x_scale", "zero"], ["x_float16"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "zero"], ["w_float16"]),
        helper.make_node("Conv", ["x_float16", "w_float16", "bias"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "y_scale", "zero"], ["y_int8"]),
        helper.make_node("DequantizeLinear", ["y_int8", "y_scale", "zero"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT16, [1, c, 5, 7]) for n, c in (("x", 3), ("y", 2)))
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9).SerializeToString()


@pytest.mark.parametrize("bias", [-3.0, 0.5, 20.0])
def test_a_bias_with_small_scales_keeps_its_value(bias):
    """ONNX Runtime's optimizer quantizes it to int32 with a scale of 1e-6, which underflows in float16."""
    from leakrt.engines.build.parity import can_judge_int8, run_graph

    if not can_judge_int8():
        pytest.skip("this ONNX Runtime computes float16 around int8 wrongly, so parity checks skip it")
    (found,) = run_graph(biased_convolution(bias), np.full((1, 3, 5, 7), 0.5, np.float32), ("y",))
    np.testing.assert_allclose(found, 3 * 0.5 * 100e-4 + bias, atol=0.13)


def test_nan_exceeds_every_limit():
    from leakrt.engines.build.parity import relative_error

    assert not relative_error(np.float32([np.nan, 1]), np.float32([0, 1])) <= 1.0


def test_an_unchanged_graph_is_not_compared(variants):
    from leakrt.engines.build.parity import check_parity, golden_inputs

    bundle = Bundle(variants)
    assert (
        check_parity(bundle, VAE, "fp32", derived=derived(variants, VAE, "fp32"), golden=golden_inputs(bundle, "fp32"))
        == ()
    )


def test_golden_inputs_match_the_runtime_pipeline(variants):
    """Preprocessing, VAE and noising match the pipeline, so parity is checked on realistic inputs."""
    from leakrt.engines.build.parity import golden_inputs
    from leakrt.runtime.backends.base import Variant
    from leakrt.runtime.backends.onnxruntime import OnnxRuntimeBackend
    from leakrt.runtime.pipeline import Pipeline

    bundle = Bundle(variants)
    spec = bundle.spec
    backend = OnnxRuntimeBackend(Variant(spec, "fp32", *(bundle.graph(g.stem, "fp32") for g in (VAE, LEAK))), 1)
    pipeline = Pipeline(spec, bundle.support("fp32"), backend, threads=1)
    buffer = pipeline.image_buffer()
    pipeline.preprocess(bundle.golden().image, buffer)
    golden = golden_inputs(bundle, "fp32")
    assert golden.noised.shape == (spec.draws, len(spec.timesteps), *spec.latent_shape)
    np.testing.assert_allclose(golden.image[0], np.asarray(buffer).reshape(golden.image[0].shape), atol=1e-3)
    outputs = backend.leak_encoder(golden.noised)
    wanted = pipeline.run([buffer]).outputs
    np.testing.assert_allclose(np.mean(outputs.scores, axis=0), wanted.scores[0], rtol=1e-4, atol=1e-4)


def test_an_error_is_relative_to_the_standard_deviation():
    from leakrt.engines.build.parity import relative_error

    wanted = np.float32([100, 102])  # mean 101, standard deviation 1
    assert relative_error(wanted + np.float32(0.5), wanted) == pytest.approx(0.5)
    assert relative_error(np.float32([5, 5]), np.float32([4, 4])) == 1.0  # no spread: absolute error


def test_a_missing_onnx_runtime_is_refused_with_the_install_command(monkeypatch):
    import sys

    from leakrt.core.errors import MissingExtraError
    from leakrt.engines.build.parity import run_graph

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"^onnxruntime is not installed .*pip install 'leakrt\[rtx\]'$"):
        run_graph(b"", np.zeros((1, 3, 8, 8), np.float32), ("y",))


def test_a_graph_that_fails_is_reported_in_one_line():
    from leakrt.engines.build.parity import run_graph

    with pytest.raises(ModelError, match=r"^ONNX Runtime can't run the graph: [^\n]*$"):
        run_graph(b"nothing", np.zeros((1, 3), np.float32), ("latent",))

"""Packing keeps ONNX Runtime's results to the bit and makes the file smaller."""

import numpy as np
import pytest
from bundles import TINY_SPEC, leak_encoder, vae_encoder
from cpu import sums_int8_exactly

onnx = pytest.importorskip("onnx")

from leakrt.calibration.int8.correction import correct
from leakrt.calibration.int8.packed import pack_weights
from leakrt.calibration.int8.qdq import observed_tensors, quantise
from leakrt.calibration.layers import find_layers, is_quantised
from leakrt.core.errors import ModelError
from leakrt.core.graphs import vae_encoder_graph
from leakrt.core.progress import silent
from leakrt.export.graph_io import parse_graph
from leakrt.export.sessions import GraphSession

STEM = "vae_encoder"
SPEC = vae_encoder_graph(TINY_SPEC)


def images(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 3, 40, 40)).astype(np.float32)


@pytest.fixture(scope="module")
def exact():
    return vae_encoder(TINY_SPEC, seed=3)


@pytest.fixture(scope="module", params=[7, 8], ids=["7_bits", "8_bits"])
def quantised(exact, request):
    """Quantise and correct as calibration does, so that scales are not round numbers."""
    parsed = parse_graph(exact, STEM)
    layers = find_layers(parsed, STEM)
    ranges = dict.fromkeys(observed_tensors(parsed, layers), 3.0)
    rounded = quantise(exact, STEM, [layer.name for layer in layers], ranges=ranges, weight_bits=request.param)
    return correct(exact, rounded, STEM, inputs=[images(1, seed) for seed in range(3)], threads=1, progress=silent)


@pytest.mark.parametrize("optimised", [True, False])
def test_onnx_runtime_gives_the_same_bits(quantised, optimised):
    image = images(3)
    before, after = (
        GraphSession(SPEC, model, 1, optimised=optimised).run(image)[0]
        for model in (quantised, pack_weights(quantised, STEM))
    )
    np.testing.assert_array_equal(after, before)


def test_openvino_runs_it_at_least_as_close_to_onnx_runtime(quantised, request):
    pytest.importorskip("openvino")
    if "8_bits" in request.node.name and not sums_int8_exactly():
        pytest.skip("without VNNI, sums of 8-bit products saturate on this CPU")
    from leakrt.runtime.backends.base import Variant
    from leakrt.runtime.backends.openvino import OpenVinoBackend

    image = images(4)
    wanted = GraphSession(SPEC, quantised, 1, optimised=False).run(image)[0]
    leak = leak_encoder(TINY_SPEC, prototypes(), seed=0)
    packed = OpenVinoBackend(Variant(TINY_SPEC, "int8", pack_weights(quantised, STEM), leak, None), 1)
    assert np.abs(packed.vae_encoder(image) - wanted).max() < 0.05 * wanted.std()


def prototypes():
    shape = (len(TINY_SPEC.class_names), TINY_SPEC.prototypes_per_class, TINY_SPEC.embedding_dim)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_every_weight_of_a_quantised_layer_is_int8_and_no_float_copy_is_left(quantised):
    model = onnx.load_model_from_string(pack_weights(quantised, STEM))
    onnx.checker.check_model(model, full_check=True)
    assert is_quantised(model)
    constants = {t.name: t for t in model.graph.initializer}
    producers = {output: node for node in model.graph.node for output in node.output}
    weights = [producers[n.input[1]] for n in model.graph.node if n.op_type == "Conv"]
    assert {node.op_type for node in weights} == {"DequantizeLinear"}
    assert {constants[node.input[0]].data_type for node in weights} == {onnx.TensorProto.INT8}
    assert not [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in constants]
    assert max(len(t.dims) for t in constants.values() if t.data_type == onnx.TensorProto.FLOAT) < 4
    assert set(constants) <= {name for node in model.graph.node for name in node.input}


def test_packing_twice_or_without_a_quantised_weight_changes_nothing(exact, quantised):
    packed = pack_weights(quantised, STEM)
    assert pack_weights(packed, STEM) == packed
    assert pack_weights(exact, STEM) == exact


def test_a_weight_that_is_not_symmetric_is_refused(quantised):
    model = onnx.load_model_from_string(quantised)
    constants = {t.name: t for t in model.graph.initializer}
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in constants)
    zero = constants[node.input[2]]
    codes = onnx.numpy_helper.to_array(zero) + np.int8(1)
    zero.CopyFrom(onnx.numpy_helper.from_array(codes, zero.name))
    with pytest.raises(ModelError, match="not symmetric int8"):
        pack_weights(model.SerializeToString(), STEM)

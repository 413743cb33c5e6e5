"""Parsing ONNX into a network: errors, profiles and layer descriptions."""

from __future__ import annotations

import pytest
from bundles import TINY_SPEC, vae_encoder

from leakrt.core.errors import ModelError
from leakrt.core.progress import silent


def job(model: bytes, *batches: int):
    from leakrt.engines.build.builder import BuildJob, BuildOptions

    return BuildJob(
        name="vae_encoder",
        model=model,
        precision="fp32",
        batches=batches or (1,),
        options=BuildOptions(targets=("8.6",)),
        device=0,
    )


def test_layers_are_described_as_parsed(rtx):
    from leakrt.engines.build.builder import build_engine

    layers = build_engine(rtx, job(vae_encoder(TINY_SPEC)), False, progress=silent).layers
    kinds = [layer.kind for layer in layers]
    assert kinds.count("CONVOLUTION") == 3
    assert kinds.count("ACTIVATION") == 2
    assert {layer.dtype for layer in layers if layer.kind == "CONVOLUTION"} == {"FLOAT"}
    assert all(layer.name for layer in layers)


@pytest.mark.parametrize("batches", [(1,), (3, 1, 7)])
def test_each_batch_size_has_its_own_layers(rtx, batches):
    from leakrt.engines.build.builder import build_engine

    compiled = build_engine(rtx, job(vae_encoder(TINY_SPEC), *batches), False, progress=silent).compiled
    given = [
        layer.inputs[0] for layer in compiled if f"{TINY_SPEC.image_size}, {TINY_SPEC.image_size}" in str(layer.inputs)
    ]
    assert given[:1] == [f"float32 [{batches[0]}, 3, 40, 40]"]
    assert {text.split("[")[1].split(",")[0] for text in given} == {str(batch) for batch in batches}


def test_a_graph_whose_image_size_is_dynamic_is_refused(rtx):
    import onnx

    from leakrt.engines.build.builder import build_engine

    model = onnx.load_model_from_string(vae_encoder(TINY_SPEC))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    with pytest.raises(ModelError, match="only the batch may be dynamic"):
        build_engine(rtx, job(model.SerializeToString()), False, progress=silent)


def test_bytes_that_are_not_onnx_are_refused_in_one_line(rtx):
    from leakrt.engines.build.builder import build_engine

    with pytest.raises(ModelError, match=r"^vae_encoder: TensorRT-RTX .* can't parse the graph: [^\n]*$"):
        build_engine(rtx, job(b"nothing"), False, progress=silent)


def test_an_unknown_operator_is_named(rtx):
    import onnx

    from leakrt.engines.build.builder import build_engine

    model = onnx.load_model_from_string(vae_encoder(TINY_SPEC))
    model.graph.node[1].op_type, model.graph.node[1].name = "Relux", "act1"
    with pytest.raises(ModelError, match=r"^vae_encoder: TensorRT-RTX .* can't parse the graph: Relux act1: [^\n]*$"):
        build_engine(rtx, job(model.SerializeToString()), False, progress=silent)

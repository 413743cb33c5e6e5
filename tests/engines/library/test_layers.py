"""Both JSON formats of the engine inspector and the build log parse to the same layers."""

from __future__ import annotations

import json

import pytest

from leakrt.core.errors import EngineError
from leakrt.engines.library.layers import count_precisions, parse_build_log, parse_inspection


def tensor(name, shape, words):
    return {"Name": name, "Location": "Device", "Dimensions": shape, "Format/Datatype": words}


def tensor_11(name, shape, kind, layout):
    return {"Name": name, "Location": "Device", "Dimensions": shape, "Datatype": kind, "Format": layout}


TEN = {
    "Layers": [
        {
            "Name": "/conv1/Conv + /act/LeakyRelu",
            "LayerType": "CaskConvolution",
            "Inputs": [tensor("image", [1, 3, 40, 40], "Row major linear FP16 format")],
            "Outputs": [tensor("a", [1, 8, 20, 20], "Thirty-two wide channel vectorized row major Int8 format")],
            "TacticName": "sm86_xmma_fprop",
            "Metadata": "[ONNX Layer: /conv1/Conv]\x1e[ONNX Layer: /act/LeakyRelu]",
        },
        {
            "Name": "__myl_ReduSqrt_myl0_3",
            "LayerType": "kgen",
            "Inputs": [tensor("a", [1, 8, 20, 20], "Half")],
            "Outputs": [tensor("latent", [1, 4, 5, 5], "Float")],
            "TacticName": "__myl_ReduSqrt",
            "Metadata": "[ONNX Layer: /norm/ReduceMean][ONNX Layer: /norm/Sqrt]",
        },
    ],
    "Bindings": ["image", "latent"],
}
ELEVEN = {
    "Layers": [
        {
            **TEN["Layers"][0],
            "Inputs": [tensor_11("image", [1, 3, 40, 40], "Half", "Row major linear")],
            "Outputs": [tensor_11("a", [1, 8, 20, 20], "Int8", "Thirty-two wide channel vectorized row major")],
        },
        {
            **TEN["Layers"][1],
            "Inputs": [tensor_11("a", [1, 8, 20, 20], "Half", "Row major linear")],
            "Outputs": [tensor_11("latent", [1, 4, 5, 5], "Float", "Row major linear")],
        },
    ],
    "I/O Tensors": [
        {"Name": "image", "IOMode": "Input", "DataType": "Half", "Dimensions": [-1, 3, 40, 40]},
        {"Name": "latent", "IOMode": "Output", "DataType": "Float", "Dimensions": [-1, 4, 5, 5]},
    ],
}


@pytest.mark.parametrize("dialect", [TEN, ELEVEN], ids=["10", "11"])
def test_layers_nodes_and_precisions_are_parsed(dialect):
    found = parse_inspection(json.dumps(dialect))
    conv, norm = found.layers
    assert conv.nodes == ("/conv1/Conv", "/act/LeakyRelu")
    assert norm.nodes == ("/norm/ReduceMean", "/norm/Sqrt")
    assert conv.inputs == ("float16 [1, 3, 40, 40]",)
    assert (conv.precision, norm.precision) == ("int8", "float16")
    assert found.tensors == ("image", "latent")
    assert count_precisions(found.layers) == {"int8": 1, "float16": 1}


def test_both_json_formats_parse_to_the_same_layers():
    assert parse_inspection(json.dumps(TEN)) == parse_inspection(json.dumps(ELEVEN))


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("conv1 + relu1", ("conv1", "relu1")),
        ("PWN(sigmoid, mul)", ("sigmoid", "mul")),
        ("{ForeignNode[first...last]}", ("first", "last")),
        ("single", ("single",)),
    ],
)
def test_nodes_are_parsed_from_a_layer_name(name, nodes):
    (layer,) = parse_inspection(json.dumps({"Layers": [name], "Bindings": []})).layers
    assert layer.nodes == nodes
    assert layer.precision == ""


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"Layers": 3}', '{"Layers": [1]}'])
def test_an_unknown_format_is_refused(text):
    with pytest.raises(EngineError, match="can't parse the output of the engine inspector"):
        parse_inspection(text)


def logged_tensor(item):
    return f"{{ Name: {item['Name']}, Dimensions: {str(item['Dimensions']).replace(' ', '')}, Strides: [1], " \
        f"Datatype: {item['Datatype']}, Format: (Linear) {item['Format']} format }}"  # fmt: skip


def logged(item):
    """Return a layer in the log format of TensorRT-RTX 1.7."""
    inputs, outputs = (", ".join(map(logged_tensor, item[side])) for side in ("Inputs", "Outputs"))
    constant = "{ Name: w, Dimensions: [8,3,3,3], Strides: [1], Datatype: Float, Format: (NHWC) x }"
    return (
        f"Name: {item['Name']}, LayerType: {item['LayerType']}, Inputs: [ {inputs}], Constants: [ {constant}], "
        f"Outputs: [ {outputs}], TacticName: {item['TacticName']}, StreamId: 0, Metadata: {item['Metadata']}"
    )


def test_the_build_log_parses_to_the_same_layers():
    text = "\n".join(["Layers:", *map(logged, ELEVEN["Layers"]), "", "I/O Tensors:", " Name: image, IOMode: Input"])
    assert parse_build_log(text) == parse_inspection(json.dumps(ELEVEN)).layers


def test_a_logged_layer_without_tensors_or_tactic_is_parsed():
    (layer,) = parse_build_log("Layers:\nName: a, LayerType: Signal, Inputs: [], Outputs: []")
    assert (layer.name, layer.kind, layer.inputs, layer.outputs, layer.tactic) == ("a", "Signal", (), (), "")


@pytest.mark.parametrize("text", ["", "Layers:", "Layers:\nnothing of the kind", "Layer(CaskConvolution): conv1"])
def test_an_unknown_log_format_has_no_layers(text):
    assert parse_build_log(text) == ()

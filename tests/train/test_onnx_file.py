"""ONNX files that users bring: what is read, what is put in order, what is refused."""

from __future__ import annotations

import os

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper
from onnx_encoders import WEIGHT, branching, conv, encoder, looping, noisy, plain

from leakrt.core.errors import ModelError
from leakrt.train.onnx_file import read_onnx, sort_nodes


def saved(model, path):
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("RandomNormal", {"shape": [1]}),
        ("RandomUniform", {"shape": [1]}),
        ("RandomNormalLike", {}),
        ("RandomUniformLike", {}),
    ],
)
def test_a_random_operator_is_refused_by_type(tmp_path, operator, attributes):
    path = saved(noisy(operator, **attributes), tmp_path / "e.onnx")
    with pytest.raises(ModelError, match=rf"^mine draws random numbers in {operator} .*, not a sample$"):
        read_onnx(path, "mine")


def test_a_random_operator_is_found_in_a_branch_and_in_a_function(tmp_path):
    inner = [conv(target="z"), helper.make_node("RandomNormalLike", ["z"], ["a"])]
    in_branch = branching(inner, [conv(target="b")])
    body = [helper.make_node("RandomUniformLike", ["x"], ["n"]), helper.make_node("Add", ["x", "n"], ["y"])]
    function = helper.make_function("mine", "Sample", ["x"], ["y"], body, [helper.make_opsetid("", 17)])
    in_function = encoder([conv(), helper.make_node("Sample", ["z"], ["out"], domain="mine")], functions=[function])
    for model in (in_branch, in_function):
        with pytest.raises(ModelError, match="draws random numbers"):
            read_onnx(saved(model, tmp_path / "e.onnx"), "mine")


@pytest.mark.parametrize(("training", "refused"), [(None, False), (False, False), (True, True), ("input", True)])
def test_dropout_is_refused_in_training_mode_alone(tmp_path, training, refused):
    weights = {"w": WEIGHT, "ratio": np.array(0.5, np.float32)}
    inputs = ["z", "ratio"]
    nodes = [conv()]
    if training == "input":
        nodes.append(helper.make_node("Greater", ["ratio", "ratio"], ["mode"]))
        inputs.append("mode")
    elif training is not None:
        weights["mode"] = np.array(training)
        inputs.append("mode")
    path = saved(encoder([*nodes, helper.make_node("Dropout", inputs, ["out"])], weights=weights), tmp_path / "e.onnx")
    if refused:
        with pytest.raises(ModelError, match="draws random numbers in Dropout"):
            read_onnx(path, "mine")
    else:
        read_onnx(path, "mine")


def test_nodes_are_sorted_in_the_graph_and_in_branches(tmp_path):
    model = plain()
    nodes = [type(n).FromString(n.SerializeToString()) for n in reversed(model.graph.node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    read = read_onnx(saved(model, tmp_path / "e.onnx"), "mine").model
    assert [node.op_type for node in read.graph.node] == ["Conv", "Tanh"]
    inner = [helper.make_node("Tanh", ["z"], ["a"]), conv(target="z")]
    read = read_onnx(saved(branching(inner, [conv(target="b")]), tmp_path / "e.onnx"), "mine").model
    (then,) = [attribute.g for attribute in read.graph.node[0].attribute if attribute.name == "then_branch"]
    assert [node.op_type for node in then.node] == ["Conv", "Tanh"]


def test_a_node_waits_for_what_its_body_reads():
    model = looping()
    nodes = [type(n).FromString(n.SerializeToString()) for n in (model.graph.node[2], *model.graph.node[:2])]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    sort_nodes(model.graph, "mine")
    assert [node.op_type for node in model.graph.node] == ["Conv", "Sub", "Loop"]


def test_a_cycle_is_refused(tmp_path):
    model = encoder([helper.make_node("Add", ["a", "b"], ["b"], name="round")])
    with pytest.raises(ModelError, match=r"^mine: node round depends on its own output$"):
        read_onnx(saved(model, tmp_path / "e.onnx"), "mine")


def external(tmp_path, location="weights.bin"):
    model = plain()
    onnx.save(model, tmp_path / "e.onnx", save_as_external_data=True, location=location, size_threshold=0)
    return tmp_path / "e.onnx"


def relocated(path, **entries):
    """The file with other entries for its weights."""
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = str(entries.get(entry.key, entry.value))
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_beside_the_file_are_taken_in(tmp_path):
    read = read_onnx(external(tmp_path), "mine")
    (tensor,) = read.model.graph.initializer
    assert tensor.data_location == TensorProto.DEFAULT
    assert np.array_equal(onnx.numpy_helper.to_array(tensor), WEIGHT)


def test_the_digest_covers_the_weights_beside_the_file(tmp_path):
    path = external(tmp_path)
    before = read_onnx(path, "mine").digest
    weights = bytearray((tmp_path / "weights.bin").read_bytes())
    weights[100] ^= 1
    (tmp_path / "weights.bin").write_bytes(weights)
    assert read_onnx(path, "mine").digest != before


@pytest.mark.parametrize("location", ["/etc/hostname", "../weights.bin", "a/../../weights.bin", "", "..\\w.bin"])
def test_weights_elsewhere_are_refused(tmp_path, location):
    (tmp_path / "model").mkdir()
    path = relocated(external(tmp_path / "model"), location=location)
    (tmp_path / "weights.bin").write_bytes(bytes(10_000))
    with pytest.raises(ModelError, match=r"^mine asks for weights in .*, outside its own folder; save it as one file$"):
        read_onnx(path, "mine")


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    path = external(tmp_path / "model")
    (tmp_path / "model" / "weights.bin").rename(tmp_path / "weights.bin")
    (tmp_path / "model" / "weights.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(ModelError, match="outside its own folder"):
        read_onnx(path, "mine")


@pytest.mark.parametrize("entries", [{"offset": 10**9}, {"length": 10**9}, {"offset": -5}])
def test_weights_that_reach_past_their_file_are_refused(tmp_path, entries):
    with pytest.raises(ModelError, match=r"^mine: weights.bin has \d+ bytes, too few for w; save it again$"):
        read_onnx(relocated(external(tmp_path), **entries), "mine")


def test_missing_weights_name_their_file(tmp_path):
    path = external(tmp_path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"^mine keeps weights in weights.bin, which can't be read \(No such file"):
        read_onnx(path, "mine")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "e.onnx")
    with pytest.raises(ModelError, match=r"can't be read \(not a regular file\)"):
        read_onnx(tmp_path / "e.onnx", "mine")

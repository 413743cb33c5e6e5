"""FP16 graphs with FP32 islands, on small models."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="graphs are converted with onnx (extra train)")
from bundles import TINY_SPEC, Graph, leak_encoder, vae_encoder

from leakrt.calibration.fp16.convert import check_convertible, convert, overflowing_nodes
from leakrt.calibration.fp16.rounding import largest_values, rounded
from leakrt.core.errors import ModelError
from leakrt.core.graphs import GraphSpec, TensorSpec, leak_encoder_graph, vae_encoder_graph
from leakrt.export.graph_io import parse_graph
from leakrt.export.sessions import GraphSession

SPEC = TINY_SPEC
RNG = np.random.default_rng(3)
PROTOTYPES = RNG.standard_normal((3, 2, 12)).astype(np.float32)
GRAPHS = {
    "vae_encoder": (vae_encoder(SPEC), vae_encoder_graph(SPEC), (3, 40, 40)),
    "leak_encoder": (leak_encoder(SPEC, PROTOTYPES), leak_encoder_graph(SPEC), (3, 4, 5, 5)),
}


def run(model, graph, value, optimised=False):
    return GraphSession(graph, model, 1, optimised=optimised).run(value)


def kinds(model, kind=10):
    """Operators of the nodes, except casts, whose output has the element type `kind`."""
    typed = {v.name for v in model.graph.value_info if v.type.tensor_type.elem_type == kind}
    return {n.op_type for n in model.graph.node if set(n.output) & typed and n.op_type != "Cast"}


@pytest.fixture(params=sorted(GRAPHS))
def case(request):
    model, graph, shape = GRAPHS[request.param]
    return parse_graph(model, graph.stem), graph, RNG.uniform(-1, 1, (3, *shape)).astype(np.float32)


def islands_of(parsed, choice):
    names = [node.name for node in parsed.graph.node]
    return {"none": [], "first": names[:2], "last": names[-5:], "all": names, "every other": names[::2]}[choice]


@pytest.mark.parametrize("choice", ["none", "first", "last", "every other", "all"])
def test_it_computes_what_rounding_predicts(case, choice):
    parsed, graph, value = case
    islands = islands_of(parsed, choice)
    exact = run(parsed.SerializeToString(), graph, value)
    converted = convert(parsed, graph.stem, islands)
    found, foreseen = run(converted, graph, value), run(rounded(parsed, islands), graph, value)
    assert bool(kinds(onnx.load_model_from_string(converted))) == (choice != "all")
    for wanted, half, model in zip(exact, found, foreseen, strict=True):
        spread = wanted.std()
        assert np.abs(half - wanted).max() <= 0.02 * spread
        if choice == "all":
            assert np.array_equal(half, wanted)
        else:
            assert np.abs(half - model).max() <= 0.01 * spread
            assert not np.array_equal(model, wanted)
            # a single float16 node between islands may be exact: ONNX Runtime drops the casts on both sides on a CPU
            assert choice == "every other" or not np.array_equal(half, wanted)


def test_inputs_and_outputs_stay_float32_and_names_and_opset_stay(case):
    parsed, graph, _ = case
    half = onnx.load_model_from_string(convert(parsed, graph.stem, islands_of(parsed, "last")))
    for before, after in zip(
        (*parsed.graph.input, *parsed.graph.output), (*half.graph.input, *half.graph.output), strict=True
    ):
        assert (before.name, before.type) == (after.name, after.type)
    assert [entry.version for entry in half.opset_import] == [17]
    assert 10 in {t.data_type for t in half.graph.initializer}


def test_every_node_comes_after_what_it_reads(case):
    parsed, graph, _ = case
    half = onnx.load_model_from_string(convert(parsed, graph.stem, islands_of(parsed, "every other")))
    known = {half.graph.input[0].name, "", *(t.name for t in half.graph.initializer)}
    for node in half.graph.node:
        assert set(node.input) <= known
        known.update(node.output)


def test_an_island_is_exact_inside_and_its_weights_stay_float32(case):
    parsed, graph, _ = case
    islands = islands_of(parsed, "last")
    half = onnx.load_model_from_string(convert(parsed, graph.stem, islands))
    weights = {t.name: t.data_type for t in half.graph.initializer}
    inside = [n for n in half.graph.node if n.name in islands]
    assert {weights[name] for n in inside for name in n.input if name in weights} <= {1, 7}
    produced = {output: n for n in half.graph.node for output in n.output}
    for node in half.graph.node:
        if node.op_type == "Cast" and node.attribute[0].i == 1:
            assert getattr(produced.get(node.input[0]), "op_type", "") != "Cast" or node.input[0] not in inside


def test_no_value_is_cast_to_float16_only_to_be_cast_back(case):
    parsed, graph, _ = case
    half = onnx.load_model_from_string(convert(parsed, graph.stem, islands_of(parsed, "every other")))
    produced = {output: n for n in half.graph.node for output in n.output}
    back = [n for n in half.graph.node if n.op_type == "Cast" and n.attribute[0].i == 1]
    assert not [n for n in back if n.input[0] in produced and produced[n.input[0]].op_type == "Cast"]


def test_a_weight_that_an_island_shares_is_rounded_only_outside():
    g = Graph(RNG)
    weight = g.weight(np.float32([0.1]))
    g.op("Mul", g.op("Mul", "image", weight), weight, out="latent")
    parsed = parse_graph(g.build({"image": ["B", 2]}, {"latent": ["B", 2]}), "g")
    half = onnx.load_model_from_string(convert(parsed, "g", [parsed.graph.node[1].name]))
    assert sorted(t.data_type for t in half.graph.initializer) == [1, 10]


def test_equal_graphs_give_equal_bytes(case):
    parsed, graph, _ = case
    assert convert(parsed, graph.stem, []) == convert(parsed, graph.stem, [])


def overflow_graph(kind="Relu", scale=1e4):
    """Scale image [B, 4, 6, 6] up and down again: input and output fit float16, the value between overflows."""
    g = Graph(np.random.default_rng(0))
    up = g.op("Mul", "image", g.weight(np.float32([scale])))
    if kind == "InstanceNormalization":
        middle = g.op(kind, up, g.weight(np.ones(4, np.float32)), g.weight(np.zeros(4, np.float32)))
    else:
        middle = g.op(kind, up)
    g.op("Mul", middle, g.weight(np.float32([1 / scale])), out="latent")
    shape = ["B", 4, 6, 6]
    graph = GraphSpec("g", TensorSpec("image", (4, 6, 6)), (TensorSpec("latent", (4, 6, 6)),))
    return parse_graph(g.build({"image": shape}, {"latent": shape}), "g"), graph


def test_values_over_65504_make_islands_and_the_graph_stays_finite():
    parsed, graph = overflow_graph()
    value = RNG.uniform(5, 20, (2, 4, 6, 6)).astype(np.float32)
    # ONNX Runtime multiplies in float32 on a CPU, so the overflow of a GPU is only simulated
    assert not np.isfinite(run(rounded(parsed, []), graph, value)[0]).all()
    islands = overflowing_nodes(parsed, largest_values(parsed, graph, [value[:1], value[1:]], threads=1))
    assert len(islands) == 3
    for model in (rounded(parsed, islands), convert(parsed, "g", islands)):
        np.testing.assert_allclose(run(model, graph, value)[0], value, rtol=1e-3)


def test_half_of_the_range_counts_as_its_end_and_less_does_not():
    parsed, _ = overflow_graph()
    tensor = parsed.graph.node[0].output[0]
    assert len(overflowing_nodes(parsed, {tensor: 32768.0})) == 2
    assert len(overflowing_nodes(parsed, {tensor: float("inf")})) == 2
    assert overflowing_nodes(parsed, {tensor: 32767.0}) == frozenset()


def test_a_normalisation_overflows_by_the_square_of_its_input():
    parsed, _ = overflow_graph("InstanceNormalization")
    tensor, norm = parsed.graph.node[0].output[0], parsed.graph.node[1].name
    assert overflowing_nodes(parsed, {tensor: 200.0}) == {norm}
    assert overflowing_nodes(parsed, {tensor: 180.0}) == frozenset()


def test_what_is_half_or_quantised_already_is_refused(case):
    from variants import quantised

    parsed, graph, _ = case
    with pytest.raises(ModelError, match="already has float16 weights"):
        check_convertible(parse_graph(convert(parsed, graph.stem, []), graph.stem), graph.stem)
    if graph.stem == "vae_encoder":
        int8 = quantised(GRAPHS[graph.stem][0], graph.stem, [RNG.uniform(-1, 1, (2, 3, 40, 40)).astype(np.float32)])
        with pytest.raises(ModelError, match="is quantised"):
            check_convertible(parse_graph(int8, graph.stem), graph.stem)


def test_a_strongly_typed_graph_builds_with_tensorrt_rtx(case, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="building needs tensorrt_rtx (extra rtx)")
    from leakrt.core.progress import silent
    from leakrt.engines.build.builder import BuildJob, BuildOptions, build_engine
    from leakrt.engines.library.installed import load_flavour

    parsed, graph, _ = case
    for choice in ("none", "last", "every other"):
        model = convert(parsed, graph.stem, islands_of(parsed, choice))
        job = BuildJob(
            name=graph.stem,
            model=model,
            precision="fp16",
            batches=(1,),
            options=BuildOptions(targets=("8.6",)),
            device=0,
        )
        built = build_engine(load_flavour("tensorrt-rtx"), job, False, progress=silent)
        assert {layer.dtype for layer in built.layers} >= ({"HALF"} if choice == "none" else {"HALF", "FLOAT"})

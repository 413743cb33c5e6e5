"""Export of a module to an ONNX file of its format, without side effects."""

from __future__ import annotations

import logging

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxslim")

from leakrt.core.errors import ModelError
from leakrt.core.graphs import GraphSpec, TensorSpec
from leakrt.export.sessions import GraphSession, open_session, run_session
from leakrt.export.torch_export import export_module

GRAPH = GraphSpec("toy", TensorSpec("image", (3, 7, 9)), (TensorSpec("latent", (2, 63)), TensorSpec("scores", (2,))))


class Toy(torch.nn.Module):
    """Reads its sizes from the tensor, as most code does, though only the batch is dynamic."""

    def __init__(self, channels: int = 2) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, channels, 3, padding=1)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, image):
        x = self.dropout(self.conv(image))
        b, c, h, w = x.shape
        return x.view(b, c, h * w), x.flatten(2).mean(dim=2)


@pytest.fixture(scope="module")
def exported():
    torch.manual_seed(0)
    module = Toy()
    return module, export_module(module, GRAPH)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_file_matches_torch_at_any_batch(exported, batch):
    module, model = exported
    image = np.random.default_rng(batch).standard_normal((batch, 3, 7, 9)).astype(np.float32)
    with torch.inference_mode():
        wanted = [t.numpy() for t in module.eval()(torch.from_numpy(image))]
    found = run_session("toy", open_session("toy", model, 1), ["latent", "scores"], feed={"image": image})
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() < 1e-5


def test_sizes_are_folded_and_training_nodes_are_removed(exported):
    operators = {node.op_type for node in onnx.load_model_from_string(exported[1]).graph.node}
    assert operators.isdisjoint({"Shape", "Gather", "Concat", "Constant", "Dropout", "Identity"})


def test_a_module_in_training_mode_is_exported_in_evaluation_mode(exported):
    module, model = exported
    module.train()
    assert export_module(module, GRAPH) == model


def test_names_shapes_and_opset_follow_the_format(exported):
    graph = onnx.load_model_from_string(exported[1])
    values = (*graph.graph.input, *graph.graph.output)
    assert [v.name for v in values] == ["image", "latent", "scores"]
    assert [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values] == [
        ["batch", 3, 7, 9], ["batch", 2, 63], ["batch", 2],
    ]  # fmt: skip
    assert (graph.opset_import[0].version, graph.producer_name) == (17, "leakrt")


def test_a_shape_that_differs_from_the_format_is_refused():
    with pytest.raises(ModelError, match="toy: the graph is not valid ONNX"):
        export_module(Toy(channels=3), GRAPH)


def test_the_exporter_prints_nothing_and_its_logger_is_restored(capfd, recwarn):
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    export_module(Toy(), GRAPH)
    assert capfd.readouterr().out == ""
    assert logger.level == level
    assert not list(recwarn)


def test_a_session_runs_it_row_by_row(exported):
    image = np.random.default_rng(3).standard_normal((3, 3, 7, 9)).astype(np.float32)
    whole = GraphSession(GRAPH, exported[1], 1).run(image)
    assert np.array_equal(whole[0][1:2], GraphSession(GRAPH, exported[1], 1).run(image[1:2])[0])

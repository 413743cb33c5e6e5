"""The exported leak encoder against its network."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
from graph_checks import check_declared, operators, session

from leakrt.core.errors import ModelError
from leakrt.core.graphs import leak_encoder_graph
from leakrt.core.spec import ModelSpec
from leakrt.export.leak_graph import export_leak_encoder
from leakrt.train.config import TrainConfig
from leakrt.train.leak_encoder import LeakEncoder

SPEC = ModelSpec(
    class_names=("a", "b", "c"), real_class="b", image_size=40, timesteps=(0, 20, 60), embedding_dim=24, draws=1
)


@pytest.fixture(scope="module")
def leak() -> tuple[LeakEncoder, bytes]:
    torch.manual_seed(0)
    encoder = LeakEncoder(SPEC, TrainConfig(widths=(8, 12, 16)))
    encoder.set_latent_statistics(0.9)
    return encoder, export_leak_encoder(encoder, SPEC)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_graph_matches_torch_at_any_batch(leak, batch):
    encoder, model = leak
    noised = np.random.default_rng(batch).standard_normal((batch, 3, 4, 5, 5)).astype(np.float32)
    with torch.inference_mode():
        wanted = [o.numpy() for o in encoder.eval()(torch.from_numpy(noised))]
    found = session(model).run([t.name for t in leak_encoder_graph(SPEC).outputs], {"noised": noised})
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= 1e-5 * max(1.0, np.abs(b).max())


def test_the_graph_is_clean_and_follows_its_format(leak):
    check_declared(leak[1], leak_encoder_graph(SPEC))
    found = operators(leak[1])
    assert not found.keys() & {"Shape", "Gather", "ReduceSum", "Constant", "Identity", "If", "Loop"}


def test_exporting_does_not_change_the_encoder(leak):
    encoder, model = leak
    assert export_leak_encoder(encoder, SPEC) == model


def test_a_linear_head_is_refused():
    spec = ModelSpec(class_names=("a", "b"), real_class="b", image_size=40, timesteps=(0,))
    with pytest.raises(ModelError, match="linear head"):
        export_leak_encoder(LeakEncoder(spec, TrainConfig(head="linear", widths=(8,))), spec)

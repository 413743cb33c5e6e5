"""The networks that are measured: drawn from their description, they are what `leakrt export` writes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnx", reason="needs onnx")

from leakrt.core.graphs import leak_encoder_graph
from leakrt.core.outputs import LeakOutputs
from leakrt.runtime.backends.base import Variant
from leakrt.runtime.backends.onnxruntime import OnnxRuntimeBackend


@pytest.fixture
def networks(script):
    return script("networks")


def test_equal_seeds_give_equal_weights(networks):
    _, described, _ = networks.read()
    first, again, other = (networks.draw(described["leak_encoder"], seed) for seed in (1, 1, 2))
    same = [np.array_equal(first.tensors[name], again.tensors[name]) for name in first.tensors]
    assert all(same)
    assert not all(np.array_equal(first.tensors[name], other.tensors[name]) for name in first.tensors)


def test_a_leak_encoder_runs_as_onnx_in_both_precisions_and_its_scores_tell_inputs_apart(networks):
    spec, described, _ = networks.read()
    graph, network = leak_encoder_graph(spec), networks.draw(described["leak_encoder"], 1)
    model = networks.onnx_of(network, graph)
    noised = np.random.default_rng(0).standard_normal((3, *graph.input.shape), np.float32)
    noised *= np.float32([1, 2, 4]).reshape(-1, 1, 1, 1, 1)
    found = {}
    for precision, onnx in (("fp32", model), ("fp16", networks.half_of(model, graph.stem))):
        backend = OnnxRuntimeBackend(Variant(spec, precision, _any_vae(networks, spec, described), onnx), 1)
        found[precision] = backend.leak_encoder(noised)
    for name in LeakOutputs.__dataclass_fields__:
        full, half = (getattr(found[p], name) for p in ("fp32", "fp16"))
        assert np.isfinite(full).all()
        assert 0 < np.abs(full - half).max() < 0.01 * np.abs(full).max()
    assert found["fp32"].scores.std(0).min() > 20 * np.abs(found["fp32"].scores - found["fp16"].scores).max()


def _any_vae(networks, spec, described):
    from leakrt.core.graphs import vae_encoder_graph

    return networks.onnx_of(networks.draw(described["vae_encoder"], 0), vae_encoder_graph(spec))


@pytest.mark.slow
def test_the_description_is_of_what_is_exported_today(networks, script):
    """When it is not: python benchmarks/gpu/make_networks.py."""
    pytest.importorskip("diffusers", reason="needs diffusers")
    made = script("make_networks")
    spec, described, cost = networks.read()
    assert spec == made.SPEC
    for stem, network in made.exported(spec).items():
        wanted, drawn = made._described(network), described[stem]
        assert drawn["outputs"] == list(wanted["outputs"])
        assert [[n[0], list(n[1]), list(n[2])] for n in wanted["nodes"]] == [n[:3] for n in drawn["nodes"]]
        assert {k: (t["dtype"], list(t["shape"])) for k, t in wanted["tensors"].items()} == {
            k: (t["dtype"], t["shape"]) for k, t in drawn["tensors"].items()
        }
    assert cost == made.flops(made.ReferenceMethod(spec), spec.image_size)

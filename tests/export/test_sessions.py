"""ONNX Runtime sessions for measuring: rows are independent, and errors are one line."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="graphs are drawn with onnx (extra train)")
from bundles import TINY_SPEC, leak_encoder, vae_encoder

from leakrt.core.errors import ModelError
from leakrt.core.graphs import leak_encoder_graph, vae_encoder_graph
from leakrt.export.sessions import GraphSession, SessionPair, open_session, profile_kernels, run_session

RNG = np.random.default_rng(2)
VAE, LEAK = vae_encoder(TINY_SPEC), leak_encoder(TINY_SPEC, RNG.standard_normal((3, 2, 12)).astype(np.float32))


@pytest.fixture(scope="module")
def images():
    return RNG.uniform(-1, 1, (5, 3, 40, 40)).astype(np.float32)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_row_gives_the_same_bits_in_every_batch_and_on_any_number_of_threads(images, threads):
    runner = GraphSession(vae_encoder_graph(TINY_SPEC), VAE, threads)
    (whole,) = runner.run(images)
    parts = np.concatenate([runner.run(images[:2])[0], runner.run(images[2:])[0]])
    alone = GraphSession(vae_encoder_graph(TINY_SPEC), VAE, 1).run(images)[0]
    assert whole.shape == (5, 4, 5, 5)
    assert np.array_equal(whole, parts)
    assert np.array_equal(whole, alone)


def test_outputs_come_in_the_order_of_the_format(images):
    graph = leak_encoder_graph(TINY_SPEC)
    noised = RNG.standard_normal((2, 3, 4, 5, 5)).astype(np.float32)
    outputs = GraphSession(graph, LEAK, 1).run(noised)
    assert [o.shape[1:] for o in outputs] == [tensor.shape for tensor in graph.outputs]


def test_a_graph_gives_the_same_result_with_and_without_optimisation(images):
    plain, optimised = (
        GraphSession(vae_encoder_graph(TINY_SPEC), VAE, 1, optimised=o).run(images)[0] for o in (False, True)
    )
    assert np.abs(plain - optimised).max() <= 1e-5 * np.abs(plain).max()


def test_a_variant_maps_an_image_to_its_outputs(images):
    variant = SessionPair(
        GraphSession(vae_encoder_graph(TINY_SPEC), VAE, 1), GraphSession(leak_encoder_graph(TINY_SPEC), LEAK, 1)
    )
    latent = variant.vae_encoder(images)
    outputs = variant.leak_encoder(np.stack([latent] * 3, axis=1))
    assert outputs.scores.shape == (5, 3)
    assert outputs.step_weights.sum(axis=1) == pytest.approx(np.ones(5), abs=1e-5)


def test_each_run_is_profiled_kernel_by_kernel(images):
    runs = profile_kernels("vae_encoder", VAE, images[:1], threads=1, runs=4)
    assert len(runs) == 4
    assert [[(k.name, k.operator) for k in run] for run in runs[1:]] == [[(k.name, k.operator) for k in runs[0]]] * 3
    assert "Conv" in {kernel.operator.removeprefix("Fused") for kernel in runs[0]}
    assert all(kernel.milliseconds >= 0 for run in runs for kernel in run)
    assert sum(kernel.milliseconds for kernel in runs[-1]) > 0


def test_no_profile_is_left_behind(images, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    profile_kernels("vae_encoder", VAE, images[:1], threads=1, runs=1)
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_are_not_a_graph_are_refused_by_name_and_print_nothing(capfd):
    with pytest.raises(ModelError, match=r"^vae_encoder: ONNX Runtime can't load it \(") as caught:
        open_session("vae_encoder", b"not a graph", 1)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "feed",
    [{"picture": np.zeros((1, 3, 40, 40), np.float32)}, {"image": np.zeros((1, 3, 40, 41), np.float32)},
     {"image": np.zeros((1, 3, 40, 40), np.float64)}],
    ids=["name", "shape", "type"],
)  # fmt: skip
def test_an_input_that_does_not_fit_is_refused_by_name(feed):
    session = open_session("vae_encoder", VAE, 1)
    with pytest.raises(ModelError, match=r"^vae_encoder: ONNX Runtime can't run it \("):
        run_session("vae_encoder", session, ["latent"], feed=feed)

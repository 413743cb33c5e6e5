"""Variants run on images on all installed backends."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
from leakrt import _core
from leakrt.calibration.acceptance.measuring import (
    installed,
    load_on,
    load_variant,
    onnxruntime_only,
    run_images,
    run_latents,
    whole_way,
)
from leakrt.core.bundle import Bundle
from leakrt.runtime.backends import registry
from leakrt.runtime.backends.base import Variant
from leakrt.runtime.detector import Detector


@pytest.fixture(scope="module")
def bundle(tiny):
    return Bundle(tiny)


def pictures(spec, count):
    found = []
    for i in range(count):
        frame = np.random.default_rng(i).integers(0, 256, (45 + i, 61 - i, 3), dtype=np.uint8)
        found.append(np.empty((3, spec.image_size, spec.image_size), np.float32))
        _core.preprocess(frame, found[-1])
    return found


def graphs(bundle):
    return bundle.graph("vae_encoder", "fp32"), bundle.graph("leak_encoder", "fp32")


def test_results_equal_those_of_the_runtime(bundle, tiny):
    images = pictures(bundle.spec, 3)
    latents, outputs = run_images(load_variant(bundle.spec, *graphs(bundle), threads=1), bundle.spec, images)
    expected = Detector.load(tiny, threads=1)._guarded.start(images)()
    assert latents.shape == (3, *bundle.spec.latent_shape)
    for row, outcome in enumerate(expected):
        np.testing.assert_allclose(outputs.scores[row], outcome.result.outputs.scores[outcome.row], atol=1e-6)
    again = run_latents(load_variant(bundle.spec, *graphs(bundle), threads=1), bundle.spec, latents)
    np.testing.assert_array_equal(again.scores, outputs.scores)


def test_no_image_gives_empty_arrays_of_the_right_widths(bundle):
    latents, outputs = run_images(load_variant(bundle.spec, *graphs(bundle), threads=1), bundle.spec, [])
    assert latents.shape == (0, *bundle.spec.latent_shape)
    assert outputs.scores.shape == (0, len(bundle.spec.class_names))


def test_progress_counts_the_images(bundle):
    seen = []
    runner = load_variant(bundle.spec, *graphs(bundle), threads=1)
    run_images(
        runner, bundle.spec, pictures(bundle.spec, 3), task="task", total=3, progress=lambda *step: seen.append(step)
    )
    assert seen == [("task", 1, 3), ("task", 2, 3), ("task", 3, 3)]


def test_onnx_runtime_is_first_and_other_installed_backends_follow(bundle):
    names = list(installed(1).loaders)
    assert names[0] == next(iter(onnxruntime_only(1).loaders)) == "onnxruntime"
    for name in ("openvino", "openvino_bf16"):
        assert (name in names) == registry.kind(name).probe().runs


def test_torch_agrees_with_onnx_runtime(bundle):
    from leakrt.export.weights import weights_file

    (data,) = weights_file({name: bundle.read(name) for name in bundle.hashes}).values()
    images = pictures(bundle.spec, 2)
    runner = load_on(
        Variant(bundle.spec, "fp32", *graphs(bundle)), kind=registry.kind("torch"), threads=1, weights=lambda: data
    )
    wanted = run_images(load_variant(bundle.spec, *graphs(bundle), threads=1), bundle.spec, images)[1]
    np.testing.assert_allclose(run_images(runner, bundle.spec, images)[1].scores, wanted.scores, atol=1e-4)


def test_torch_is_measured_on_a_gpu_only_and_with_weights_only():
    import torch

    assert "torch" not in installed(1).loaders
    assert ("torch" in installed(1, weights=lambda: b"").loaders) == torch.cuda.is_available()


@pytest.mark.skipif(not registry.kind("openvino").probe().runs, reason="openvino is not installed")
def test_every_backend_measures_the_same(bundle):
    images = pictures(bundle.spec, 2)
    found = [
        run_images(loader(Variant(bundle.spec, "fp32", *graphs(bundle))), bundle.spec, images)[1].scores
        for loader in installed(1).loaders.values()
    ]
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)


def test_a_speedup_is_timed_on_one_thread_of_the_backend_that_is_named(bundle):
    backends, image = installed(2), pictures(bundle.spec, 1)[0]
    assert backends.timed.keys() == backends.loaders.keys()
    runner = backends.timed["onnxruntime"](Variant(bundle.spec, "fp32", *graphs(bundle)))
    assert runner._vae._session.get_session_options().intra_op_num_threads == 1
    way = whole_way(bundle.spec, image)
    for name in backends.timed:
        found = backends.speedup(name, bundle.spec, graphs(bundle), precision="fp32", graphs=graphs(bundle), run=way)
        assert 0 < found.low <= found.median <= found.high


def test_the_whole_way_equals_running_an_image(bundle):
    runner, (image,) = load_variant(bundle.spec, *graphs(bundle), threads=1), pictures(bundle.spec, 1)
    found = whole_way(bundle.spec, image)(runner).average_draws(bundle.spec.draws)
    np.testing.assert_array_equal(found.scores, run_images(runner, bundle.spec, [image])[1].scores)

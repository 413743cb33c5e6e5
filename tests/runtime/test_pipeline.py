"""The inference pipeline, compared with the NumPy references of core."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from leakrt.core import noise
from leakrt.core.bundle import Bundle
from leakrt.core.errors import BundleError
from leakrt.core.outputs import LeakOutputs
from leakrt.core.schedule import step_coefficients
from leakrt.runtime.backends.base import Variant
from leakrt.runtime.backends.onnxruntime import OnnxRuntimeBackend
from leakrt.runtime.pipeline import Pipeline

NAMES = ("scores", "embedding", "gates", "step_weights")


@pytest.fixture(scope="module")
def bundle(tiny):
    return Bundle(tiny)


def make(bundle, threads=1, batch=1):
    graphs = bundle.graph("vae_encoder", "fp32"), bundle.graph("leak_encoder", "fp32")
    backend = OnnxRuntimeBackend(Variant(bundle.spec, "fp32", *graphs), threads)
    backend.batch = batch
    return Pipeline(bundle.spec, bundle.support("fp32"), backend, threads=threads), backend


def images(pipeline, count):
    found = []
    for i in range(count):
        frame = np.random.default_rng(i).integers(0, 256, (45 + i, 61 - i, 3), dtype=np.uint8)
        found.append(pipeline.image_buffer())
        pipeline.preprocess(frame, found[-1])
    return found


def test_every_stage_agrees_with_its_reference(bundle):
    pipeline, backend = make(bundle)
    image = images(pipeline, 1)[0]
    result = pipeline.run([image])
    spec, support = bundle.spec, bundle.support("fp32")
    bank = noise.normals(spec.noise_seed, 0, spec.draws, steps=len(spec.timesteps), shape=spec.latent_shape)
    coefficients = step_coefficients(spec.schedule, spec.timesteps, spec.sigma_normalize)
    noised = noise.noise_steps(backend.vae_encoder(image[None]), bank, coefficients)
    expected = backend.leak_encoder(noised).average_draws(spec.draws)
    for name in NAMES:
        np.testing.assert_allclose(getattr(result.outputs, name), getattr(expected, name), atol=1e-5)
    point = ((expected.embedding[0] - support.mean) @ support.projection).astype(np.float64)
    exponents = -((point - support.points) ** 2).sum(axis=1) / (2 * support.bandwidth**2)
    norm = len(support.points) * (support.bandwidth * np.sqrt(2 * np.pi)) ** len(point)
    assert result.log_density[0] == pytest.approx(np.log(np.exp(exponents).sum() / norm), abs=1e-3)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_scores_do_not_depend_on_batch_or_threads(bundle, threads, batch):
    reference, _ = make(bundle)
    pipeline, _ = make(bundle, threads, batch)
    expected, found = reference.run(images(reference, 5)), pipeline.run(images(pipeline, 5))
    for name in NAMES:
        np.testing.assert_allclose(getattr(found.outputs, name), getattr(expected.outputs, name), atol=1e-6, rtol=0)
    np.testing.assert_allclose(found.log_density, expected.log_density, atol=1e-6)


def test_results_are_not_overwritten_by_the_next_run(bundle):
    pipeline, _ = make(bundle)
    first, second = images(pipeline, 2)
    kept = pipeline.run([first])
    before = {name: getattr(kept.outputs, name).copy() for name in NAMES}
    pipeline.run([second])
    for name in NAMES:
        assert np.array_equal(getattr(kept.outputs, name), before[name])


def test_every_stage_is_timed_for_one_image(bundle):
    pipeline, _ = make(bundle)
    latency = pipeline.run(images(pipeline, 3)).latency_ms
    assert set(latency) == {"vae", "noising", "leak", "decision"}
    assert all(ms > 0 for ms in latency.values())


def test_a_support_of_another_shape_raises(bundle):
    _, backend = make(bundle)
    support = bundle.support("fp32")
    wrong = replace(support, prototypes=support.prototypes[:, :1])
    with pytest.raises(BundleError, match=r"prototypes \[3, 1, 12\], but the spec has \[3, 2, 12\]"):
        Pipeline(bundle.spec, wrong, backend, threads=1)


def test_outputs_keep_their_order_over_several_batches(bundle):
    class Echo:
        name, precision, batch = "echo", "fp32", 2

        def vae_encoder(self, image):
            return np.broadcast_to(image[:, :1, :1, :1], (len(image), *bundle.spec.latent_shape)).copy()

        def leak_encoder(self, noised):
            # row of each latent's constant, draws included: recovered by undoing u = a z + s eps over all elements
            means = noised.mean(axis=(1, 2, 3, 4))[:, None]
            wide = np.repeat(means, 12, axis=1).astype(np.float32)
            return LeakOutputs(wide[:, :3], wide, wide, wide[:, :3])

        def describe(self):
            raise NotImplementedError

    pipeline = Pipeline(bundle.spec, bundle.support("fp32"), Echo(), threads=1)
    images = [np.full((3, 40, 40), value, np.float32) for value in (0.0, 1.0, 2.0, 3.0, 4.0)]
    assert np.all(np.diff(pipeline.run(images).outputs.scores[:, 0]) > 0)

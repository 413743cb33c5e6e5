"""GpuBackend: splitting of frames and batches, halving when memory runs out, order of results."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from host_chain import averaged

from leakrt.core.errors import BackendError
from leakrt.core.noise import normals
from leakrt.core.outputs import LeakOutputs
from leakrt.core.preprocess import preprocess_reference
from leakrt.runtime.backends.base import FrameBackend
from leakrt.runtime.backends.device_memory import OutOfMemoryError
from leakrt.runtime.backends.tensorrt import backend as backend_module
from leakrt.runtime.backends.tensorrt.backend import GpuBackend
from leakrt.runtime.backends.tensorrt.slot import STAGES

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
NAMES = tuple(LeakOutputs.__dataclass_fields__)


@pytest.fixture
def backend(chain):
    """Return a function that makes a backend on a host device, which must be empty after the test."""
    made: list[GpuBackend] = []

    def make(**options) -> GpuBackend:
        made.append(
            GpuBackend("tensorrt", "10.13", "fp32", threads=3, runner=chain.runner(**options), draws=chain.spec.draws)
        )
        return made[-1]

    yield make
    for one in made:
        one.close()
    assert [device.held() for device in chain.devices] == [0] * len(chain.devices)


def sizes_of(monkeypatch, made: GpuBackend) -> list[int]:
    """Record the number of frames of each batch that the runner gets."""
    sizes, submit = [], made._runner.submit
    monkeypatch.setattr(made._runner, "submit", lambda frames: (sizes.append(len(frames)), submit(frames))[1])
    return sizes


def test_it_is_a_frame_backend_with_a_description(backend, chain):
    made = backend(batches=(1, 3), slots=2)
    assert isinstance(made, FrameBackend)
    assert (made.name, made.precision, made.batch, made.ahead) == ("tensorrt", "fp32", 3, 3)
    said = made.describe()
    assert (said.backend, said.version, said.device, said.precision) == ("tensorrt", "10.13", "host memory", "fp32")
    assert said.threads == 3
    assert said.device_bytes == chain.devices[-1].held() > 0


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_batch_matches_the_cpu_and_has_a_time_for_each_stage(backend, chain, frames, count):
    result = backend(batches=(1, 5)).submit(frames(count))()
    assert np.abs(averaged(result).scores - chain.reference(frames(count)).scores).max() <= 1e-5
    assert result.latent.shape == (count, *chain.spec.latent_shape)
    assert tuple(result.latency_ms) == STAGES


def test_pending_batches_return_their_own_results_in_any_order(backend, chain, frames):
    made = backend(batches=(2,), slots=2)
    waits = [made.submit(frames(2, first)) for first in (10, 20, 30)]
    for first, wait in reversed(list(zip((10, 20, 30), waits, strict=True))):
        assert np.abs(averaged(wait()).scores - chain.reference(frames(2, first)).scores).max() <= 1e-5


def test_large_frames_are_split_into_parts_and_joined(backend, chain, frames, monkeypatch):
    monkeypatch.setattr(backend_module, "_FRAME_BYTES", 29_000)
    given = frames(5)
    large = np.random.default_rng(9).integers(0, 256, (100, 99, 3), dtype=np.uint8)  # exceeds the limit by itself
    given[2] = large
    made = backend(batches=(1, 5))
    sizes = sizes_of(monkeypatch, made)
    result = made.submit(given)()
    assert sizes == [2, 1, 2]
    for name in NAMES:
        wanted = getattr(chain.reference(given), name)
        np.testing.assert_allclose(getattr(averaged(result), name), wanted, rtol=1e-5, atol=1e-5)
    assert len(result.latent) == 5


def test_the_times_of_parts_add_up(backend, frames, monkeypatch):
    made = backend(batches=(1, 4))
    results, real = [], made._result
    monkeypatch.setattr(made, "_result", lambda *part: results.append(real(*part)) or results[-1])
    monkeypatch.setattr(backend_module, "_FRAME_BYTES", 1)
    whole = made.submit(frames(4))()
    assert len(results) == 4
    for stage in STAGES:
        assert whole.latency_ms[stage] == pytest.approx(sum(result.latency_ms[stage] for result in results))


def test_no_frames_are_refused(backend):
    with pytest.raises(BackendError, match="batch of 0 frames"):
        backend().submit([])


def test_more_frames_than_the_batch_are_refused(backend, frames):
    with pytest.raises(BackendError, match="batch of 4 frames: submit between 1 and 3 frames"):
        backend(batches=(3,)).submit(frames(4))


def test_out_of_memory_halves_the_batch_and_warns_once(backend, chain, frames, monkeypatch, caplog):
    made = backend(batches=(1, 7))
    sizes, submit = [], made._runner.submit

    def full(given):
        """Act like a device that can't hold two frames at once."""
        sizes.append(len(given))
        future = submit(given)
        if len(given) > 1:
            future.result()
            future = type(future)()
            future.set_exception(OutOfMemoryError(5 << 20, "two frames"))
        return future

    monkeypatch.setattr(made._runner, "submit", full)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            result = made.submit(frames(7))()
            assert np.abs(averaged(result).scores - chain.reference(frames(7)).scores).max() <= 1e-5
    assert sizes == [7, 3, 1, 2, 1, 1, 4, 2, 1, 1, 2, 1, 1] * 2
    said = [record.message for record in caplog.records if "smaller batches" in record.message]
    assert len(said) == 1
    assert "tensorrt: continuing with smaller batches: out of GPU memory while allocating 5.0 MiB" in said[0]


def test_a_frame_that_does_not_fit_is_an_error_and_others_still_run(backend, chain, frames):
    made = backend(batches=(1, 2), slots=1, device={"limit": 6 << 20})
    wait = made.submit([np.zeros((1500, 1500, 3), np.uint8), frames(1)[0]])
    with pytest.raises(OutOfMemoryError, match="1500 x 1500"):
        wait()
    assert np.abs(averaged(made.submit(frames(1))()).scores - chain.reference(frames(1)).scores).max() <= 1e-5


def test_batches_that_do_not_fit_are_logged_with_the_backends_name(backend, caplog):
    with caplog.at_level(logging.WARNING):
        made = backend(batches=(1, 256), device={"limit": 5 << 20})
    assert made.batch == 1
    assert any(r.message.startswith("tensorrt: ") and "batch 256 does not fit" in r.message for r in caplog.records)


def test_the_encoders_accept_any_number_of_rows(backend, chain, frames, monkeypatch):
    spec, made = chain.spec, backend(batches=(2,))
    images = np.stack([preprocess_reference(frame, spec.image_size) for frame in frames(5)])
    latent = made.vae_encoder(images)
    assert latent.shape == (5, *spec.latent_shape)
    bank = normals(spec.noise_seed, 0, spec.draws, steps=len(spec.timesteps), shape=spec.latent_shape)
    rows = np.concatenate([bank, 2 * bank, -bank, 0.5 * bank])[:7]  # more than batch x draws, and not a multiple of it
    counts, judge = [], made._runner.judge
    monkeypatch.setattr(made._runner, "judge", lambda rows: counts.append(len(rows)) or judge(rows))
    judged = made.leak_encoder(rows)
    assert counts == [4, 3]
    assert [len(getattr(judged, name)) for name in NAMES] == [7] * 4
    for i in range(7):
        np.testing.assert_allclose(made.leak_encoder(rows[i : i + 1]).scores[0], judged.scores[i], rtol=1e-5, atol=1e-5)
    for i in range(5):
        np.testing.assert_allclose(made.vae_encoder(images[i : i + 1])[0], latent[i], rtol=1e-5, atol=1e-5)


def test_a_closed_backend_finishes_pending_batches_and_refuses_others(backend, frames):
    made = backend(batches=(1,), slots=2)
    waits = [made.submit(frames(1)) for _ in range(3)]
    made.close()
    made.close()
    assert all(len(wait().latent) == 1 for wait in waits)
    for call in (made.submit, made.vae_encoder, made.leak_encoder):
        with pytest.raises(BackendError, match="the GPU runner is closed"):
            call(frames(1))
    assert made._runner._thread.ended

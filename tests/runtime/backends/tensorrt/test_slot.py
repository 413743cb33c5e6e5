"""The chain of one slot compared with the CPU's pipeline."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from host_chain import averaged

from leakrt.core.errors import BackendError
from leakrt.core.noise import normals
from leakrt.core.outputs import LeakOutputs
from leakrt.core.preprocess import preprocess_reference
from leakrt.core.schedule import step_coefficients
from leakrt.runtime.backends.device_memory import OutOfMemoryError
from leakrt.runtime.backends.tensorrt.slot import STAGES, Noise, Slot

NAMES = tuple(LeakOutputs.__dataclass_fields__)


class OneSlot:
    """A slot with its device and noise."""

    def __init__(self, chain, batches=(1,), half=False, graphs=True, **options) -> None:
        spec = chain.spec
        self.device = chain.device(**options)
        bank = normals(spec.noise_seed, 0, spec.draws, steps=len(spec.timesteps), shape=spec.latent_shape)
        self._bank = self.device.allocate_host(bank.nbytes, "the noise")
        self._bank.array[:] = np.frombuffer(bank.tobytes(), np.uint8)
        noise = Noise(self._bank.address, step_coefficients(spec.schedule, spec.timesteps, spec.sigma_normalize))
        try:
            self.slot = Slot(
                self.device, spec, chain.engines(batches, half), noise=noise, batches=batches, graphs=graphs
            )
        except BaseException:
            self._bank.free()
            raise

    def __enter__(self) -> Slot:
        return self.slot

    def __exit__(self, *_) -> None:
        self.slot.close()
        self.slot.close()
        self._bank.free()
        self.device.close()  # raises if memory is still allocated


def assert_close(found: LeakOutputs, expected: LeakOutputs, tolerance: float) -> None:
    for name in NAMES:
        wanted = getattr(expected, name)
        assert getattr(found, name).shape == wanted.shape
        assert np.abs(getattr(found, name) - wanted).max() <= tolerance * max(1.0, np.abs(wanted).max()), name


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("mapped", [True, False])
def test_it_matches_the_cpu(chain, frames, graphs, mapped):
    given = frames(3)
    with OneSlot(chain, (3,), graphs=graphs, mapped=mapped) as slot:
        result = slot.launch(given, 3)()
    assert_close(averaged(result), chain.reference(given), 1e-5)


def test_float16_tensors_give_nearly_the_same_results(chain, frames):
    given = frames(2)
    with OneSlot(chain, (2,), half=True) as slot:
        result = slot.launch(given, 2)()
    assert_close(averaged(result), chain.reference(given), 5e-3)
    assert result.latent.dtype == np.float32


def test_a_partial_batch_gives_the_results_of_a_full_one(chain, frames):
    given = frames(4)
    with OneSlot(chain, (4,)) as slot:
        full = slot.launch(given, 4)()
        part = slot.launch(given[2:3], 4)()
        again = slot.launch(given, 4)()
    assert len(part.latent) == 1
    np.testing.assert_array_equal(part.latent[0], full.latent[2])
    for name in NAMES:
        np.testing.assert_array_equal(getattr(averaged(part), name)[0], getattr(averaged(full), name)[2])
        np.testing.assert_array_equal(getattr(again.outputs, name), getattr(full.outputs, name))


def test_frames_of_any_size_and_layout_use_one_graph(chain, frames):
    large = np.random.default_rng(5).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    views = [frames(1)[0], large, large[100:400:3, 50:500], large[::-1]]  # the staging buffer has to grow
    with OneSlot(chain) as slot:
        results = [slot.launch([view], 1)() for view in views]
    for view, result in zip(views, results, strict=True):
        assert_close(averaged(result), chain.reference([np.ascontiguousarray(view)]), 1e-5)


def test_each_batch_size_has_its_graph(chain, frames):
    given = frames(4)
    with OneSlot(chain, (1, 2, 4)) as slot:
        assert all(nodes > 5 for nodes in slot.nodes.values())
        results = {batch: slot.launch(given[:batch], batch)() for batch in (1, 2, 4)}
    for batch, result in results.items():
        assert len(result.latent) == batch
        assert_close(averaged(result), chain.reference(given[:batch]), 1e-5)


def test_every_launch_has_a_time_for_each_stage(chain, frames):
    with OneSlot(chain) as slot:
        first = slot.launch(frames(1), 1)()
        second = slot.launch(frames(1), 1)()
    for result in (first, second):
        assert tuple(result.latency_ms) == STAGES
        assert all(time >= 0 for time in result.latency_ms.values())
    assert first.latency_ms != second.latency_ms


def test_the_encoders_also_run_separately(chain, frames):
    spec = chain.spec
    images = np.stack([preprocess_reference(frame, spec.image_size) for frame in frames(2)])
    with OneSlot(chain, (2,)) as slot:
        latent = slot.encode(images)
        whole = slot.launch(frames(2), 2)()
        rows = np.random.default_rng(0).standard_normal((3, len(spec.timesteps), *spec.latent_shape), np.float32)
        judged = slot.judge(rows)
    assert np.abs(latent - whole.latent).max() <= 1e-5
    assert judged.scores.shape == (3, len(spec.class_names))
    assert np.isfinite(judged.embedding).all()


def test_a_frame_that_does_not_fit_is_refused_and_the_slot_stays_usable(chain, frames):
    large = np.zeros((1500, 1500, 3), np.uint8)
    with OneSlot(chain, limit=6 << 20) as slot:
        with pytest.raises(OutOfMemoryError, match="the staging buffer of frames of 1500 x 1500"):
            slot.launch([large], 1)
        result = slot.launch(frames(1), 1)()
    assert_close(averaged(result), chain.reference(frames(1)), 1e-5)


def test_a_failed_launch_leaves_no_pending_copies(chain, frames, monkeypatch):
    def fail(*_):
        raise BackendError("no such kernel")

    passed = threading.Event()
    with OneSlot(chain) as slot:
        slot._stream.put(lambda: (time.sleep(0.2), passed.set()))
        with monkeypatch.context() as broken:
            broken.setattr(chain.devices[-1].kernels, "preprocess", fail)
            with pytest.raises(BackendError, match="no such kernel"):
                slot.launch(frames(1), 1)
        assert passed.is_set()
        result = slot.launch(frames(1, 3), 1)()
    assert_close(averaged(result), chain.reference(frames(1, 3)), 1e-5)


@pytest.mark.parametrize("limit", [10_000, 60_000, 2_000_000, 2_200_000])
def test_a_slot_that_does_not_fit_frees_everything(chain, limit):
    with pytest.raises(OutOfMemoryError):
        OneSlot(chain, (64,), limit=limit)
    assert chain.devices[-1].held() == 0
    chain.devices[-1].close()

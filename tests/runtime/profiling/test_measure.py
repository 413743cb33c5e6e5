"""Timing a detector call by call."""

from __future__ import annotations

import time

import numpy as np
import pytest

from leakrt import Detector
from leakrt.core.errors import ModelError
from leakrt.runtime.profiling.measure import MIN_CALLS, Samples, measure

STAGES = ["preprocess", "vae_encoder", "noising", "leak_encoder", "decision"]


@pytest.fixture(scope="module")
def detector(tiny):
    return Detector.load(tiny, threads=1)


@pytest.fixture(scope="module")
def frame(detector):
    return detector.bundle.golden().image


class Broken:
    """A detector that fails after some calls, each of which takes a millisecond."""

    def __init__(self, detector, calls):
        self.detector, self.left = detector, calls

    def check_batch(self, frames):
        self.left -= 1
        if self.left < 0:
            raise ModelError("the graph fell over")
        time.sleep(1e-3)
        return self.detector.check_batch(frames)


@pytest.mark.parametrize("batch", [1, 3])
def test_every_call_times_every_stage_and_the_total(detector, frame, batch):
    found = measure([detector], [frame] * batch, 0.1)
    assert found.batch == batch
    assert list(found.stages) == STAGES
    assert {stage.samples for stage in found.stages.values()} == {found.end_to_end.samples}
    assert found.images_per_second == pytest.approx(batch * found.end_to_end.samples / found.seconds)
    assert found.seconds >= 0.1


def test_stages_and_outside_add_up_to_the_call(detector, frame):
    samples = Samples()
    for _ in range(5):
        samples.call(detector, [frame] * 3)
    for call, outside, *stages in zip(samples.end_to_end, samples.outside, *samples.stages.values(), strict=True):
        assert sum(stages) + outside == pytest.approx(call)
        assert outside > 0
    assert samples.end - samples.begin >= sum(samples.end_to_end) / 1e3


def test_a_slower_stage_shows_in_that_stage(detector, frame, monkeypatch):
    backend = detector._guarded.variant.pipeline._backend
    slow = backend.vae_encoder
    monkeypatch.setattr(backend, "vae_encoder", lambda image: (time.sleep(0.005), slow(image))[1])
    found = measure([detector], [frame] * 2, 0.1)
    assert found.stages["vae_encoder"].p50 >= 10  # two images, one after another
    assert found.end_to_end.p50 >= found.stages["vae_encoder"].p50
    assert all(found.stages[name].p50 < 10 for name in STAGES if name != "vae_encoder")


def test_warm_up_calls_are_not_samples(detector, frame):
    counted = Broken(detector, 10**6)
    found = measure([counted], [frame], 0.05)
    assert 10**6 - counted.left == found.end_to_end.samples + 10


def test_slow_calls_are_made_at_least_three_times(detector, frame, monkeypatch):
    run = detector.check_batch
    monkeypatch.setattr(detector, "check_batch", lambda frames: (time.sleep(0.06), run(frames))[1])
    assert measure([detector], [frame], 0.01).end_to_end.samples == MIN_CALLS


def test_streams_run_concurrently_and_are_counted_together(tiny, frame):
    class Waiting(Broken):
        def check_batch(self, frames):
            time.sleep(0.02)
            return super().check_batch(frames)

    detectors = [Waiting(Detector.load(tiny, threads=1), 10**6) for _ in range(3)]
    found = measure(detectors, [frame], 0.4)
    assert found.end_to_end.samples >= 3 * MIN_CALLS
    # a single stream reaches at most 47 images per second
    assert found.images_per_second > 55


@pytest.mark.parametrize("calls", [0, 12])
def test_a_stream_that_fails_stops_all_and_its_error_is_raised(detector, frame, calls):
    begin = time.perf_counter()
    with pytest.raises(ModelError, match="fell over"):
        measure([detector, Broken(detector, calls), detector], [frame], 60)
    assert time.perf_counter() - begin < 30


def test_progress_ends_with_all_done(detector, frame):
    reports = []
    found = measure([detector], [frame] * 2, 0.8, progress=lambda *what: reports.append(what))
    assert reports[-1] == ("batch 2", 2 * found.end_to_end.samples, 2 * found.end_to_end.samples)
    assert all(done < total for _, done, total in reports[:-1])
    assert len(reports) >= 2


def test_frames_of_any_size_are_accepted(detector):
    assert measure([detector], [np.zeros((97, 41, 3), np.uint8)], 0.01).end_to_end.samples >= MIN_CALLS

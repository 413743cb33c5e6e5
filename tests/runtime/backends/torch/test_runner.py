"""Runners: plain runs, joining of parts, packing and unpacking of outputs."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from leakrt.runtime.backends.torch.chain import STAGES
from leakrt.runtime.backends.torch.runner import DeviceResult, PlainRunner, exact, joined, pack, unpack

CPU = torch.device("cpu")
ZEROS = np.zeros((2, 3, 4, 4), np.float32)


class Steps:
    """A chain of three stages: halve, double and sum the image."""

    def __call__(self, image, mark):
        mark(0)
        latent = image / 2
        mark(1)
        noised = 2 * latent
        mark(2)
        scores = noised.sum((1, 2, 3)).reshape(-1, 1)
        mark(3)
        return latent, scores


def outputs(batch, draws=3):
    """Make outputs like a chain's: one row per image for the latent, one per draw for the others."""
    generator = torch.Generator().manual_seed(batch)
    shapes = ((batch, 4, 5, 5), (batch * draws, 7), (batch * draws, 12))
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_unpacking_restores_the_outputs_of_the_first_images(count):
    made = outputs(4)
    packed = pack(made, 4)
    assert packed.shape == (4, 4 * 5 * 5 + 3 * 7 + 3 * 12)
    found = unpack(packed.numpy()[:count], [tuple(t.shape) for t in made], 4)
    for array, tensor in zip(found, made, strict=True):
        np.testing.assert_array_equal(array, tensor[: count * len(tensor) // 4].numpy())


def test_unpacked_outputs_are_copies():
    made = outputs(2)
    packed = pack(made, 2).numpy()
    found = unpack(packed, [tuple(t.shape) for t in made], 2)
    packed[...] = 0
    np.testing.assert_array_equal(found[1], made[1].numpy())


def test_parts_are_joined_in_order_and_their_stage_times_added():
    parts = [DeviceResult((np.full((n, 2), n, np.float32),), stages) for n, stages in
             ((2, {"copy_in": 1.0, "vae": 2.0}), (1, {"vae": 5.0}))]  # fmt: skip
    found = joined(parts)
    np.testing.assert_array_equal(found.arrays[0][:, 0], [2, 2, 1])
    assert found.latency_ms == {"copy_in": 1.0, "vae": 7.0}


@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_plain_runner_returns_host_outputs_and_stage_times(count):
    images = np.random.default_rng(1).standard_normal((count, 3, 7, 5), np.float32)
    found = PlainRunner(Steps(), CPU).run(images)
    np.testing.assert_array_equal(found.arrays[0], images / 2)
    np.testing.assert_allclose(found.arrays[1][:, 0], images.sum((1, 2, 3)), rtol=1e-4, atol=1e-5)
    assert tuple(found.latency_ms) == STAGES
    assert all(milliseconds >= 0 for milliseconds in found.latency_ms.values())


def test_the_plain_runner_returns_copies():
    """A chain may overwrite its outputs at the next batch."""
    kept = torch.zeros(2, 3)
    first = PlainRunner(lambda image, mark: [mark(place) for place in range(4)] and (kept,), CPU).run(ZEROS)
    kept.fill_(9)
    assert not first.arrays[0].any()


def test_a_chain_runs_without_gradients_and_in_the_precision_it_is_given():
    seen = {}

    def chain(image, mark):
        seen["gradients"] = torch.is_grad_enabled()
        flags = torch.backends.cudnn
        seen["flags"] = flags.benchmark, flags.deterministic, flags.allow_tf32
        return Steps()(image, mark)

    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic
    PlainRunner(chain, CPU).run(ZEROS)
    assert seen == {"gradients": False, "flags": (False, True, False)}
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic) == before
    assert torch.is_grad_enabled()


def test_precision_settings_are_restored_after_an_error():
    before = torch.backends.cudnn.allow_tf32
    with pytest.raises(ZeroDivisionError), exact():
        raise ZeroDivisionError
    assert torch.backends.cudnn.allow_tf32 == before


def test_forgetting_on_the_cpu_leaves_the_runner_usable():
    runner = PlainRunner(Steps(), CPU)
    runner.forget(1)
    assert len(runner.run(np.ones((2, 3, 4, 4), np.float32)).arrays[0]) == 2

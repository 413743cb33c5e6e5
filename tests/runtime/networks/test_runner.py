"""What runners make of a batch: parts joined, outputs packed into one copy and taken apart again."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from leakrt.runtime.networks.runner import DeviceResult, joined, pack, unpack


def outputs(batch, draws=3):
    """As of a chain: the latent has a row an image, the others one a draw."""
    generator = torch.Generator().manual_seed(batch)
    shapes = ((batch, 4, 5, 5), (batch * draws, 7), (batch * draws, 12))
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_packed_outputs_come_apart_as_they_were_for_as_many_images_as_are_wanted(count):
    made = outputs(4)
    packed = pack(made, 4)
    assert packed.shape == (4, 4 * 5 * 5 + 3 * 7 + 3 * 12)
    found = unpack(packed.numpy()[:count], [tuple(t.shape) for t in made], 4)
    for array, tensor in zip(found, made, strict=True):
        np.testing.assert_array_equal(array, tensor[: count * len(tensor) // 4].numpy())


def test_what_is_taken_apart_is_a_copy():
    made = outputs(2)
    packed = pack(made, 2).numpy()
    found = unpack(packed, [tuple(t.shape) for t in made], 2)
    packed[...] = 0
    np.testing.assert_array_equal(found[1], made[1].numpy())


def test_parts_are_joined_in_order_and_their_stages_added_up():
    parts = [DeviceResult((np.full((n, 2), n, np.float32),), stages) for n, stages in
             ((2, {"copy_in": 1.0, "vae": 2.0}), (1, {"vae": 5.0}))]  # fmt: skip
    found = joined(parts)
    np.testing.assert_array_equal(found.arrays[0][:, 0], [2, 2, 1])
    assert found.latency_ms == {"copy_in": 1.0, "vae": 7.0}

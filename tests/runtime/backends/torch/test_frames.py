"""FrameFeed with the kernels' host version, into torch tensors."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from leakrt import _grid
from leakrt.core.preprocess import preprocess_reference
from leakrt.runtime.backends.torch.frames import FrameFeed

CPU = torch.device("cpu")


def frames(count, first=0, top=90):
    rng = np.random.default_rng(first)
    return [rng.integers(0, 256, (*rng.integers(20, top, 2), 3), np.uint8) for _ in range(count)]


def fed(feed, given, side=24, batch=8):
    image = torch.full((batch, 3, side, side), 7.0)
    staged = feed.stage(given)
    staged.copy()
    feed.preprocess(staged, image)
    return image.numpy()


def test_each_frame_matches_the_cpu_and_other_rows_are_unchanged():
    given = frames(5)
    found = fed(FrameFeed(_grid, 24, CPU), given)
    for image, frame in zip(found, given, strict=False):
        assert np.abs(image - preprocess_reference(frame, 24)).max() <= 2e-6
    assert (found[5:] == 7.0).all()


def test_the_staging_buffer_grows_on_demand_and_is_reused():
    feed = FrameFeed(_grid, 24, CPU)
    for given in (frames(1), frames(2, 1), frames(1, 3, 1500), frames(3, 2)):
        found = fed(feed, given)
        assert np.abs(found[0] - preprocess_reference(given[0], 24)).max() <= 2e-6
    room = feed.stage(frames(1)).host.untyped_storage().data_ptr()
    assert feed.stage(frames(4, 3)).host.untyped_storage().data_ptr() == room


def test_a_view_of_a_larger_frame_is_staged_without_the_rest_of_it():
    whole = frames(1, 5, 91)[0]
    view = whole[3:20, 2:19]
    assert np.abs(fed(FrameFeed(_grid, 16, CPU), [view], 16)[0] - preprocess_reference(view, 16)).max() <= 2e-6

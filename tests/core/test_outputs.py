"""Outputs of several draws are averaged, those of several batches joined."""

from __future__ import annotations

import numpy as np

from leakrt.core.outputs import LeakOutputs


def outputs(rows: int) -> LeakOutputs:
    rng = np.random.default_rng(3)
    return LeakOutputs(*(rng.standard_normal((rows, n)).astype(np.float32) for n in (3, 7, 7, 5)))


def test_one_draw_is_returned_unchanged():
    single = outputs(4)
    assert single.average_draws(1) is single


def test_sample_major_draws_are_averaged_in_every_output():
    many = outputs(6)
    mean = many.average_draws(3)
    for name in ("scores", "embedding", "gates", "step_weights"):
        array, averaged = getattr(many, name), getattr(mean, name)
        assert averaged.dtype == np.float32
        assert averaged.shape == (2, array.shape[1])
        np.testing.assert_allclose(averaged[0], array[:3].mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(averaged[1], array[3:].mean(axis=0), atol=1e-6)


def test_a_nan_in_one_draw_survives_averaging():
    many = outputs(4)
    many.scores[1, 0] = np.nan
    scores = many.average_draws(2).scores
    assert np.isnan(scores[0, 0])
    assert np.isfinite(scores[1]).all()


def test_no_images_give_no_rows():
    assert outputs(0).average_draws(2).scores.shape == (0, 3)


def test_batches_are_joined_row_by_row_in_order():
    parts = [outputs(rows) for rows in (2, 1, 3)]
    joined = LeakOutputs.concatenate(parts)
    for name in ("scores", "embedding", "gates", "step_weights"):
        rows = [row for part in parts for row in getattr(part, name)]
        np.testing.assert_array_equal(getattr(joined, name), rows)

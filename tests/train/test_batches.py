"""Batches: each image once per epoch, as a function of seed, epoch and image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
from latent_sets import latent_set
from runs import CLASSES, SPEC

from leakrt.core.noise import noise_steps, normals
from leakrt.core.schedule import step_coefficients
from leakrt.train.batches import Batches, LatentSet
from leakrt.train.config import TrainConfig
from leakrt.train.record_cache import RecordTable

SPEC = replace(SPEC, class_names=CLASSES)
CONFIG = TrainConfig(epochs=4, batch_size=8, widths=(8, 12), threads=1, views="flip", mixup=0.0)
DATA = latent_set(SPEC, 26, 0)


def epoch(number, **changes):
    return list(Batches(DATA, SPEC, replace(CONFIG, **changes)).epoch(number))


def test_noise_depends_only_on_seed_epoch_and_image():
    def noised(number, size, seed=0):
        return np.concatenate([batch.noised for batch in epoch(number, batch_size=size, seed=seed)])

    first = noised(0, 13)
    assert np.array_equal(first[:24], noised(0, 8))
    assert not np.array_equal(first, noised(1, 13))
    assert not np.array_equal(first, noised(0, 13, seed=1))


def test_only_full_batches_are_given_and_no_image_twice():
    batches = epoch(0)
    assert [len(batch.targets) for batch in batches] == [8, 8, 8]
    assert len(Batches(DATA, SPEC, CONFIG)) == 3
    rows = np.concatenate([batch.noised for batch in batches]).reshape(24, -1)
    assert len(np.unique(rows, axis=0)) == 24


def test_a_set_smaller_than_a_batch_is_one_batch():
    small = Batches(latent_set(SPEC, 5, 3), SPEC, CONFIG)
    assert [len(batch.targets) for batch in small.epoch(0)] == [5]


def test_targets_are_the_classes_of_the_images():
    for batch in epoch(2):
        assert set(np.unique(batch.targets)) == {0.0, 1.0}
        assert np.array_equal(batch.targets.sum(axis=1), np.ones(8))
        spread = batch.noised[:, 0].std(axis=(1, 2, 3))  # little noise: the deviation identifies the class
        order = [spread[batch.targets[:, k] == 1].mean() for k in range(3) if (batch.targets[:, k] == 1).any()]
        assert order == sorted(order)


def test_noise_is_never_that_of_inference():
    latents = DATA.latents.take(np.arange(26), np.zeros(26, np.int64))
    bank = normals(SPEC.noise_seed, 0, 1, steps=len(SPEC.timesteps), shape=SPEC.latent_shape)
    fixed = noise_steps(latents, bank, step_coefficients(SPEC.schedule, SPEC.timesteps, SPEC.sigma_normalize))
    seen = np.concatenate([batch.noised for batch in epoch(0)])
    assert min(np.abs(fixed - one).max(axis=(1, 2, 3, 4)).min() for one in seen) > 0.1


def test_mixup_mixes_images_and_targets_by_the_same_share():
    batches = epoch(1, mixup=0.4)
    shares = np.concatenate([batch.targets for batch in batches])
    assert np.allclose(shares.sum(axis=1), 1.0)
    assert ((shares > 0) & (shares < 1)).any()
    again = epoch(1, mixup=0.4)
    assert all(np.array_equal(a.noised, b.noised) for a, b in zip(batches, again, strict=True))


def test_views_are_drawn_again_each_epoch():
    assert not np.array_equal(epoch(0)[0].noised, epoch(1)[0].noised)


def test_a_share_of_the_latents_are_of_augmented_copies():
    table = np.zeros((200, 5, *SPEC.latent_shape), np.float32)
    table[:] = np.arange(5)[None, :, None, None, None]
    data = LatentSet(RecordTable.of(table), np.arange(200) % len(SPEC.class_names))
    config = replace(CONFIG, augment=0.6, copies=3, mixup=0.0, batch_size=8)
    alpha = step_coefficients(SPEC.schedule, SPEC.timesteps, SPEC.sigma_normalize)[0, 0]
    noised = np.concatenate([batch.noised[:, 0] for batch in Batches(data, SPEC, config).epoch(0)])
    seen = np.rint(noised.mean(axis=(1, 2, 3)) / alpha).astype(int)
    counts = np.bincount(seen, minlength=5) / len(seen)
    assert counts[2:].sum() == pytest.approx(0.6, abs=0.1)
    assert (counts > 0.05).all()

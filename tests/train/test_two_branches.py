"""Late fusion of two branches: scores, embedding, prototypes and fitted weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from runs import CLASSES, SPEC

from leakrt.core.support import Support
from leakrt.train.config import PixelConfig, TrainConfig
from leakrt.train.two_branches import TwoBranchEncoder, fit_weights, has_prototypes, make_encoder, pixel_channels

TWO = replace(SPEC, class_names=CLASSES, branch_channels=5, embedding_dim=24)
CONFIG = TrainConfig(widths=(6, 8), pixel=PixelConfig(widths=(7, 9), crop=32))


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    made = TwoBranchEncoder(TWO, CONFIG)
    made.weights.copy_(torch.tensor([0.7, 1.9]))
    made.pixel_branch.head.log_scale.data.fill_(0.4)
    return made.eval()


def noised(images=3):
    return torch.randn(images, len(TWO.timesteps), *TWO.latent_shape, generator=torch.Generator().manual_seed(2))


def test_scores_are_the_weighted_sum_and_each_branch_sees_its_own_channels(encoder):
    x = noised()
    with torch.inference_mode():
        scores, embedding, gates, steps = encoder(x)
        latent, pixel = encoder.latent_branch(x[:, :, :4]), encoder.pixel_branch(x[:, :, 4:])
    torch.testing.assert_close(scores, 0.7 * latent[0] + 1.9 * pixel[0])
    torch.testing.assert_close(gates, torch.cat([latent[2], pixel[2]], dim=1))
    torch.testing.assert_close(steps.sum(dim=1), torch.ones(3))
    assert embedding.shape == (3, 24)
    changed = x.clone()
    changed[:, :, 4:] = 0
    with torch.inference_mode():
        torch.testing.assert_close(encoder(changed)[1][:, :12], embedding[:, :12])


def test_distances_in_the_joined_space_add_up_to_the_branches_scores(encoder):
    """With one prototype a class, minus the score is the joined gated distance over sqrt(D)."""
    one = replace(TWO, prototypes_per_class=1)
    torch.manual_seed(3)
    made = TwoBranchEncoder(one, CONFIG)
    made.weights.copy_(torch.tensor([0.7, 1.9]))
    made.eval()
    with torch.inference_mode():
        scores, embedding, gates, _ = made(noised())
    support = Support(
        mean=np.zeros(24, np.float32),
        projection=np.eye(24, 4, dtype=np.float32),
        points=np.zeros((1, 4), np.float32),
        bandwidth=1.0,
        prototypes=made.prototypes.detach().numpy(),
    )
    for row in range(3):
        distances = support.prototype_distances(embedding[row].numpy(), gates[row].numpy(), branches=2)
        assert distances.shape == (2, 3, 1)
        np.testing.assert_allclose(distances.sum(axis=0)[:, 0] / np.sqrt(12), -scores[row], rtol=1e-4)


def test_weights_favour_the_branch_that_knows_and_sharpen_scores_that_are_too_soft():
    draw = np.random.default_rng(0)
    labels = draw.integers(3, size=400)
    truth = np.eye(3)[labels]
    good = (truth + draw.normal(0, 0.4, truth.shape)).astype(np.float32)
    useless = draw.normal(0, 1, truth.shape).astype(np.float32)
    known, unknown = fit_weights([good, useless], labels)
    assert known > 2 > 0.5 > unknown


def test_an_encoder_has_the_branches_of_its_spec():
    image = np.zeros((2, 3, 32, 32), np.float32)
    single = make_encoder(replace(TWO, branch_channels=0, embedding_dim=12), CONFIG)
    assert pixel_channels(single, image).shape == (2, 0, 4, 4)
    assert pixel_channels(make_encoder(TWO, CONFIG), image).shape == (2, 5, 4, 4)
    assert has_prototypes(single)
    assert not has_prototypes(make_encoder(TWO, replace(CONFIG, head="linear")))

"""The training loss against its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from leakrt.train.config import TrainConfig
from leakrt.train.losses import step_entropy, training_loss


def test_entropy_is_1_for_even_weights_0_for_one_step_and_finite_at_its_edge():
    assert float(step_entropy(torch.full((3, 4), 0.25))) == pytest.approx(1.0)
    assert float(step_entropy(torch.ones(3, 1))) == 0.0
    edge = torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
    entropy = step_entropy(edge)
    entropy.backward()
    assert float(entropy.detach()) == pytest.approx(0.0, abs=1e-6)
    assert torch.isfinite(edge.grad).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_the_loss_is_cross_entropy_minus_weighted_entropy(smoothing, weight):
    draw = np.random.default_rng(0)
    scores, weights = draw.standard_normal((5, 3)), draw.dirichlet(np.ones(4), 5)
    targets = draw.dirichlet(np.ones(3), 5)  # as mixup produces
    log_shares = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    soft = (1 - smoothing) * targets + smoothing / 3
    entropy = -(weights * np.log(weights)).sum(1).mean() / math.log(4)
    wanted = -(soft * log_shares).sum(1).mean() - weight * entropy
    tensors = [torch.from_numpy(a) for a in (scores, weights, targets)]
    config = TrainConfig(label_smoothing=smoothing, entropy_weight=weight)
    assert float(training_loss(*tensors, config=config)) == pytest.approx(wanted, abs=1e-6)

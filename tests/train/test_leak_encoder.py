"""The leak encoder against its formulas in NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from leakrt.core.noise import noise_steps, normals
from leakrt.core.schedule import step_coefficients
from leakrt.core.spec import ModelSpec
from leakrt.train.config import TrainConfig
from leakrt.train.leak_encoder import ConvEncoder, LeakEncoder, PrototypeHead, StepAttention

SPEC = ModelSpec(
    class_names=("a", "b", "c"),
    real_class="b",
    image_size=56,
    timesteps=(0, 20, 150),
    embedding_dim=10,
    prototypes_per_class=4,
)
CONFIG = TrainConfig(widths=(6, 8))


def noised(batch: int, seed: int = 0):
    draw = np.random.default_rng(seed)
    return torch.from_numpy(draw.standard_normal((batch, 3, *SPEC.latent_shape)).astype(np.float32))


@pytest.fixture
def encoder() -> LeakEncoder:
    torch.manual_seed(3)
    made = LeakEncoder(SPEC, CONFIG)
    with torch.no_grad():
        made(noised(16, 9))  # updates the statistics of batch norm
    return made.eval()


def numpy_of(tensor) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float64)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_it_gives_scores_embedding_gates_and_step_weights_of_each_image(encoder, batch):
    with torch.no_grad():
        scores, embedding, gates, weights = encoder(noised(batch))
    assert [tuple(t.shape) for t in (scores, embedding, gates, weights)] == [(batch, n) for n in (3, 10, 10, 3)]
    assert np.allclose(weights.sum(1), 1.0, atol=1e-6)
    assert 0 < gates.min() < gates.max() < 1


def test_the_outputs_of_an_image_do_not_depend_on_its_batch(encoder):
    with torch.no_grad():
        together = encoder(noised(5))
        alone = [encoder(noised(5)[i : i + 1]) for i in range(5)]
    for k in range(4):
        assert np.allclose(torch.cat([one[k] for one in alone]), together[k], atol=1e-5)


def test_embedding_and_gates_are_pooled_by_the_step_weights(encoder):
    x = noised(4)
    with torch.no_grad():
        _, embedding, gates, weights = encoder(x)
        steps = [encoder.encoder(x[:, t] * encoder.step_scale[t]) for t in range(3)]
        w = numpy_of(weights)
        wanted = sum(w[:, t : t + 1] * numpy_of(steps[t]) for t in range(3))
        wanted_gates = sum(w[:, t : t + 1] * numpy_of(encoder.gate(steps[t])) for t in range(3))
    assert np.allclose(embedding, wanted, atol=1e-5)
    assert np.allclose(gates, wanted_gates, atol=1e-5)


@pytest.mark.parametrize("log_temperature", [-9.0, -0.7, 0.0, 1.2, 9.0])
def test_scores_are_the_soft_min_of_gated_distances(log_temperature):
    torch.manual_seed(0)
    head = PrototypeHead(3, 4, 10)
    with torch.no_grad():
        head.log_temperature.fill_(log_temperature)
        head.log_scale.fill_(0.3)
    draw = np.random.default_rng(1)
    h, w = draw.standard_normal((6, 10)).astype(np.float32), draw.random((6, 10)).astype(np.float32)
    found = numpy_of(head(torch.from_numpy(h), torch.from_numpy(w)))
    p, tau = numpy_of(head.prototypes), float(np.clip(np.exp(log_temperature), 0.05, 5.0))
    for n in range(6):
        for k in range(3):
            d = [np.exp(0.3) * (w[n] * (h[n] - p[k, m]) ** 2).sum() / np.sqrt(10) for m in range(4)]
            smallest = min(d)
            soft = smallest - tau * np.log(np.mean([np.exp(-(x - smallest) / tau) for x in d]))
            assert found[n, k] == pytest.approx(-soft, abs=1e-4)


def test_the_soft_min_of_one_prototype_is_its_distance():
    head = PrototypeHead(2, 1, 4)
    h, w = torch.randn(3, 4), torch.rand(3, 4)
    wanted = -(w[:, None] * (h[:, None] - head.prototypes[:, 0]) ** 2).sum(-1) / 2.0
    assert np.allclose(head(h, w).detach(), wanted.detach(), atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_input_of_each_step_is_normalised_to_unit_variance(normalize):
    spec = replace(SPEC, sigma_normalize=normalize)
    encoder = LeakEncoder(spec, CONFIG)
    encoder.set_latent_statistics(0.7)
    latents = 0.7 * np.random.default_rng(0).standard_normal((40, *spec.latent_shape)).astype(np.float32)
    steps = noise_steps(
        latents,
        normals(5, 0, 1, steps=3, shape=spec.latent_shape),
        step_coefficients(spec.schedule, spec.timesteps, normalize),
    )
    before = steps.reshape(40, 3, -1).std(axis=(0, 2))
    assert before.max() > (10 if normalize else 1.05) * before.min()  # the steps differ before normalisation
    assert np.allclose(before * numpy_of(encoder.step_scale), 1.0, atol=0.05)


def test_attention_ignores_dropped_steps_and_uses_its_bias():
    torch.manual_seed(0)
    attention, h = StepAttention(6, 3), torch.randn(4, 3, 6)
    kept = torch.tensor([[True, False, True], [True, True, True], [False, False, True], [True, True, False]])
    weights = attention(h, kept).detach()
    assert (weights[~kept] == 0).all()
    assert np.allclose(weights.sum(1), 1.0, atol=1e-6)
    assert weights[2, 2] == 1.0
    with torch.no_grad():
        attention.bias[1] = 50.0
    assert (attention(h, None).detach()[:, 1] > 0.99).all()


@pytest.mark.parametrize("dropout", [0.0, 0.3, 0.9])
def test_in_training_steps_are_dropped_at_their_rate_and_one_is_always_kept(dropout):
    torch.manual_seed(1)
    encoder = LeakEncoder(SPEC, replace(CONFIG, step_dropout=dropout))
    kept = encoder._kept_steps(4000, 3)
    assert kept.any(dim=1).all()
    wanted = (1 - dropout) + dropout / 3  # kept by the draw, or as the guaranteed step
    assert float(kept.float().mean()) == pytest.approx(wanted, abs=0.02)
    encoder.train()
    weights = encoder(noised(64))[3]
    assert ((weights == 0).any() == (dropout > 0)).item()


def test_step_attention_is_trained_with_the_rest(encoder):
    encoder.train()
    scores, _, _, _ = encoder(noised(16))
    torch.nn.functional.cross_entropy(scores, torch.arange(16) % 3).backward()
    shift = "attention.score.2.bias"  # softmax is invariant to it: its gradient is zero up to rounding
    learning = [(name, p) for name, p in encoder.named_parameters() if name != shift]
    assert [name for name, p in learning if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_the_conv_encoder_pools_mean_and_deviation_of_every_channel():
    torch.manual_seed(0)
    conv = ConvEncoder(4, (5, 7), 6, dropout=0.0).eval()
    x = torch.randn(3, 4, 9, 11)
    with torch.no_grad():
        features = numpy_of(conv.stages(x))
        assert features.shape == (3, 7, 5, 6)
        deviation = np.sqrt(features.var(axis=(2, 3)) + 1e-5)
        pooled = np.concatenate([features.mean(axis=(2, 3)), deviation], axis=1)
        wanted = conv.project(torch.from_numpy(pooled.astype(np.float32)))
    assert np.allclose(conv(x).detach(), wanted, atol=1e-5)


def test_the_linear_ablation_has_no_prototypes():
    encoder = LeakEncoder(SPEC, replace(CONFIG, head="linear")).eval()
    assert encoder(noised(2))[0].shape == (2, 3)
    with pytest.raises(AttributeError):
        _ = encoder.prototypes


def test_the_same_seed_gives_the_same_weights():
    torch.manual_seed(7)
    first = LeakEncoder(SPEC, CONFIG).state_dict()
    torch.manual_seed(7)
    second = LeakEncoder(SPEC, CONFIG).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)

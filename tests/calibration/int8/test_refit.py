"""The refit moves a copy of the teacher closer to the outputs of the teacher, which doesn't change."""

import numpy as np
import pytest
from bundles import TINY_SPEC

torch = pytest.importorskip("torch")

from leakrt.calibration.int8.refit import LatentPairs, RefitConfig, refit
from leakrt.core.progress import silent
from leakrt.train.config import TrainConfig
from leakrt.train.leak_encoder import LeakEncoder
from leakrt.train.predict import predict

CONFIG = TrainConfig(widths=(5, 7), batch_size=11)  # parts of 8 and 3
COUNT = 60


def latents(seed):
    return np.random.default_rng(seed).standard_normal((COUNT, *TINY_SPEC.latent_shape)).astype(np.float32)


class Held(list):
    """Latents in memory."""

    def read(self, rows):
        return np.stack([self[row] for row in rows])


def stored(values):
    return Held(values)


def rounded(values):
    """Simulate a coarse quantiser: rounding and a bias, as from negative values that round to zero."""
    return np.round(values * 2) / 2 + np.float32(0.4)


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    return LeakEncoder(TINY_SPEC, CONFIG).eval()


def student_of(teacher, config=CONFIG, **recipe):
    exact = latents(0)
    pairs = LatentPairs(stored(exact), stored(rounded(exact)))
    return refit(teacher, pairs, TINY_SPEC, config=config, recipe=RefitConfig(**recipe), progress=silent)


def distance(student, teacher):
    """Distance of the student's embeddings of int8 latents from the teacher's of fp32 ones, on unseen images."""
    unseen = latents(1)
    found, wanted = predict(student, TINY_SPEC, rounded(unseen)), predict(teacher, TINY_SPEC, unseen)
    return float(np.mean((found.embedding - wanted.embedding) ** 2))


def test_the_student_is_closer_to_the_teacher_on_rounded_latents(teacher):
    before = distance(teacher, teacher)
    assert distance(student_of(teacher, epochs=8, learning_rate=3e-3), teacher) < 0.6 * before


def test_a_student_of_exact_latents_agrees_with_the_teacher(teacher):
    exact, unseen = latents(0), latents(1)
    student = refit(
        teacher,
        LatentPairs(stored(exact), stored(exact)),
        TINY_SPEC,
        config=CONFIG,
        recipe=RefitConfig(),
        progress=silent,
    )
    found, wanted = (predict(encoder, TINY_SPEC, unseen).embedding for encoder in (student, teacher))
    assert float(np.mean((found - wanted) ** 2)) < 1e-3 * float(wanted.var())


def test_the_teacher_and_the_batch_statistics_stay(teacher):
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    student = student_of(teacher)
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    moved = {k for k, v in student.state_dict().items() if not torch.equal(before[k], v)}
    assert "head.prototypes" in moved
    assert not {k for k in moved if "running" in k or "num_batches" in k}
    assert not student.training
    assert not any(p.requires_grad for p in student.parameters())


def test_the_same_pairs_give_the_same_weights_and_another_seed_gives_others(teacher):
    first, again = student_of(teacher), student_of(teacher)
    other = student_of(teacher, TrainConfig(widths=(5, 7), batch_size=11, seed=1))
    assert torch.equal(first.prototypes, again.prototypes)
    assert not torch.equal(first.prototypes, other.prototypes)


def test_fewer_images_than_a_batch_are_one_batch(teacher):
    seen = []
    exact = latents(0)[:3]
    pairs = LatentPairs(stored(exact), stored(rounded(exact)))
    refit(teacher, pairs, TINY_SPEC, config=CONFIG, recipe=RefitConfig(), progress=lambda *step: seen.append(step))
    assert seen == [("refit", 1, 1)]

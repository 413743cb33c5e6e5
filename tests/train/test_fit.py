"""What is fitted after training, and verdicts of a run in torch."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
from runs import COUNTS, tiny_run

from leakrt.core.errors import CheckpointError, DataError, UsageError
from leakrt.core.noise import noise_steps, normals
from leakrt.core.schedule import step_coefficients
from leakrt.train.fit import DECISION, DENSITY, fit_run, open_fitted
from leakrt.train.judge_images import judge_images
from leakrt.train.predict import predict, run_encoder
from leakrt.train.run import Run


@pytest.fixture
def run(tmp_path) -> Run:
    """A copy of the run alone: data, encoder and latents stay where they are."""
    return Run.open(shutil.copytree(tiny_run() / "run", tmp_path / "run"))


def test_density_and_decision_are_written_once_and_taken_again(run):
    first = fit_run(run)
    written = {name: (run.path / name).stat().st_mtime_ns for name in (DECISION, DENSITY)}
    again = open_fitted(run)
    assert again.judge.decision == first.judge.decision
    assert again.judge.support.to_bytes() == first.judge.support.to_bytes()
    assert {name: (run.path / name).stat().st_mtime_ns for name in written} == written


def test_another_rate_moves_the_thresholds_alone(run):
    first, second = fit_run(run, 0.05), fit_run(run, 0.2)
    assert second.judge.decision.false_alarm_rate == 0.2
    assert second.judge.support.to_bytes() == first.judge.support.to_bytes()
    assert open_fitted(run).judge.decision.false_alarm_rate == 0.2


def test_what_was_fitted_to_other_weights_is_not_believed(run):
    wanted = fit_run(run).judge.decision
    text = (run.path / DECISION).read_text()
    (run.path / DECISION).write_text(text.replace('"weights": "', '"weights": "00').replace("0.05", "0.11"))
    assert open_fitted(run).judge.decision == wanted
    (run.path / DENSITY).write_bytes(b"not safetensors")
    assert open_fitted(run).judge.decision == wanted


def test_thresholds_rest_on_validation_images_alone(run):
    fitted = fit_run(run)
    assert fitted.judge.decision.validation_real == COUNTS["val"]
    assert len(fitted.judge.support.points) == 3 * COUNTS["train"]


def test_a_rate_that_the_validation_faces_can_not_carry_is_refused(run):
    with pytest.raises(DataError, match=r"can't support a false-alarm rate of 0.01"):
        fit_run(run, 0.01)
    with pytest.raises(UsageError, match="false-alarm rate"):
        fit_run(run, 1.5)


def test_an_unfinished_run_is_refused(run):
    text = (run.path / "run.json").read_text()
    (run.path / "run.json").write_text(text.replace('"finished": true', '"finished": false'))
    with pytest.raises(CheckpointError, match="not finished"):
        open_fitted(Run.open(run.path))


def test_outputs_are_those_of_the_reference_noise_averaged_over_draws(run):
    spec, encoder, latents = run.spec, run.encoder(), run.latents("test")
    bank = normals(spec.noise_seed, 0, spec.draws, len(spec.timesteps), spec.latent_shape)
    noised = noise_steps(latents, bank, step_coefficients(spec.schedule, spec.timesteps, spec.sigma_normalize))
    wanted = run_encoder(encoder, noised).average_draws(spec.draws)
    found = predict(encoder, spec, latents)
    assert len(found.scores) == 3 * COUNTS["test"]
    assert np.abs(found.scores - wanted.scores).max() < 1e-4 * np.abs(wanted.scores).max()
    assert np.allclose(found.step_weights.sum(axis=1), 1.0, atol=1e-5)


def test_no_latents_give_no_outputs(run):
    assert predict(run.encoder(), run.spec, run.latents("test")[:0]).scores.shape == (0, 3)


def test_images_get_the_verdicts_of_their_cached_latents(run):
    fitted = open_fitted(run)
    items = run.of("test")
    found = judge_images(fitted, [Path(item.path) for item in items])
    outputs = fitted.predict("test")
    wanted = [run.spec.class_names[k] for k in outputs.scores.argmax(axis=1)]
    assert [max(v.scores, key=v.scores.__getitem__) for v in found] == wanted
    assert {v.backend for v in found} == {"torch"}


def test_unreadable_images_give_an_error_and_the_others_a_verdict(run, image_folder, tmp_path):
    folder = image_folder(3)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nand no more")
    paths = [*sorted(folder.iterdir()), tmp_path / "gone.png"]
    found = judge_images(open_fitted(run), paths)
    assert [v.path for v in found] == [str(p) for p in paths]
    assert [v.error is not None for v in found] == [p.name in ("broken.png", "gone.png") for p in paths]


def test_training_finds_the_textures(run):
    labels, scores = run.labels("test"), open_fitted(run).predict("test").scores
    assert (scores.argmax(axis=1) == labels).mean() > 0.5  # by chance a third

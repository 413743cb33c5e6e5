"""The parity check: equal graphs pass, changed graphs fail."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxslim")
from runs import SPEC, tiny_run

from leakrt.core.errors import ParityError
from leakrt.export.exporter import export_graphs, load_graphs
from leakrt.export.parity import RELATIVE_TOLERANCE, Source, measure, run_graphs, run_source
from leakrt.train.fit import fit_run
from leakrt.train.run import Run


@pytest.fixture(scope="module")
def exported():
    """A run's networks, its graphs, and its judge."""
    run = Run.open(tiny_run() / "run")
    fitted = fit_run(run)
    return Source(run.vae(), fitted.encoder), load_graphs(export_graphs(run.vae(), fitted), run), fitted.judge


@pytest.fixture(scope="module")
def images():
    """Seven images: more than one batch of four, the last one incomplete."""
    return [np.random.default_rng(i).uniform(-1, 1, (3, 32, 32)).astype(np.float32) for i in range(7)]


class Moved:
    """A graph whose outputs pass through `change`."""

    def __init__(self, runner, change):
        self._runner, self._change = runner, change

    def run(self, value):
        return self._change(self._runner.run(value))


def with_leak(graphs, change):
    from dataclasses import replace

    return replace(graphs, leak_encoder=Moved(graphs.leak_encoder, change))


def test_graphs_match_their_networks(exported, images):
    source, graphs, judge = exported
    said = []
    parity = measure(source, graphs, judge, images=images, progress=lambda *what: said.append(what))
    assert parity.images == parity.same_verdicts == 7
    assert 0 <= parity.relative_score_difference <= RELATIVE_TOLERANCE
    assert parity.latent_difference < 1e-4
    assert parity.embedding_difference < 1e-3
    assert said == [("parity", 4, 7), ("parity", 7, 7)]


def test_the_differences_are_those_of_the_outputs(exported, images):
    source, graphs, judge = exported
    parity = measure(source, graphs, judge, images=images)
    latents, wanted = run_source(source, SPEC, np.stack(images))
    exported_latents, found = run_graphs(graphs, SPEC, np.stack(images))
    assert wanted.scores.shape == (7, 3)
    largest = np.abs(wanted.scores).max()
    assert parity.latent_difference == pytest.approx(np.abs(latents - exported_latents).max(), abs=1e-6)
    assert parity.score_difference == pytest.approx(np.abs(found.scores - wanted.scores).max(), abs=1e-6)
    assert parity.tolerance == pytest.approx(4e-4 * largest, rel=1e-4)


def test_a_difference_is_measured_exactly(exported, images):
    source, graphs, judge = exported
    largest = np.abs(run_source(source, SPEC, np.stack(images))[1].scores).max()
    step = np.float32(0.5 * RELATIVE_TOLERANCE * largest)
    found = measure(source, with_leak(graphs, lambda out: [out[0] + step, *out[1:]]), judge, images=images)
    assert found.score_difference == pytest.approx(step, rel=0.2)
    assert found.relative_score_difference == pytest.approx(0.5 * RELATIVE_TOLERANCE, rel=0.2)


@pytest.mark.parametrize(
    "change",
    [lambda out: [out[0] * np.float32(1.001), *out[1:]], lambda out: [out[0] * np.nan, *out[1:]],
     lambda out: [out[0][:, ::-1].copy(), *out[1:]]],
    ids=["scaled", "not a number", "classes swapped"],
)  # fmt: skip
def test_changed_scores_are_refused_with_the_limit(exported, images, change):
    source, graphs, judge = exported
    with pytest.raises(ParityError, match=r"change scores by .*, more than .* \(1e-4 of the largest\)"):
        measure(source, with_leak(graphs, change), judge, images=images)


def test_a_changed_verdict_is_refused_even_with_equal_scores(exported, images):
    source, graphs, judge = exported
    far = with_leak(graphs, lambda out: [out[0], out[1] + np.float32(50), *out[2:]])  # embeddings beyond the support
    with pytest.raises(ParityError, match=r"change \d of 7 verdicts"):
        measure(source, far, judge, images=images)


def test_networks_trained_after_the_export_fail_parity(exported, images):
    source, graphs, judge = exported
    prototypes = source.encoder.prototypes
    with torch.no_grad():
        before = prototypes.clone()
        prototypes.add_(0.05)
    try:
        with pytest.raises(ParityError, match="change scores by"):
            measure(source, graphs, judge, images=images)
    finally:
        with torch.no_grad():
            prototypes.copy_(before)

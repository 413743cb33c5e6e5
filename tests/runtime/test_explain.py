"""The evidence behind a verdict."""

from __future__ import annotations

import pytest

from leakrt import Detector
from leakrt.core.errors import ImageError
from leakrt.core.images import find_images
from leakrt.runtime.explain import explain


@pytest.fixture(scope="module")
def detector(tiny):
    return Detector.load(tiny)


def test_the_evidence_sums_to_the_difference_of_the_gated_distances(detector, image_folder):
    (analysis,) = detector.analyse(find_images(image_folder(1))[0])
    found = explain(detector, analysis)
    outputs, names = analysis.evidence.outputs, detector.spec.class_names
    distances = detector.support.prototype_distances(outputs.embedding[0], outputs.gates[0], branches=1)[0].min(axis=1)
    margin = distances[names.index(found.runner_up)] - distances[names.index(found.winner)]
    assert len(found.gates) == 12  # every dimension of this bundle
    assert sum(gate.evidence for gate in found.gates) == pytest.approx(margin, rel=1e-5)
    sizes = [abs(gate.evidence) for gate in found.gates]
    assert sizes == sorted(sizes, reverse=True)
    for gate in found.gates:
        assert gate.gate == pytest.approx(float(outputs.gates[0, gate.dimension]))


def test_winner_and_runner_up_follow_the_verdict(detector, image_folder):
    for path in find_images(image_folder(6)):
        (analysis,) = detector.analyse(path)
        found, shares = explain(detector, analysis), analysis.verdict.scores
        if analysis.verdict.verdict in ("real", "generator"):
            assert found.winner == analysis.verdict.label
        else:
            assert found.winner == max(shares, key=shares.get)
        others = {name: share for name, share in shares.items() if name != found.winner}
        assert found.runner_up == max(others, key=others.get)
        assert [prototype.split("/")[0] for prototype, _ in found.exemplars] == [found.winner, found.runner_up]


def test_the_explanation_contains_the_bundles_exemplars(detector, image_folder):
    for path in find_images(image_folder(8)):
        for prototype, files in explain(detector, detector.analyse(path)[0]).exemplars:
            assert len(files) == (1 if prototype.endswith("/0") else 0)


def test_explaining_an_image_that_was_not_run_raises(detector, tmp_path):
    (analysis,) = detector.analyse(tmp_path / "none.png")
    with pytest.raises(ImageError, match="nothing to explain"):
        explain(detector, analysis)

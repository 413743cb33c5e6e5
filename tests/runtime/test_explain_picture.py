"""The picture is drawn whatever it has to show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from leakrt import Detector
from leakrt.core.images import decode_image, find_images
from leakrt.runtime.explain import GateEvidence, explain
from leakrt.runtime.explain_picture import HEIGHT, WIDTH, draw_png


@pytest.fixture
def explanation(tiny, image_folder):
    detector = Detector.load(tiny)
    return explain(detector, detector.analyse(find_images(image_folder(1))[0])[0])


def drawn(explanation):
    pixels = decode_image(draw_png(explanation), "picture").pixels
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    return pixels


def test_it_is_the_same_picture_every_time(explanation):
    assert draw_png(explanation) == draw_png(explanation)


def test_the_judged_pixels_are_in_it(explanation):
    red = replace(explanation, pixels=np.full((50, 50, 3), (0, 0, 255), np.uint8))
    assert (drawn(red) == (0, 0, 255)).all(axis=2).sum() > 30_000
    assert not (drawn(explanation) == (0, 0, 255)).all(axis=2).any()


def test_a_larger_share_draws_a_longer_bar(explanation):
    blue = (195, 99, 37)  # BGR

    def length(share: float) -> int:
        scores = {explanation.winner: share, explanation.runner_up: 1 - share}
        verdict = replace(explanation.verdict, scores=scores, step_weights={"0": 0.0}, prototype="")
        picture = drawn(replace(explanation, verdict=verdict, gates=explanation.gates[:1]))
        return int((picture[:480] == blue).all(axis=2).sum())

    assert length(0.9) > 1.5 * length(0.55)


@pytest.mark.parametrize("shape", [(40, 900), (900, 40), (33, 33)])
def test_odd_shapes_fit(explanation, shape):
    drawn(replace(explanation, pixels=np.zeros((*shape, 3), np.uint8)))


@pytest.mark.parametrize("kind", ["real", "generator", "unknown", "abstain"])
def test_every_kind_of_verdict_has_its_headline(explanation, kind):
    label = explanation.winner if kind in ("real", "generator") else kind
    drawn(replace(explanation, verdict=replace(explanation.verdict, verdict=kind, label=label)))


def test_long_and_strange_names_and_many_classes_and_steps_fit(explanation):
    scores = {f"class-{i}-{'very-' * 40}long\n\u4eba": 1 / 300 for i in range(300)}
    verdict = replace(
        explanation.verdict,
        scores=scores,
        step_weights={str(t): 1 / 64 for t in range(64)},
        reasons=("because " * 100,),
        path="x" * 300,
    )
    gates = tuple(GateEvidence(i, 0.5, 0.0) for i in range(12))
    drawn(replace(explanation, verdict=verdict, winner="w" * 200, gates=gates))


def test_a_thumbnail_that_is_no_image_is_left_out(explanation):
    broken = tuple((name, (b"not a jpeg",)) for name, _ in explanation.exemplars)
    none = tuple((name, ()) for name, _ in explanation.exemplars)
    assert np.array_equal(drawn(replace(explanation, exemplars=broken)), drawn(replace(explanation, exemplars=none)))

"""The explanation picture for verdicts of every kind and images of every shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from leakrt import Detector
from leakrt.core.images import decode_image, find_images
from leakrt.runtime.explain import GateEvidence, explain
from leakrt.runtime.explain_picture import HEIGHT, WIDTH, draw_png

RED = (0, 0, 255)  # BGR
CARDS = [(24, 24, 392, 468), (440, 24, 776, 468), (24, 516, 392, 320), (440, 516, 376, 320), (840, 516, 376, 320)]


@pytest.fixture
def explanation(tiny, image_folder):
    detector = Detector.load(tiny)
    return explain(detector, detector.analyse(find_images(image_folder(1))[0])[0])


def drawn(explanation):
    pixels = decode_image(draw_png(explanation), "picture").pixels
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    return pixels


def test_drawing_is_deterministic(explanation):
    assert draw_png(explanation) == draw_png(explanation)


def test_the_picture_contains_the_classified_pixels(explanation):
    red = replace(explanation, pixels=np.full((50, 50, 3), RED, np.uint8))
    assert (drawn(red) == RED).all(axis=2).sum() > 30_000
    assert not (drawn(explanation) == RED).all(axis=2).any()


def test_a_larger_probability_draws_a_longer_bar(explanation):
    blue = (195, 99, 37)  # BGR

    def length(share: float) -> int:
        scores = {explanation.winner: share, explanation.runner_up: 1 - share}
        verdict = replace(explanation.verdict, scores=scores, step_weights={"0": 0.0}, prototype="")
        picture = drawn(replace(explanation, verdict=verdict, gates=explanation.gates[:1]))
        return int((picture[:480] == blue).all(axis=2).sum())

    assert length(0.9) > 1.5 * length(0.55)


@pytest.mark.parametrize("shape", [(40, 900), (900, 40), (33, 33), (1, 301)])
def test_images_of_odd_shapes_are_drawn_completely_and_undistorted(explanation, shape):
    picture = drawn(replace(explanation, pixels=np.full((*shape, 3), RED, np.uint8)))
    scale = min(260 / shape[0], 348 / shape[1], 4)
    size = [max(1, round(side * scale)) for side in shape]
    rows, columns = np.nonzero((picture == RED).all(axis=2))
    assert [np.ptp(rows) + 1, np.ptp(columns) + 1] == size
    assert len(rows) == size[0] * size[1]
    assert 24 < rows.min() <= rows.max() < 492
    assert 24 < columns.min() <= columns.max() < 416


def test_every_kind_of_verdict_has_its_headline_and_colour(explanation):
    pictures = {}
    for kind in ("real", "generator", "unknown", "abstain"):
        label = explanation.winner if kind in ("real", "generator") else kind
        pictures[kind] = drawn(replace(explanation, verdict=replace(explanation.verdict, verdict=kind, label=label)))
    headlines = [picture[325:395, 46:395] for picture in pictures.values()]
    assert len({headline.tobytes() for headline in headlines}) == 4
    assert len({tuple(headline[20, 3]) for headline in headlines}) == 4
    rest = [np.delete(picture, np.s_[320:420], axis=0) for picture in pictures.values()]
    assert all(np.array_equal(other, rest[0]) for other in rest)


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
    picture = drawn(replace(explanation, verdict=verdict, winner="w" * 200, runner_up="r" * 200, gates=gates))
    between = np.ones(picture.shape[:2], bool)
    for x, y, width, height in CARDS:
        between[y : y + height + 1, x : x + width + 1] = False
        edges = [picture[y + 20 : y + height - 20, slice(*at)] for at in ((x + 2, x + 18), (x + width - 18, x + width))]
        assert all((edge == 255).all() for edge in edges)
    assert (picture[between] == picture[0, 0]).all()


def test_an_invalid_thumbnail_is_omitted(explanation):
    broken = tuple((name, (b"not a jpeg",)) for name, _ in explanation.exemplars)
    none = tuple((name, ()) for name, _ in explanation.exemplars)
    assert np.array_equal(drawn(replace(explanation, exemplars=broken)), drawn(replace(explanation, exemplars=none)))

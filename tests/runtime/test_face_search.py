"""Rotating and merging boxes, and the tiles that bound memory."""

from __future__ import annotations

import numpy as np
import pytest

from leakrt.core.images import find_images, read_image
from leakrt.runtime.face_search import FaceSearch, Found, merged, overlap, tiles, turn_back


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_turn_back_maps_a_box_to_the_same_pixels(turn):
    image = np.arange(7 * 11).reshape(7, 11)
    x, y, w, h = 1, 2, 3, 4
    in_turned = np.rot90(image, turn)[y : y + h, x : x + w]
    x, y, w, h = map(int, turn_back((x, y, w, h), turn, 11, height=7))
    np.testing.assert_array_equal(np.rot90(image[y : y + h, x : x + w], turn), in_turned)


def test_overlap_is_intersection_over_union():
    assert overlap((0, 0, 4, 4), (2, 0, 4, 4)) == 8 / 24
    assert overlap((0, 0, 4, 4), (1, 1, 2, 2)) == 4 / 16
    assert overlap((0, 0, 4, 4), (4, 0, 4, 4)) == 0
    assert overlap((0, 0, 0, 4), (0, 0, 4, 4)) == 0


def test_the_best_of_overlapping_boxes_is_kept_and_the_main_scale_wins_near_ties():
    main = Found(box=(0, 0, 10, 10), score=0.90, main=True)
    fine = Found(box=(1, 0, 10, 10), score=0.94)
    better = Found(box=(1, 1, 10, 10), score=0.96)
    elsewhere = Found(box=(9, 0, 10, 10), score=0.7)
    assert merged([elsewhere, fine, main]) == [main, elsewhere]
    assert merged([elsewhere, fine, main, better]) == [better, elsewhere]


def test_a_part_of_a_face_found_at_another_rotation_is_not_a_second_face():
    face = Found(box=(0, 0, 100, 100), score=0.9, turn=1)
    inside = (30, 30, 50, 50)
    assert merged([Found(box=inside, score=0.8), face]) == [face]
    assert len(merged([Found(box=inside, score=0.8, turn=1), face])) == 2


@pytest.mark.parametrize("size", [(1, 1), (1599, 1600), (1601, 40), (2881, 1600), (5334, 400), (3333, 2881)])
def test_tiles_cover_the_image_and_are_bounded(size):
    image = np.zeros((size[1], size[0], 1), np.uint8)
    for x, y, tile in tiles(image):
        assert min(tile.shape[:2]) > 0
        assert max(tile.shape[:2]) <= 1600
        assert np.shares_memory(tile, image[y:, x:])
        tile += 1
    assert image.min() >= 1


@pytest.mark.slow
def test_64_megapixels_are_searched_in_bounded_memory(shared):
    resource = pytest.importorskip("resource")
    search = FaceSearch(shared("models/face_detection_yunet_2023mar.onnx"))
    photo = read_image(find_images(shared("leakbench/test/real"))[0]).pixels
    image = np.full((8000, 8000, 3), 127, np.uint8)
    image[7000:7256, 400:656] = photo
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (found,) = search.find(image)
    assert overlap(found.box, (400, 7000, 256, 256)) > 0.3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600 << 10

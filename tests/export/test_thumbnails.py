"""Exemplars: thumbnails of the images nearest to a prototype."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from leakrt.core.errors import ImageError
from leakrt.core.images.thumbnail import thumbnail
from leakrt.core.outputs import LeakOutputs
from leakrt.core.support import Support
from leakrt.export.thumbnails import PER_PROTOTYPE, SIDE, make_exemplars, nearest_images

RNG = np.random.default_rng(4)
CLASSES, PROTOTYPES, D, N = 3, 2, 5, 17


def support(prototypes):
    return Support(
        mean=np.zeros(D, np.float32),
        projection=np.eye(D, dtype=np.float32),
        points=np.zeros((1, D), np.float32),
        bandwidth=1.0,
        prototypes=prototypes,
    )


@pytest.fixture
def made():
    """Prototypes, outputs of 17 images and their classes."""
    prototypes = RNG.standard_normal((CLASSES, PROTOTYPES, D)).astype(np.float32)
    embedding, gates = RNG.standard_normal((N, D)).astype(np.float32), RNG.random((N, D)).astype(np.float32)
    outputs = LeakOutputs(np.zeros((N, CLASSES), np.float32), embedding, gates, np.ones((N, 1), np.float32))
    return prototypes, outputs, [i % CLASSES for i in range(N)]


def test_the_nearest_images_are_from_the_class_by_gated_distance(made):
    prototypes, outputs, labels = made
    found = nearest_images(support(prototypes), outputs, labels, count=4)
    assert found.keys() == {(k, m) for k in range(CLASSES) for m in range(PROTOTYPES)}
    for (k, m), positions in found.items():
        distance = {
            i: float((outputs.gates[i] * (outputs.embedding[i] - prototypes[k, m]) ** 2).sum())
            for i in range(N)
            if labels[i] == k
        }
        assert positions == sorted(distance, key=distance.get)[:4]


def test_a_class_with_few_images_gives_all_of_them(made):
    prototypes, outputs, _ = made
    found = nearest_images(support(prototypes), outputs, [0] * (N - 1) + [1])
    assert {(k, m): len(found[k, m]) for k, m in found} == {
        (0, 0): PER_PROTOTYPE, (0, 1): PER_PROTOTYPE, (1, 0): 1, (1, 1): 1, (2, 0): 0, (2, 1): 0,
    }  # fmt: skip


def test_ties_in_distance_keep_the_order_of_images(made):
    prototypes, outputs, labels = made
    same = LeakOutputs(
        outputs.scores, outputs.embedding[:1].repeat(N, 0), outputs.gates[:1].repeat(N, 0), outputs.step_weights
    )
    assert nearest_images(support(prototypes), same, labels)[1, 0] == [1, 4, 7]


def pixels_of(jpeg):
    image = Image.open(io.BytesIO(jpeg))
    assert (image.format, image.size, image.mode) == ("JPEG", (SIDE, SIDE), "RGB")
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("size", [(131, 97), (97, 131), (40, 40), (33, 200)])
def test_a_thumbnail_is_the_centre_square_in_the_original_colours(tmp_path, size):
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 2] = 255  # blue border
    side = min(size)
    top, left = (height - side) // 2, (width - side) // 2
    pixels[top : top + side, left : left + side] = (230, 120, 20)
    Image.fromarray(pixels).save(tmp_path / "i.png")
    found = pixels_of(thumbnail(str(tmp_path / "i.png"), side=SIDE))
    assert np.abs(found - (230, 120, 20)).max() <= 6


def test_the_exif_orientation_is_applied(tmp_path):
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[:, :40] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "i.jpg", exif=exif, quality=95)
    found = pixels_of(thumbnail(str(tmp_path / "i.jpg"), side=SIDE))
    assert found[: SIDE // 3].mean() > 200
    assert found[-SIDE // 3 :].mean() < 50


def test_exemplars_list_the_images_of_each_prototype_nearest_first(tmp_path):
    paths = []
    for i in range(3):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(np.full((36, 40, 3), 80 * i, np.uint8)).save(paths[-1])
    exemplars = make_exemplars({(0, 0): [2, 0], (0, 1): [0], (1, 0): []}, paths)
    assert [round(pixels_of(file).mean()) for file in exemplars.of(0, 0)] == [160, 0]
    assert exemplars.of(0, 1) == exemplars.of(0, 0)[1:]
    assert exemplars.of(1, 0) == ()


def test_a_missing_image_is_reported(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png"):
        make_exemplars({(0, 0): [0]}, [str(tmp_path / "gone.png")])

"""Selection of calibration images, and their preprocessing, which is the same as in the runtime."""

import hashlib

import numpy as np
import pytest
from bundles import TINY_SPEC, noise_image
from PIL import Image

pytest.importorskip("torch")  # leakrt.train lists and hashes images

from leakrt import _core
from leakrt.calibration.images import (
    MIN_IMAGES,
    choose_images,
    images,
    plain_folder,
    preprocess_file,
)
from leakrt.core.errors import DataError, ImageError
from leakrt.core.progress import silent


@pytest.fixture
def folder(tmp_path):
    """40 images in two folders, of odd sizes."""
    for i in range(40):
        path = tmp_path / "faces" / ("a" if i % 4 else "b") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise_image(i, size=41 + i)).save(path)
    return tmp_path / "faces"


def chosen(folder, count=MIN_IMAGES):
    return choose_images(plain_folder(folder), count, TINY_SPEC, progress=silent)


def test_images_are_drawn_by_the_hash_of_their_names_so_that_folders_mix(folder):
    found = chosen(folder)
    assert len(found.paths) == MIN_IMAGES
    digests = [hashlib.sha256(path.name.encode()).digest() for path in found.paths]
    assert digests == sorted(digests)
    assert {path.parent.name for path in found.paths} == {"a", "b"}
    assert chosen(folder).paths == found.paths


def test_a_count_beyond_the_number_of_images_gives_all_of_them(folder):
    assert len(chosen(folder, 4000).paths) == 40


def test_the_fingerprint_depends_on_the_content_of_the_files(folder):
    before = chosen(folder)
    assert chosen(folder).fingerprint == before.fingerprint
    Image.fromarray(noise_image(99)).save(before.paths[5])
    after = chosen(folder)
    assert after.paths == before.paths
    assert after.fingerprint != before.fingerprint


def test_flat_and_broken_images_are_skipped(folder):
    usual = chosen(folder)
    for path, spoil in zip(usual.paths, ("flat", "broken"), strict=False):
        if spoil == "flat":
            Image.new("RGB", (50, 60), (3, 200, 90)).save(path)
        else:
            path.write_bytes(b"\x89PNG")
    assert not set(usual.paths[:2]) & set(chosen(folder).paths)
    assert len(chosen(folder).paths) == MIN_IMAGES


def test_copies_of_an_image_count_once(folder):
    usual = chosen(folder, 4000)
    for copy in plain_folder(folder)[1:9]:
        copy.write_bytes(plain_folder(folder)[0].read_bytes())
    found = chosen(folder, 4000)
    assert len(found.paths) == len(usual.paths) - 8
    plain_folder(folder)[9].write_bytes(plain_folder(folder)[0].read_bytes())
    with pytest.raises(
        DataError, match=r"^31 usable images \(9 look the same as others\); calibration needs at least 32"
    ):
        chosen(folder)


def test_one_face_at_forty_jpeg_qualities_or_sizes_counts_once(tmp_path):
    y, x = np.mgrid[0:120, 0:100] / 100
    waves = sum(np.sin(a * x + b * y + c) for a, b, c in np.random.default_rng(0).uniform(-25, 25, (30, 3)))
    face = Image.fromarray(np.clip(128 + 20 * waves, 0, 255).astype(np.uint8)).convert("RGB")
    for quality in range(56, 96):
        size = (100 + quality, 120 + quality * 6 // 5)
        (face if quality % 2 else face.resize(size)).save(tmp_path / f"{quality}.jpg", quality=quality)
    with pytest.raises(DataError, match=r"^1 usable images \(39 look the same as others\)"):
        chosen(tmp_path)


def test_too_few_images_are_refused_with_counts_and_reasons(folder):
    paths = plain_folder(folder)
    for path in paths[:6]:
        Image.new("RGB", (50, 60), (3, 200, 90)).save(path)
    for path in paths[6:9]:
        path.write_bytes(b"no image")
    said = r"31 usable images \(3 can't be read, 6 have a single colour\); calibration needs at least 32 face images"
    with pytest.raises(DataError, match=said):
        chosen(folder, 40)
    with pytest.raises(DataError, match=r"31 images are too few .* at least 32 are needed; increase --images"):
        chosen(folder, 31)


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such folder: "):
        plain_folder(tmp_path / "nowhere")


def test_images_have_the_shape_of_the_vae_encoders_input(folder):
    paths = plain_folder(folder)[:3]
    found = list(images(paths, 40))
    assert [x.shape for x in found] == [(1, 3, 40, 40)] * 3
    assert found[0].dtype == np.float32
    wanted = np.empty((3, 40, 40), np.float32)
    _core.preprocess(np.ascontiguousarray(np.array(Image.open(paths[1]))[:, :, ::-1]), wanted)
    np.testing.assert_array_equal(found[1][0], wanted)
    paths[2].unlink()
    with pytest.raises(ImageError):
        preprocess_file(paths[2], 40)

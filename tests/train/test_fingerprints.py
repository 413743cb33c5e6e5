"""Fingerprints of pictures: by their pixels, and by their look."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from leakrt.core.errors import ImageError, StorageError
from leakrt.core.images import READER_VERSION, decode_image
from leakrt.core.progress import silent
from leakrt.train.fingerprints import (
    ALIKE,
    Fingerprint,
    FingerprintCache,
    Identity,
    count_different,
    fingerprint,
    hash_image,
    identify,
    looks,
    nearest,
)

RNG = np.random.default_rng(8)


def picture(seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((160, 144), Image.Resampling.BICUBIC)


def pixels(image: Image.Image, kind: str = "PNG", **options) -> np.ndarray:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return decode_image(buffer.getvalue(), "x").pixels


def apart(first: np.ndarray, second: np.ndarray) -> int:
    return int(nearest(looks([fingerprint(first)]), looks([fingerprint(second)]))[1][0])


def test_the_same_pixels_have_one_fingerprint_in_any_file():
    first = fingerprint(pixels(picture()))
    assert fingerprint(pixels(picture(), "BMP")) == first
    assert fingerprint(pixels(picture(), "TIFF", compression="tiff_lzw")) == first


def test_one_changed_value_or_another_shape_changes_the_pixel_hash():
    found = pixels(picture())
    changed = found.copy()
    changed[70, 80, 1] ^= 1
    assert fingerprint(changed).pixels != fingerprint(found).pixels
    assert fingerprint(found.reshape(72, 320, 3)).pixels != fingerprint(found).pixels


@pytest.mark.parametrize("quality", [30, 60, 95])
def test_a_re_encoded_or_resized_picture_looks_alike(quality):
    whole = picture()
    assert apart(pixels(whole), pixels(whole, "JPEG", quality=quality)) <= ALIKE
    for size in ((80, 72), (512, 460)):
        assert apart(pixels(whole), pixels(whole.resize(size, Image.Resampling.LANCZOS), "JPEG", quality=80)) <= ALIKE


def test_different_pictures_do_not_look_alike():
    found = [pixels(picture(seed)) for seed in range(20)]
    for i, each in enumerate(found):
        others = looks(fingerprint(other) for other in found[:i] + found[i + 1 :])
        assert nearest(looks([fingerprint(each)]), others)[1][0] > ALIKE


def test_the_nearest_is_found_as_numpy_finds_it():
    first, second = RNG.integers(0, 256, (70, 32), dtype=np.uint8), RNG.integers(0, 256, (33, 32), dtype=np.uint8)
    bits = np.unpackbits(first, axis=1)[:, None] != np.unpackbits(second, axis=1)[None]
    indices, distances = nearest(first, second)
    assert np.array_equal(distances, bits.sum(axis=2).min(axis=1))
    assert np.array_equal(bits.sum(axis=2)[np.arange(70), indices], distances)
    assert [len(part) for part in nearest(first[:0], second)] == [0, 0]


def test_forty_qualities_of_one_picture_are_one_picture():
    copies = [fingerprint(pixels(picture(), "JPEG", quality=quality)) for quality in range(50, 90)]
    assert count_different(copies) == 1
    assert count_different([*copies, fingerprint(pixels(picture(1)))]) == 2
    assert count_different([]) == 0


@pytest.fixture
def files(tmp_path):
    found = [tmp_path / f"{seed}.png" for seed in range(4)]
    for seed, path in enumerate(found):
        picture(seed).save(path)
    return found


def test_what_is_cached_is_not_read_again(files, tmp_path, monkeypatch):
    first = identify(files, FingerprintCache(tmp_path / "cache"), 2, silent)
    monkeypatch.setattr("leakrt.train.fingerprints.read_image", None)
    assert identify(files, FingerprintCache(tmp_path / "cache"), 2, silent) == first
    assert all(isinstance(each, Identity) for each in first)


def test_an_image_that_can_not_be_read_gives_its_error(files, tmp_path):
    files[1].write_bytes(b"no image")
    found = identify([*files, tmp_path / "none.png"], FingerprintCache(tmp_path / "cache"), 2, silent)
    assert [isinstance(each, ImageError) for each in found] == [False, True, False, False, True]


def test_what_a_kill_left_unfinished_is_ignored_and_costs_nothing_else(files, tmp_path):
    cache = FingerprintCache(tmp_path)
    identify(files[:3], cache, 1, silent)
    path = tmp_path / f"fingerprints-reader{READER_VERSION}.txt"
    path.write_bytes(path.read_bytes()[:-40])
    after = FingerprintCache(tmp_path)
    assert [after.get(hash_image(file)) is not None for file in files[:3]] == [True, True, False]
    identify(files, after, 1, silent)
    again = FingerprintCache(tmp_path)
    assert all(again.get(hash_image(file)) == cache.get(hash_image(file)) for file in files[:3])


def test_a_cache_that_can_not_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    with pytest.raises(StorageError):
        FingerprintCache(tmp_path / "cache").add({"0" * 64: Fingerprint(pixels="0" * 64, look="0" * 64)})


def test_different_faces_of_leakbench_never_look_alike(shared):
    paths = sorted(shared("leakbench/val/real").glob("*.jpg")) + sorted(shared("leakbench/test/real").glob("*.jpg"))
    from leakrt.core.images import read_image

    found = looks(fingerprint(read_image(path).pixels) for path in paths)
    for i in range(0, len(found), 7):
        assert nearest(found[i : i + 1], np.delete(found, i, axis=0))[1][0] > ALIKE

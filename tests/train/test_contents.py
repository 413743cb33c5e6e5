"""Content hashes of images and their cache file."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from runs import texture

from leakrt.core.errors import ImageError, StorageError
from leakrt.core.progress import silent
from leakrt.train.contents import NEAR, Content, ContentCache, content_of, nearest, see_images


def scene(seed: int) -> Image.Image:
    """A picture with large and small shapes, like a photograph."""
    y, x = np.mgrid[0:200, 0:180] / 200
    waves = sum(np.sin(a * x + b * y + c) for a, b, c in np.random.default_rng(seed).uniform(-30, 30, (40, 3)))
    return Image.fromarray(np.clip(128 + 14 * waves, 0, 255).astype(np.uint8)).convert("RGB")


def look(image: Image.Image) -> str:
    return content_of(np.asarray(image)).look


def encoded(image: Image.Image, **options) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return Image.open(buffer).convert("RGB")


def test_the_pixel_hash_depends_on_pixels_and_shape():
    pixels = texture("real", 1)
    assert content_of(pixels) == content_of(pixels.copy())
    assert content_of(pixels).pixels != content_of(pixels[::-1]).pixels
    assert content_of(np.zeros((40, 60, 3), np.uint8)).pixels != content_of(np.zeros((60, 40, 3), np.uint8)).pixels


@pytest.mark.parametrize("quality", [30, 60, 90])
@pytest.mark.parametrize("scale", [0.4, 1.0, 2.0])
def test_a_picture_looks_the_same_at_another_quality_or_size(quality, scale):
    for seed in range(5):
        size = (int(180 * scale), int(200 * scale))
        again = encoded(scene(seed).resize(size), format="JPEG", quality=quality)
        assert nearest([look(again)], [look(scene(k)) for k in range(5)]) == [seed]


def test_different_pictures_do_not_look_the_same():
    looks = [look(scene(seed)) for seed in range(60)]
    assert nearest(looks[:30], looks[30:]) == [-1] * 30


def test_flat_pictures_match_no_other():
    flat = look(Image.new("RGB", (60, 60), (9, 200, 3)))
    assert flat == ""
    assert nearest([flat, look(scene(1))], [flat, look(scene(1))]) == [-1, 1]
    assert nearest([flat], []) == nearest([flat], [flat]) == [-1]


def test_the_limit_counts_bits():
    bits = np.zeros(256, np.uint8)
    others = []
    for count in (NEAR, NEAR + 1):
        bits[:] = 0
        bits[:count] = 1
        others.append(np.packbits(bits).tobytes().hex())
    assert nearest(["0" * 64], others) == [0]
    assert nearest(["0" * 64], others[1:]) == [-1]


def test_the_cache_is_read_again_and_a_truncated_line_is_skipped(tmp_path):
    found = {f"{i:064x}": Content(f"{i + 9:064x}", f"{i:064x}" if i else "") for i in range(4)}
    cache = ContentCache(tmp_path / "new" / "folder")
    cache.add(found)
    assert {digest: ContentCache(tmp_path / "new" / "folder").get(digest) for digest in found} == found
    (file,) = (tmp_path / "new" / "folder").iterdir()
    file.write_bytes(file.read_bytes()[:-40])
    cut = ContentCache(tmp_path / "new" / "folder")
    assert [cut.get(digest) is None for digest in found] == [False, False, False, True]
    cut.add(found)
    assert ContentCache(tmp_path / "new" / "folder").get(f"{3:064x}") == found[f"{3:064x}"]
    with pytest.raises(StorageError):
        ContentCache(file).add(found)


def test_unreadable_files_keep_their_position(tmp_path):
    scene(1).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    paths = [tmp_path / "b.png", tmp_path / "a.png", tmp_path / "none.png"]
    found = see_images(paths, ContentCache(tmp_path / "cache"), threads=2, progress=silent)
    assert [isinstance(one, ImageError) for one in found] == [True, False, True]

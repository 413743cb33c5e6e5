"""The latent cache: each view encoded once, whatever happens to the process or the files."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")
from bundles import vae_encoder
from runs import SPEC, write_images

from leakrt.core.errors import DataError
from leakrt.train.data import hash_image
from leakrt.train.latents import LatentCache, LatentTable, Wanted, apply_view
from leakrt.train.vae import open_vae


class Counting:
    """A real encoder that counts what it encodes."""

    def __init__(self, vae) -> None:
        self.description, self.count, self._vae = vae.description, 0, vae

    def encode(self, images):
        self.count += len(images)
        return self._vae.encode(images)


@pytest.fixture
def vae(tmp_path):
    (tmp_path / "vae.onnx").write_bytes(vae_encoder(SPEC))
    return Counting(open_vae(f"onnx:{tmp_path / 'vae.onnx'}", 0.5, SPEC.image_size))


@pytest.fixture
def wanted(tmp_path):
    write_images(tmp_path / "images", "real", 7)
    paths = sorted((tmp_path / "images").iterdir())
    return [Wanted(path, hash_image(path), (0, 1)) for path in paths]


def open_cache(tmp_path, vae):
    return LatentCache(tmp_path / "cache", vae.description.fingerprint, SPEC.latent_shape)


def read(cache, wanted):
    return cache.read([image.digest for image in wanted], [0, 1])


def folder(tmp_path, vae):
    return tmp_path / "cache" / vae.description.fingerprint[:24]


def test_what_is_cached_is_not_encoded_again(tmp_path, vae, wanted):
    open_cache(tmp_path, vae).fill(vae, wanted, 2)
    assert vae.count == 14
    again = open_cache(tmp_path, vae)
    again.fill(vae, wanted, 2)
    assert vae.count == 14
    assert again.has_image(wanted[0].digest)


@pytest.mark.parametrize("name", ["latents.bin", "index.txt"])
@pytest.mark.parametrize("cut", [1, 50, 300])
def test_a_cut_off_tail_is_made_again(tmp_path, vae, wanted, name, cut):
    cache = open_cache(tmp_path, vae)
    cache.fill(vae, wanted, 1)
    before, file = read(cache, wanted), folder(tmp_path, vae) / name
    file.write_bytes(file.read_bytes()[:-cut])
    again = open_cache(tmp_path, vae)
    assert again.missing(wanted)
    again.fill(vae, wanted, 2)
    assert np.array_equal(read(again, wanted), before)
    assert 14 < vae.count < 28


@pytest.mark.parametrize("name", ["latents.bin", "index.txt"])
def test_a_damaged_record_is_made_again(tmp_path, vae, wanted, name):
    cache = open_cache(tmp_path, vae)
    cache.fill(vae, wanted, 1)
    before, file = read(cache, wanted), folder(tmp_path, vae) / name
    data = bytearray(file.read_bytes())
    data[5] ^= 0x80
    file.write_bytes(data)
    again = open_cache(tmp_path, vae)
    again.fill(vae, wanted, 2)
    assert vae.count == 15
    assert np.array_equal(read(again, wanted), before)


def test_an_image_that_changed_since_it_was_hashed_is_not_filed(tmp_path, vae, wanted):
    wanted[0].path.write_bytes(wanted[1].path.read_bytes())
    cache = open_cache(tmp_path, vae)
    with pytest.raises(DataError, match="changed while it was used"):
        cache.fill(vae, wanted[:1], 1)
    assert not open_cache(tmp_path, vae).has_image(wanted[0].digest)


def test_the_eight_views_differ_and_the_first_is_the_image():
    image = np.random.default_rng(0).random((3, 9, 9), np.float32)
    views = [apply_view(image, view) for view in range(8)]
    assert np.array_equal(views[0], image)
    assert np.array_equal(views[1], image[:, :, ::-1])
    assert len({view.tobytes() for view in views}) == 8


def test_a_table_takes_views_and_knows_their_spread():
    latents = np.random.default_rng(0).normal(2, 3, (300, 2, 4, 5, 5)).astype(np.float32)
    table = LatentTable.of(latents)
    rows, views = np.array([7, 0, 299]), np.array([1, 0, 1])
    assert np.array_equal(table.take(rows, views), latents[rows, views])
    assert np.array_equal(table.plain(), latents[:, 0])
    assert table.std() == pytest.approx(latents[:, 0].std(), rel=1e-5)

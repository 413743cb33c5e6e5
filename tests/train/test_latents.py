"""The latent cache: each view is encoded once, despite killed processes and damaged files."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
from bundles import vae_encoder
from runs import SPEC, write_images
from small_disk import needs_own_mounts, run_on_small_disk

from leakrt import _core
from leakrt.core.errors import DataError, ImageError, ModelError, StorageError
from leakrt.core.images import READER_VERSION
from leakrt.core.locks import take
from leakrt.train.data import hash_image
from leakrt.train.latents import LatentCache, apply_view, copy_views, to_image, to_pixels
from leakrt.train.record_cache import ImageRequest, RecordTable
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
    return [ImageRequest(path, hash_image(path), (0, 1)) for path in paths]


def open_cache(tmp_path, vae):
    return LatentCache(tmp_path / "cache", vae.description.fingerprint, SPEC.latent_shape)


def read(cache, wanted):
    return cache.read([image.digest for image in wanted], [0, 1])


def folder(tmp_path, vae):
    return tmp_path / "cache" / f"{vae.description.fingerprint[:24]}-reader{READER_VERSION}"


def test_cached_views_are_not_encoded_again(tmp_path, vae, wanted):
    open_cache(tmp_path, vae).fill(vae, wanted, 2)
    assert vae.count == 14
    again = open_cache(tmp_path, vae)
    again.fill(vae, wanted, 2)
    assert vae.count == 14
    assert again.has_image(wanted[0].digest)


def test_a_removed_cache_is_filled_again_and_its_tables_stay_valid(tmp_path, vae, wanted):
    cache = open_cache(tmp_path, vae)
    cache.fill(vae, wanted, 2)
    table = cache.table([image.digest for image in wanted], [0, 1])
    before = table.plain()
    cache.remove()
    cache.remove()
    assert not folder(tmp_path, vae).exists()
    assert np.array_equal(table.plain(), before)
    again = open_cache(tmp_path, vae)
    again.fill(vae, wanted, 2)
    assert vae.count == 28


@pytest.mark.parametrize("name", ["latents.bin", "index.txt"])
@pytest.mark.parametrize("cut", [1, 50, 300])
def test_a_truncated_tail_is_encoded_again(tmp_path, vae, wanted, name, cut):
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
def test_a_damaged_record_is_encoded_again(tmp_path, vae, wanted, name):
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


def test_an_image_that_changed_after_hashing_is_not_cached(tmp_path, vae, wanted):
    wanted[0].path.write_bytes(wanted[1].path.read_bytes())
    cache = open_cache(tmp_path, vae)
    with pytest.raises(DataError, match="changed while in use"):
        cache.fill(vae, wanted[:1], 1)
    assert not open_cache(tmp_path, vae).has_image(wanted[0].digest)


def test_a_missing_or_damaged_image_is_named_and_the_others_are_cached(tmp_path, vae, wanted):
    cache = open_cache(tmp_path, vae)
    cache.fill(vae, wanted[:3], 1)
    wanted[4].path.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"004\.png: not an image"):
        cache.fill(vae, wanted, 1)
    wanted[4].path.unlink()
    with pytest.raises(ImageError, match=r"004\.png: can't be read"):
        cache.fill(vae, wanted, 1)
    assert open_cache(tmp_path, vae).missing(wanted[:3]) == []


def not_finite(limit: float) -> bytes:
    """An encoder that gives NaN where the mean of 8 x 8 pixels exceeds `limit`."""
    from onnx import TensorProto, helper, numpy_helper

    shape = [1, 3, SPEC.image_size, SPEC.image_size]
    weights = [
        numpy_helper.from_array(np.full((4, 3, 8, 8), 1 / 192, np.float32), "mean"),
        numpy_helper.from_array(np.float32([limit]), "limit"),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "mean"], ["means"], strides=[8, 8]),
        helper.make_node("Sub", ["limit", "means"], ["room"]),
        helper.make_node("Sqrt", ["room"], ["latent"]),
    ]
    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("image", shape), ("latent", None))]
    graph = helper.make_graph(nodes, "g", tensors[:1], tensors[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def test_latents_that_are_not_finite_are_reported_and_not_cached(tmp_path, wanted):
    from PIL import Image

    (tmp_path / "nan.onnx").write_bytes(not_finite(0.9))
    encoder = open_vae(f"onnx:{tmp_path / 'nan.onnx'}", 0.5, SPEC.image_size)
    Image.new("RGB", (40, 40), "white").save(tmp_path / "white.png")
    white = ImageRequest(tmp_path / "white.png", hash_image(tmp_path / "white.png"), (0, 1))
    cache = open_cache(tmp_path, encoder)
    cache.fill(encoder, wanted, 1)
    with pytest.raises(ModelError, match=r"nan\.onnx gives latents that are not finite for .*white\.png") as error:
        cache.fill(encoder, [*wanted, white], 1)
    assert "\n" not in str(error.value)
    again = open_cache(tmp_path, encoder)
    assert again.missing([*wanted, white]) == [white]


_ON_A_FULL_DISK = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from runs import SPEC, write_images
from leakrt.core.errors import StorageError
from leakrt.train.data import hash_image
from leakrt.train.latents import LatentCache
from leakrt.train.record_cache import ImageRequest
from leakrt.train.vae import open_vae
disk, place = Path(sys.argv[1]), Path(sys.argv[2])
vae = open_vae(f"onnx:{place / 'vae.onnx'}", 0.5, SPEC.image_size)
write_images(place / "more", "smooth", 9)
wanted = [ImageRequest(path, hash_image(path), tuple(range(8))) for path in sorted((place / "more").iterdir())]
(disk / "ballast").write_bytes(bytes(40 << 10))
cache = LatentCache(disk, vae.description.fingerprint, SPEC.latent_shape)
cache.fill(vae, wanted[:2], 1)
first = cache.read([w.digest for w in wanted[:2]], range(8))
for again in range(2):
    try:
        cache.fill(vae, wanted, 1)
    except StorageError as error:
        print(error)
    cache = LatentCache(disk, vae.description.fingerprint, SPEC.latent_shape)
    assert len(cache.missing(wanted)) == 7
    assert (cache.read([w.digest for w in wanted[:2]], range(8)) == first).all()
(disk / "ballast").unlink()
cache.fill(vae, wanted, 1)
assert not LatentCache(disk, vae.description.fingerprint, SPEC.latent_shape).missing(wanted)
print("done")
"""


@needs_own_mounts
def test_a_full_disk_is_one_error_and_the_next_fill_resumes(tmp_path, vae):
    arguments = [
        sys.executable,
        "-c",
        _ON_A_FULL_DISK,
        tmp_path / "disk",
        tmp_path,
        Path(__file__).parents[1] / "support",
    ]
    done = run_on_small_disk(tmp_path / "disk", 56, arguments, before=tmp_path / "before", after=tmp_path / "after")
    assert done.stderr == ""
    line = rf"no space left while writing {tmp_path / 'disk'}/"
    first, second, last = done.stdout.splitlines()
    assert first.startswith(line)
    assert first.endswith("free some space and run the command again")
    assert second == first
    assert last == "done"


def start_filling(tmp_path, results):
    from processes import fill_cache, forking

    arguments = (tmp_path / "cache", tmp_path / "vae.onnx", tmp_path / "images", results)
    child = forking().Process(target=fill_cache, args=arguments)
    child.start()
    return child


def test_two_processes_that_fill_one_cache_encode_each_view_once(tmp_path, vae, wanted):
    pytest.importorskip("torch")
    from processes import forking

    ends = [forking().Pipe(duplex=False) for _ in range(2)]
    children = [start_filling(tmp_path, sending) for _, sending in ends]
    assert sum(receiving.recv() for receiving, _ in ends) == 14
    for child in children:
        child.join()
        assert child.exitcode == 0
    open_cache(tmp_path, vae).fill(vae, wanted, 1)
    assert vae.count == 0


def test_a_killed_writer_releases_the_lock(tmp_path, vae, wanted):
    pytest.importorskip("torch")
    from processes import forking

    _, sending = forking().Pipe(duplex=False)
    child = start_filling(tmp_path, sending)
    while not (folder(tmp_path, vae) / "lock").exists():
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    cache = open_cache(tmp_path, vae)
    cache.fill(vae, wanted, 1)
    assert cache.missing(wanted) == []


def test_a_waiting_process_is_notified_and_finds_the_work_done(tmp_path, vae, wanted):
    from threading import Thread

    cache, said = open_cache(tmp_path, vae), []
    lock = take(folder(tmp_path, vae) / "lock")

    def fill_then_let_go() -> None:
        other = open_cache(tmp_path, vae)
        while not said:
            time.sleep(0.01)
        other._append([((w.digest, v), np.zeros(SPEC.latent_shape, np.float32)) for w in wanted for v in w.views])
        lock.release()

    thread = Thread(target=fill_then_let_go)
    thread.start()
    cache.fill(vae, wanted, 1, progress=lambda *call: said.append(call))
    thread.join()
    assert {call[0] for call in said} == {"wait for another process that writes this cache"}
    assert vae.count == 0
    assert not read(cache, wanted).any()


def test_a_cache_truncated_while_in_use_is_one_error(tmp_path, vae, wanted):
    cache = open_cache(tmp_path, vae)
    cache.fill(vae, wanted, 1)
    os.truncate(folder(tmp_path, vae) / "latents.bin", 100)
    with pytest.raises(StorageError, match=r"latents\.bin was truncated while in use; run the command again"):
        read(cache, wanted)


def test_a_cache_that_can_not_be_created_is_a_storage_error(tmp_path, vae):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StorageError, match=r"^can't write .*cache/"):
        open_cache(tmp_path, vae)


def test_the_eight_views_differ_and_the_first_is_the_image():
    image = np.random.default_rng(0).random((3, 9, 9), np.float32)
    views = [apply_view(image, view) for view in range(8)]
    assert np.array_equal(views[0], image)
    assert np.array_equal(views[1], image[:, :, ::-1])
    assert len({view.tobytes() for view in views}) == 8


def test_a_table_returns_views_and_their_deviation():
    latents = np.random.default_rng(0).normal(2, 3, (300, 2, 4, 5, 5)).astype(np.float32)
    table = RecordTable.of(latents)
    rows, views = np.array([7, 0, 299]), np.array([1, 0, 1])
    assert np.array_equal(table.take(rows, views), latents[rows, views])
    assert np.array_equal(table.plain(), latents[:, 0])
    assert table.std() == pytest.approx(latents[:, 0].std(), rel=1e-5)


def test_an_augmented_copy_depends_on_its_number_and_file_only():
    image = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32)).astype(np.float32)
    first, second, third = copy_views(3)
    digest, other = "ab" * 32, "cd" * 32
    copies = [apply_view(image, view, digest=digest) for view in (first, second, third)]
    assert np.array_equal(copies[0], apply_view(image, first, digest=digest))
    assert not np.array_equal(copies[0], apply_view(image, first, digest=other))
    assert not np.array_equal(copies[0], copies[1])
    assert all(copy.shape == image.shape and copy.dtype == np.float32 for copy in copies)
    assert all(copy.min() >= -1 and copy.max() <= 1 for copy in copies)
    assert len({first, second, third} & set(range(8))) == 0
    assert np.array_equal(apply_view(image, 1), image[:, :, ::-1])


def test_pixels_become_the_image_that_preprocess_makes_of_them():
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    square = np.empty((3, 32, 32), np.float32)
    _core.preprocess(pixels, square)
    assert np.array_equal(to_image(pixels), square)
    assert np.array_equal(to_pixels(square), pixels)

"""A bundle's files in a folder or in a zip: the same bytes, and no other entries."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest

from leakrt.core.errors import BundleError
from leakrt.core.storage import FolderStorage, ZipStorage, open_storage, write_files

FILES = {"manifest.json": b"{}", "b.onnx": b"\0" * 1000, "empty": b""}


@pytest.fixture(params=["bundle", "bundle.zip"])
def path(request, tmp_path):
    target = tmp_path / request.param
    write_files(target, FILES)
    return target


def test_files_round_trip(path):
    storage = open_storage(path)
    assert storage.sizes() == {name: len(data) for name, data in FILES.items()}
    assert {name: storage.read(name, 2000) for name in FILES} == FILES


def test_a_file_beyond_its_limit_is_rejected(path):
    storage = open_storage(path)
    assert len(storage.read("b.onnx", 1000)) == 1000
    with pytest.raises(BundleError, match=r"b\.onnx is larger than the allowed 999 bytes"):
        storage.read("b.onnx", 999)


def test_a_file_that_disappeared_is_a_bundle_error(path):
    with pytest.raises(BundleError, match=r"gone\.onnx can't be read"):
        open_storage(path).read("gone.onnx", 10)


def test_equal_files_give_equal_zips(tmp_path):
    write_files(tmp_path / "a.zip", FILES)
    write_files(tmp_path / "b.zip", dict(reversed(FILES.items())))
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_an_error_about_a_missing_bundle_says_how_to_make_one(tmp_path):
    with pytest.raises(BundleError, match=r"^no bundle at .*none; make one with: leakrt export RUN --out .*none$"):
        open_storage(tmp_path / "none")
    with pytest.raises(BundleError, match=r"--out '.*my bundle'$"):
        open_storage(tmp_path / "my bundle")


def test_a_file_that_is_not_a_zip_is_rejected(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"hello")
    with pytest.raises(BundleError, match="is not a bundle: neither a folder nor a complete zip"):
        open_storage(tmp_path / "x.zip").sizes()


def test_links_and_folders_inside_are_rejected(tmp_path):
    for make in (lambda p: p.symlink_to("/etc/passwd"), lambda p: p.mkdir()):
        folder = tmp_path / os.urandom(4).hex()
        folder.mkdir()
        make(folder / "extra")
        with pytest.raises(BundleError, match="extra is not a plain file"):
            FolderStorage(folder).sizes()


def test_compressed_and_duplicate_entries_are_rejected(tmp_path):
    with zipfile.ZipFile(tmp_path / "c.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", b"\0" * 100_000)
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("bomb", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("bomb", b"2")
    for name in ("c.zip", "d.zip"):
        with pytest.raises(BundleError, match="entry bomb is compressed, encrypted or a duplicate"):
            ZipStorage(tmp_path / name).sizes()


def test_a_flipped_byte_of_a_zip_raises_only_bundle_errors(tmp_path):
    write_files(tmp_path / "x.zip", {"manifest.json": b"{}", "a": b"12345"})
    data, rng, refused = (tmp_path / "x.zip").read_bytes(), np.random.default_rng(0), 0
    for place in range(len(data)):
        broken = bytearray(data)
        broken[place] ^= int(rng.integers(1, 256))
        (tmp_path / "y.zip").write_bytes(broken)
        try:
            storage = ZipStorage(tmp_path / "y.zip")
            for name in storage.sizes():
                storage.read(name, 100)
        except BundleError:
            refused += 1
    assert refused > 50


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_a_bundle_error(path):
    target = path / "b.onnx" if path.is_dir() else path
    target.chmod(0)
    with pytest.raises(BundleError, match="Permission denied"):
        open_storage(path).read("b.onnx", 2000)

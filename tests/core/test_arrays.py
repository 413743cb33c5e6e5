"""Untrusted npz files: no pickle, no decompression, no false shapes."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from leakrt.core.arrays import read_npz, write_npz
from leakrt.core.errors import BundleError


def npz(name: str, data: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def npy(shape: tuple[int, ...], descr: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + data


def test_arrays_round_trip():
    arrays = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "b/0": np.uint8([1, 2]), "empty": np.empty((0, 3))}
    arrays["fortran"] = np.asfortranarray(np.arange(6).reshape(2, 3))
    found = read_npz(write_npz(arrays), "x.npz")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_files_written_by_numpy_are_read():
    buffer = io.BytesIO()
    np.savez(buffer, x=np.float64([1.5]))
    assert read_npz(buffer.getvalue(), "x.npz")["x"].tolist() == [1.5]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a zip"),
        (b"PK\x03\x04 nothing", "not a zip"),
        (npz("a.npy", npy((2**40,), "<f4", b"\0" * 16)), "buffer size|reshape"),
        (npz("a.npy", npy((5,), "<f4", b"\0" * 16)), "reshape"),
        (npz("a.npy", npy((1,), "|O", b"\x80\x04N.")), "dtype object"),
        (npz("a.npy", npy((1 << 40,), "|V0", b"")), "dtype"),
        (npz("a.npy", b"hello"), "magic|read"),
        (npz("a.npy", npy((1 << 20,), "|u1", bytes(1 << 20)), zipfile.ZIP_DEFLATED), "compressed"),
    ],
)
def test_files_with_false_headers_are_rejected(data, why):
    with pytest.raises(BundleError, match=rf"^x\.npz can't be read \(.*({why}).*\); export the bundle again$"):
        read_npz(data, "x.npz")


def test_a_flipped_byte_raises_only_bundle_errors():
    data, rng = write_npz({"a": np.arange(4, dtype=np.float32)}), np.random.default_rng(0)
    refused = 0
    for place in range(len(data)):
        broken = bytearray(data)
        broken[place] ^= int(rng.integers(1, 256))
        try:
            read_npz(bytes(broken), "x.npz")
        except BundleError:
            refused += 1
    assert refused > 50

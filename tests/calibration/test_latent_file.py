"""Latents come back from their file as they went in, and a file system that is full is one line."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from leakrt.calibration.latent_file import LatentFile
from leakrt.core.errors import StorageError

SHAPE = (4, 3, 5)


def filled(count):
    latents = np.random.default_rng(0).standard_normal((count, *SHAPE)).astype(np.float32)
    found = LatentFile(SHAPE)
    for latent in latents:
        found.append(latent)
    return found, latents


def test_rows_come_back_bit_for_bit_in_any_order_and_as_often_as_asked():
    found, latents = filled(7)
    assert len(found) == 7
    rows = [6, 0, 3, 3]
    got = found.read(rows)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, latents[rows])


def test_no_rows_are_an_empty_array_of_the_right_shape():
    assert filled(2)[0].read([]).shape == (0, *SHAPE)


@pytest.mark.parametrize("row", [-1, 2])
def test_a_row_that_is_not_there_is_an_error(row):
    with pytest.raises(IndexError, match=f"latent {row} of 2"):
        filled(2)[0].read([row])


def test_the_file_has_no_name_and_goes_with_its_object(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found, _ = filled(3)
    assert list(tmp_path.iterdir()) == []
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    del found
    assert len(list(descriptors.iterdir())) == before - 1


def test_a_folder_for_temporary_files_that_takes_none_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(StorageError, match=r"can't write .*gone"):
        LatentFile(SHAPE)


@pytest.mark.parametrize("cut", [OSError(errno.ENOSPC, "No space left on device"), 10])
def test_a_disk_that_fills_up_is_one_line(monkeypatch, cut):
    found, _ = filled(1)

    def full(descriptor, data, offset):
        if isinstance(cut, OSError):
            raise cut
        return cut

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageError, match="no space left"):
        found.append(np.zeros(SHAPE, np.float32))
    assert len(found) == 1

"""Accepted image types, and the errors for any other object."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leakrt.core.errors import ImageError, UsageError
from leakrt.runtime import inputs

FRAME = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
ACCEPTED = r"expected a path, a PIL image, or a uint8 array \[H, W, 3\] in BGR order"


class Tensor:
    """An object whose type, shape and dtype look like those of a PyTorch tensor."""

    __module__ = "torch"
    shape, dtype = (3, 50, 70), "torch.float32"


class BytesPath:
    def __fspath__(self):
        return b"x.png"


def read_only():
    array = FRAME.copy()
    array.setflags(write=False)
    return array


@pytest.mark.parametrize(
    "array",
    [FRAME, read_only(), FRAME[::-1], FRAME[:, ::-1], FRAME[:, ::2], np.asfortranarray(FRAME), FRAME.astype(">u1"),
     FRAME[:, :, ::-1][:, :, ::-1], FRAME.transpose(1, 0, 2), FRAME.view(type("Own", (np.ndarray,), {}))],
)  # fmt: skip
def test_any_array_of_the_right_dtype_and_shape_becomes_a_plain_frame(array):
    frame = inputs.checked_frame(array)
    assert type(frame) is np.ndarray
    assert np.array_equal(frame, np.asarray(array))
    assert frame.strides[1:] == (3, 1)


def test_a_memory_mapped_file_is_a_frame(tmp_path):
    FRAME.tofile(tmp_path / "raw")
    assert np.array_equal(inputs.checked_frame(np.memmap(tmp_path / "raw", np.uint8, "r", shape=FRAME.shape)), FRAME)


@pytest.mark.parametrize(
    ("array", "what", "remedy"),
    [
        (FRAME / np.float32(255), r"float32 \[50, 70, 3\]", r"\(255 \* array\)\.round"),
        (FRAME.astype(">f8"), r">f8 \[50, 70, 3\]", "values of 0 to 1"),
        (FRAME.astype(np.uint16) << 8, r"uint16 \[50, 70, 3\]", r"array >> 8"),
        (FRAME.astype(">u2"), r">u2 \[50, 70, 3\]", r"array >> 8"),
        (FRAME > 100, r"bool \[50, 70, 3\]", "values of 0 to 255"),
        (FRAME.astype(np.int8), r"int8 \[50, 70, 3\]", "values of 0 to 255"),
        (FRAME.astype(object), r"object \[50, 70, 3\]", "values of 0 to 255"),
        (FRAME[:, :, 0], r"uint8 \[50, 70\]", "grey channel"),
        (FRAME[:, :, :1], r"uint8 \[50, 70, 1\]", "grey channel"),
        (FRAME[:, :, 0].view(np.matrix), r"uint8 \[50, 70\]", "grey channel"),
        (np.dstack([FRAME, FRAME[:, :, :1]]), r"uint8 \[50, 70, 4\]", r"array\[:, :, :3\]"),
        (FRAME.transpose(2, 0, 1), r"uint8 \[3, 50, 70\]", r"array.transpose\(1, 2, 0\)"),
        (FRAME[None], r"uint8 \[1, 50, 70, 3\]", r"check_batch\(list\(array\)\)"),
        (np.frombuffer(b"\xff\xd8\xff", np.uint8), r"uint8 \[3\]", "convert it"),
        (np.uint8(3) + np.zeros((), np.uint8), r"uint8 \[\]", "convert it"),
    ],
)  # fmt: skip
def test_an_array_of_another_dtype_or_shape_raises_and_names_the_conversion(array, what, remedy):
    with pytest.raises(UsageError, match=rf"can't classify an array {what}: {ACCEPTED}; .*{remedy}"):
        inputs.checked_frame(np.asanyarray(array))


def test_the_named_conversions_return_frames():
    for array in (
        (255 * (FRAME / np.float32(255))).round().clip(0, 255).astype(np.uint8),
        ((FRAME.astype(np.uint16) << 8) >> 8).astype(np.uint8),
        FRAME.transpose(2, 0, 1).transpose(1, 2, 0),
    ):
        assert np.array_equal(inputs.checked_frame(array), FRAME)
    for grey in (FRAME[:, :, 0], FRAME[:, :, :1]):
        assert inputs.checked_frame(np.repeat(grey.reshape(*grey.shape[:2], 1), 3, axis=2)).shape == FRAME.shape


@pytest.mark.parametrize("mask", [False, FRAME > 100])
def test_a_masked_array_raises(mask):
    with pytest.raises(UsageError, match=r"can't classify a masked array: .*array.filled\(0\)"):
        inputs.checked_frame(np.ma.MaskedArray(FRAME, mask))


@pytest.mark.parametrize("shape", [(0, 70, 3), (50, 0, 3), (1, 1, 3), (31, 70, 3)])
def test_a_frame_that_is_too_small_raises(shape):
    with pytest.raises(ImageError, match=rf"the image is {shape[1]} x {shape[0]}; each side needs at least 32 pixels"):
        inputs.checked_frame(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("image", "what", "remedy"),
    [
        (None, "None", "returned no frame"),
        (b"\xff\xd8", "an object of type bytes", "decode_image"),
        (bytearray(9), "an object of type bytearray", "decode_image"),
        (memoryview(b""), r"an object of type memoryview", "decode_image"),
        (Tensor(), r"an object of type torch\.Tensor \(torch\.float32 \[3, 50, 70\]\)", "permute"),
        ([FRAME], "an object of type list", "check_batch or check_stream"),
        (3.5, "an object of type float", "convert it"),
        (BytesPath(), r"an object of type .*BytesPath", "os.fsdecode"),
        (np.float32(1), r"an object of type numpy.float32 \(float32 \[\]\)", "np.asarray"),
    ],
)  # fmt: skip
def test_the_error_for_another_object_names_its_type_and_omits_its_contents(image, what, remedy):
    message = str(inputs.refuse(image))
    assert re.match(rf"can't classify {what}: {ACCEPTED}; .*{remedy}", message)
    assert len(message) < 250


@pytest.mark.parametrize("images", ["x.png", Path("x.png"), b"x", FRAME, FRAME[:, :, 0], Image.new("L", (40, 40))])
def test_a_single_image_is_not_several_images(images):
    with pytest.raises(UsageError, match=r"check_stream expects several images, not one \(.*\); use check"):
        inputs.refuse_single(images, "check_stream")


@pytest.mark.parametrize("images", [None, 3, Tensor()])
def test_an_object_that_is_not_iterable_raises(images):
    with pytest.raises(UsageError, match=r"check_batch expects several images, not .*; pass a list"):
        inputs.refuse_single(images, "check_batch")


@pytest.mark.parametrize("images", [[], (), iter([]), FRAME[None], {1: 2}, np.array(["x.png"], object), range(3)])
def test_several_images_may_be_any_iterable(images):
    inputs.refuse_single(images, "check_batch")


def test_a_pil_image_is_recognised_without_importing_pil():
    assert inputs.is_pil(Image.new("L", (1, 1)))
    code = "import sys; from leakrt.runtime import inputs; print(inputs.is_pil(3), 'PIL' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


class BrokenPath(os.PathLike):
    """A path whose `__fspath__` raises."""

    def __fspath__(self):
        raise OSError("gone")


class BrokenAttributes:
    """An object that raises when an attribute is read."""

    def __getattr__(self, name):
        raise RuntimeError(name)


@pytest.mark.parametrize("kind", [BrokenPath, BrokenAttributes])
def test_an_object_whose_attributes_raise_is_rejected_like_any_other(kind):
    image = kind()
    assert inputs.path_of(image) == ""
    assert ": expected a path, a PIL image" in str(inputs.refuse(image))

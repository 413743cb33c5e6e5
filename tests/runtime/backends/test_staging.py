"""Staging: which part of a frame is copied, where the kernel finds it, and in which pieces."""

from __future__ import annotations

import numpy as np
import pytest

from leakrt import _grid
from leakrt.core.preprocess import preprocess_reference, seen
from leakrt.runtime.backends.device_memory import ALIGNMENT
from leakrt.runtime.backends.staging import frames_size, lay_frames, place_frames

PIECE = 1 << 20


def frame(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def aligned_room(size: int) -> np.ndarray:
    """Return an aligned buffer of garbage, with one byte behind its end."""
    memory = np.full(size + 1 + ALIGNMENT, 0xEE, np.uint8)
    begin = -memory.ctypes.data % ALIGNMENT
    return memory[begin : begin + size + 1]


ODD = [frame(21, 12), frame(1, 1, 1), frame(90, 70, 3)[5:60:2, ::-1], frame(33, 355, 2), frame(411, 17, 4)]


@pytest.mark.parametrize("size", [1, 16, 40])
def test_the_kernel_gives_the_same_result_for_staged_and_whole_frames(size):
    """Every access is checked: a read outside the staged bytes raises."""
    room = aligned_room(frames_size(ODD, size))
    pieces = list(lay_frames(ODD, size, room))
    found = np.empty((len(ODD), 3, size, size), np.float32)
    _grid.preprocess(place_frames(ODD, size, room.ctypes.data), size, found.ctypes.data, "float32")
    for image, given in zip(found, ODD, strict=True):
        assert np.abs(image - preprocess_reference(given, size)).max() <= 2e-6
    assert room[-1] == 0xEE
    assert [(piece.start, piece.stop <= len(room) - 1) for piece in pieces] == [(0, True)]


def test_only_the_cropped_part_of_a_frame_is_staged():
    wide, tall = frames_size([frame(108, 192)], 24), frames_size([frame(192, 108)], 24)
    assert wide < 0.6 * 108 * 192 * 3
    assert tall < 0.6 * 108 * 192 * 3
    assert frames_size([frame(108, 108)], 24) == -(-(108**2) * 3 // ALIGNMENT) * ALIGNMENT


def test_frames_are_adjacent_and_aligned():
    base = 1000 * ALIGNMENT
    end = base
    for given, (address, height, width, stride) in zip(ODD, place_frames(ODD, 16, base), strict=True):
        rows, columns = seen(height, width, 16)
        first = address + rows.start * stride + 3 * columns.start
        assert (height, width, stride) == (*given.shape[:2], 3 * (columns.stop - columns.start))
        assert first % ALIGNMENT == 0
        assert first >= end
        end = first + (rows.stop - rows.start) * stride
    assert end <= base + frames_size(ODD, 16)


def test_a_large_frame_is_staged_in_pieces_of_which_only_the_first_is_copied_at_once():
    given, size = [frame(700, 1100, 7), frame(30, 40, 8), frame(900, 901, 9)], 32
    room = np.full(frames_size(given, size), 0xEE, np.uint8)
    pieces = lay_frames(given, size, room)
    assert (room[: PIECE - 3 * 1100] != 0xEE).any()
    assert (room[PIECE + 3 * 1100 :] == 0xEE).all()
    ends = [0]
    for piece in pieces:
        assert piece.start == ends[-1]
        assert (room[piece] != 0xEE).any()
        ends.append(piece.stop)
    assert len(ends) == 5  # three full pieces and the rest
    assert min(np.diff(ends)[:-1]) >= PIECE
    rows, columns = seen(900, 901, size)
    last = given[2][rows, columns]
    np.testing.assert_array_equal(room[ends[-1] - last.size : ends[-1]], last.ravel())


def test_the_last_piece_is_the_rest():
    given, size = [frame(1024, 1024)], 1024
    room = np.empty(frames_size(given, size), np.uint8)
    rows = -(-PIECE // 3072)
    ends = [(p.start // 3072, p.stop // 3072) for p in lay_frames(given, size, room)]
    assert ends == [(0, rows), (rows, 2 * rows), (2 * rows, 1024)]


def test_no_frames_need_no_memory():
    assert frames_size([], 9) == 0
    assert place_frames([], 9, 5) == []
    assert list(lay_frames([], 9, np.empty(0, np.uint8))) == []

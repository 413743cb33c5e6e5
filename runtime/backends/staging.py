"""Laying frames of any sizes side by side for the preprocess kernel: what it sees of them, and no more.

Of a frame of 1920 x 1080 pixels the centre crop leaves out two fifths, which are neither laid nor copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice

import numpy as np
import numpy.typing as npt

from ...core.preprocess import seen
from .device_memory import Frame, FrameAt, aligned

_PIECE = 1 << 20  # bytes: a face as it is cropped goes in one


def frames_size(frames: Sequence[Frame], size: int) -> int:
    """Bytes that what is `seen` of frames takes side by side, each at a multiple of ALIGNMENT. `size`: S."""
    return sum(aligned(3 * height * width) for height, width in (_kept(frame, size) for frame in frames))


def place_frames(frames: Sequence[Frame], size: int, base: int) -> list[FrameAt]:
    """Where the preprocess kernel finds each frame uint8 [H, W, 3] that `lay_frames` lays at `base`.

    Only what is `seen` lies there. So that the kernel can count from the frame's first pixel, the address is the one
    where that would lie, outside the memory though it may be: nothing is read there.
    """
    where, start = [], base
    for frame in frames:
        height, width = frame.shape[:2]
        rows, columns = seen(height, width, size)
        stride = 3 * (columns.stop - columns.start)
        where.append((start - rows.start * stride - 3 * columns.start, height, width, stride))
        start += aligned((rows.stop - rows.start) * stride)
    return where


def lay_frames(frames: Sequence[Frame], size: int, room: npt.NDArray[np.uint8]) -> Iterator[slice]:
    """Copy what is `seen` of frames into `room`, side by side, in pieces of about a MiB; gives each as it is there.

    The first is laid at once, the others when they are asked for: a device copies one while the next is laid.
    """
    pieces = _lay(frames, size, room)
    return chain(list(islice(pieces, 1)), pieces)


def _lay(frames: Sequence[Frame], size: int, room: npt.NDArray[np.uint8]) -> Iterator[slice]:
    start = begin = end = 0  # of the frame, and of what is laid and not yet given
    for frame in frames:
        part = frame[seen(*frame.shape[:2], size)]
        stride = 3 * part.shape[1]
        there = room[start : start + len(part) * stride].reshape(part.shape)
        step = -(-_PIECE // stride)
        for row in range(0, len(part), step):
            np.copyto(there[row : row + step], part[row : row + step])
            end = start + min(row + step, len(part)) * stride
            if end - begin >= _PIECE:
                yield slice(begin, end)
                begin = end
        start = aligned(end)
    if begin < end:
        yield slice(begin, end)


def _kept(frame: Frame, size: int) -> tuple[int, int]:
    rows, columns = seen(*frame.shape[:2], size)
    return rows.stop - rows.start, columns.stop - columns.start

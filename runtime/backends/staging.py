"""Staging of frames of any sizes in one buffer for the preprocess kernel.

Only the part of a frame that the centre crop uses (`core.preprocess.seen`) is copied: about three fifths of a
1920 x 1080 frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice

import numpy as np
import numpy.typing as npt

from ...core.preprocess import seen
from .device_memory import Frame, FrameAt, aligned

_PIECE = 1 << 20  # bytes; a cropped face fits in one piece


def frames_size(frames: Sequence[Frame], size: int) -> int:
    """Return the bytes that the `seen` parts of the frames need, each aligned to ALIGNMENT. `size`: S."""
    return sum(aligned(3 * height * width) for height, width in (_seen_size(frame, size) for frame in frames))


def place_frames(frames: Sequence[Frame], size: int, base: int) -> list[FrameAt]:
    """Return where the preprocess kernel finds each frame uint8 [H, W, 3] that `lay_frames` copies to `base`.

    The kernel indexes from the frame's first pixel, but only the `seen` part is copied. The returned address is where
    the first pixel would be; it may lie outside the buffer and is never read.
    """
    where, start = [], base
    for frame in frames:
        height, width = frame.shape[:2]
        rows, columns = seen(height, width, size)
        stride = 3 * (columns.stop - columns.start)
        where.append((start - rows.start * stride - 3 * columns.start, height, width, stride))
        start += aligned((rows.stop - rows.start) * stride)
    return where


def lay_frames(frames: Sequence[Frame], size: int, buffer: npt.NDArray[np.uint8]) -> Iterator[slice]:
    """Copy the `seen` parts of the frames into `buffer` in pieces of about 1 MiB; yields the slice of each piece.

    The first piece is copied at once, each other one when it is requested, so that a device can copy one piece while
    the next is staged.
    """
    pieces = _copied_pieces(frames, size, buffer)
    return chain(list(islice(pieces, 1)), pieces)


def _copied_pieces(frames: Sequence[Frame], size: int, buffer: npt.NDArray[np.uint8]) -> Iterator[slice]:
    start = 0  # of the frame
    begin = end = 0  # of the bytes that are copied and not yet yielded
    for frame in frames:
        part = frame[seen(*frame.shape[:2], size)]
        stride = 3 * part.shape[1]
        there = buffer[start : start + len(part) * stride].reshape(part.shape)
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


def _seen_size(frame: Frame, size: int) -> tuple[int, int]:
    rows, columns = seen(*frame.shape[:2], size)
    return rows.stop - rows.start, columns.stop - columns.start

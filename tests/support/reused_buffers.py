"""A source that fills the same few arrays again and again, as cameras do, and whether each frame got its own scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from leakrt import Detector

Frame = npt.NDArray[np.uint8]


def distinct_frames(count: int, *, height: int = 48, width: int = 64) -> list[Frame]:
    """Noise images."""
    return [np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8) for i in range(count)]


def refilled(frames: Sequence[Frame], ring: int) -> Iterator[Frame]:
    """The frames, each in one of `ring` buffers; the next one is filled as soon as it is asked for."""
    buffers = [np.zeros_like(frames[0]) for _ in range(ring)]
    for number, frame in enumerate(frames):
        np.copyto(buffers[number % ring], frame)
        yield buffers[number % ring]
    for buffer in buffers:
        buffer.fill(127)


def wrong_scores(detector: Detector, frames: Sequence[Frame], ring: int, *, batch: int, tolerance: float = 0.0) -> int:
    """How many verdicts of a stream are not those of their frame alone."""
    alone = [detector.check(frame) for frame in frames]
    found = list(detector.check_stream(refilled(frames, ring), batch=batch))
    assert len(found) == len(alone)
    return sum(
        max(abs(f.scores[name] - a.scores[name]) for name in a.scores) > tolerance
        for f, a in zip(found, alone, strict=True)
    )

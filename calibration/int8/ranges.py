"""Ranges of a graph's tensors, cached as JSON. Collection resumes after an interruption.

The cache has two kinds of files, both written atomically. `HASH.histograms.json` has the histograms; HASH covers graph,
tensors, images and version. It is saved every SAVE_EVERY images. `HASH.METHOD.json` has the ranges that a method
derived from them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...core.files import atomic_write, make_folder, recover, sha256_bytes
from ...core.locks import held
from ...core.progress import Progress
from ...export.graph_io import parse_graph
from .histogram import BINS, MagnitudeHistogram
from .methods import check_method, symmetric_range
from .observe import Observer

VERSION = 1  # of the histograms; part of the key
SAVE_EVERY = 32  # images

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class RangeSource:
    """The graph and the images to collect ranges from."""

    model: bytes  # the fp32 graph
    name: str  # its stem, for messages and progress
    tensors: tuple[str, ...]
    inputs: Callable[[int], Iterator[Array]]  # first image -> inputs from there on: one array [B, ...] per image
    count: int  # images
    images: str  # fingerprint of everything that determines the inputs

    @property
    def key(self) -> str:
        """Hash of graph, tensors, images and version."""
        text = f"{VERSION} {BINS} {sha256_bytes(self.model)} {self.images} {self.count} {' '.join(self.tensors)}"
        return sha256_bytes(text.encode())[:32]


def collect_ranges(
    source: RangeSource, method: str, cache: Path, *, threads: int, progress: Progress
) -> dict[str, float]:
    """Return r by tensor name, so that int8 spans [-r, r]; read from `cache` if possible.

    Raises UsageError for an unknown method (before anything runs), ModelError, DataError, StorageError.
    """
    check_method(method)
    path = cache / f"{source.key}.{method}.json"
    found = _read_ranges(path, source.tensors)
    if found is None:
        histograms = collect_histograms(source, cache, threads, progress=progress)
        found = {name: symmetric_range(histograms[name], method) for name in source.tensors}
        _write(path, {"method": method, "ranges": found})
    return found


def collect_histograms(
    source: RangeSource, cache: Path, threads: int, *, progress: Progress
) -> dict[str, MagnitudeHistogram]:
    """Return the histogram of every tensor over all images. Resumes after an interruption.

    Waits while another process collects the same ranges. Raises ModelError, DataError, StorageError.
    """
    path = cache / f"{source.key}.histograms.json"
    done, histograms = _read_histograms(path, source.tensors)
    if done >= source.count:
        return histograms
    make_folder(cache)
    with held(cache / f"{source.key}.lock", progress, "waiting for another process that collects these ranges"):
        recover(path)
        return _count(source, path, threads, progress=progress)


def _count(source: RangeSource, path: Path, threads: int, *, progress: Progress) -> dict[str, MagnitudeHistogram]:
    done, histograms = _read_histograms(path, source.tensors)  # again: another process may have continued
    if done >= source.count:
        return histograms
    task = f"ranges of {source.name}"
    observer = Observer(parse_graph(source.model, source.name), source.tensors, threads)
    progress(task, done, source.count)
    for value in source.inputs(done):
        observer.add(value, histograms)
        done += 1
        if done % SAVE_EVERY == 0 or done == source.count:
            _write(path, _state(done, histograms))
        progress(task, done, source.count)
    return histograms


def _state(done: int, histograms: Mapping[str, MagnitudeHistogram]) -> dict[str, object]:
    return {"done": done, "histograms": {name: h.to_json() for name, h in histograms.items()}}


def _write(path: Path, data: object) -> None:
    make_folder(path.parent)
    atomic_write(path, json.dumps(data, allow_nan=False).encode())


def _read_histograms(path: Path, tensors: Sequence[str]) -> tuple[int, dict[str, MagnitudeHistogram]]:
    """Return the number of counted images and the histograms; empty ones if the file is missing or damaged."""
    try:
        data = json.loads(path.read_bytes())
        stored = {name: MagnitudeHistogram.from_json(data["histograms"][name]) for name in tensors}
        return int(data["done"]), stored
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0, {name: MagnitudeHistogram() for name in tensors}


def _read_ranges(path: Path, tensors: Sequence[str]) -> dict[str, float] | None:
    try:
        ranges = json.loads(path.read_bytes())["ranges"]
        found = {name: float(ranges[name]) for name in tensors}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if all(np.isfinite(r) and r > 0 for r in found.values()) else None

"""Ranges are collected once and cached, and collection resumes after an interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from bundles import TINY_SPEC, vae_encoder

from leakrt.calibration.int8 import ranges
from leakrt.calibration.int8.qdq import observed_tensors
from leakrt.calibration.int8.ranges import RangeSource, collect_histograms, collect_ranges
from leakrt.calibration.layers import find_layers
from leakrt.core.errors import DataError, StorageError, UsageError
from leakrt.core.progress import silent

pytest.importorskip("onnx")
from leakrt.export.graph_io import parse_graph

COUNT = 80


def source(count=COUNT, images="fingerprint", model=None, seen=None, pause=0.0):
    model = vae_encoder(TINY_SPEC, seed=0) if model is None else model
    parsed = parse_graph(model, "vae_encoder")

    def stream(first):
        for i in range(first, count):
            if seen is not None:
                seen.append(i)
            time.sleep(pause)
            yield np.random.default_rng(i).uniform(-1, 1, (1, 3, 40, 40)).astype(np.float32)

    tensors = observed_tensors(parsed, find_layers(parsed, "vae_encoder"))
    return RangeSource(model=model, name="vae_encoder", tensors=tensors, inputs=stream, count=count, images=images)


def test_cached_ranges_are_read_without_running_an_image(tmp_path):
    seen = []
    first = collect_ranges(source(seen=seen), "mse", tmp_path, threads=1, progress=silent)
    assert collect_ranges(source(seen=seen), "mse", tmp_path, threads=1, progress=silent) == first
    assert len(seen) == COUNT


def test_another_method_reuses_the_histograms(tmp_path):
    seen = []
    first = collect_ranges(source(seen=seen), "minmax", tmp_path, threads=1, progress=silent)
    second = collect_ranges(source(seen=seen), "percentile", tmp_path, threads=1, progress=silent)
    assert len(seen) == COUNT
    assert first != second


@pytest.mark.parametrize(
    "change",
    [{"images": "others"}, {"model": vae_encoder(TINY_SPEC, seed=1)}, {"count": 40}],
    ids=lambda c: next(iter(c)),
)
def test_another_model_or_other_images_have_their_own_histograms(tmp_path, change):
    seen = []
    collect_ranges(source(), "mse", tmp_path, threads=1, progress=silent)
    collect_ranges(source(seen=seen, **change), "mse", tmp_path, threads=1, progress=silent)
    assert len(seen) == change.get("count", COUNT)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"ranges": {}}', b'{"ranges": {"image": -1}}', b"[" * 100_000])
def test_a_damaged_cache_is_rebuilt(tmp_path, damage):
    first = collect_ranges(source(), "mse", tmp_path, threads=1, progress=silent)
    for path in tmp_path.iterdir():
        path.write_bytes(damage)
    assert collect_ranges(source(), "mse", tmp_path, threads=1, progress=silent) == first


def test_a_killed_calibration_resumes_and_ends_like_an_uninterrupted_one(tmp_path):
    code = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]\n"
        "from test_ranges import source, collect_histograms, silent; from pathlib import Path\n"
        "collect_histograms(source(pause=0.02), Path(sys.argv[3]), 1, progress=silent)\n"
    )
    here, support = Path(__file__).parent, Path(__file__).parents[2] / "support"
    process = subprocess.Popen([sys.executable, "-c", code, str(here), str(support), str(tmp_path / "killed")])
    try:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "killed").glob("*.histograms.json")) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    seen = []
    resumed = collect_histograms(source(seen=seen), tmp_path / "killed", 1, progress=silent)
    whole = collect_histograms(source(), tmp_path / "whole", 1, progress=silent)
    assert 0 < len(seen) < COUNT
    for name, histogram in whole.items():
        np.testing.assert_array_equal(resumed[name].counts, histogram.counts)
        assert resumed[name].largest == histogram.largest


def test_state_is_kept_every_few_images_and_never_in_part(tmp_path):
    done = []

    def watch(task, at, total):
        for path in tmp_path.glob("*.histograms.json"):
            done.append(json.loads(path.read_bytes())["done"])

    collect_histograms(source(), tmp_path, 1, progress=watch)
    assert sorted(set(done)) == [ranges.SAVE_EVERY, 2 * ranges.SAVE_EVERY, COUNT]
    assert not list(tmp_path.glob(".*"))


def test_a_value_that_is_not_finite_is_an_error_and_nothing_is_kept(tmp_path):
    broken = source(count=3)
    bad = RangeSource(
        model=broken.model,
        name=broken.name,
        tensors=broken.tensors,
        inputs=lambda first: iter([np.full((1, 3, 40, 40), np.nan, np.float32)] * 3),
        count=3,
        images="bad",
    )
    with pytest.raises(DataError, match="not finite"):
        collect_ranges(bad, "mse", tmp_path, threads=1, progress=silent)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_method_is_refused_before_anything_runs(tmp_path):
    seen = []
    with pytest.raises(UsageError, match="'best'"):
        collect_ranges(source(seen=seen), "best", tmp_path, threads=1, progress=silent)
    assert not seen


def test_a_cache_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(StorageError, match="cache"):
        collect_ranges(source(), "mse", tmp_path / "cache", threads=1, progress=silent)

"""A complete profile of a bundle."""

from __future__ import annotations

import json
import math

import pytest

from leakrt.core.errors import BundleError, ImageError, UsageError
from leakrt.runtime.detector import Detector
from leakrt.runtime.profiling.profile import Options, profile_bundle

QUICK = {"seconds": 0.05, "threads": 1, "cold_starts": 0}


@pytest.fixture(scope="module")
def found(tiny):
    return profile_bundle(tiny, Options(batches=(2, 1), seconds=0.05, streams=2, cold_starts=1))


def test_the_json_has_the_first_batch_at_its_top_level(found):
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert (data["backend"], data["precision"], data["batch"]) == ("onnxruntime", "fp32", 2)
    assert [b["batch"] for b in data["batches"]] == [2, 1]
    assert data["stages"] == data["batches"][0]["stages"]
    assert list(data["stages"]) == ["preprocess", "vae_encoder", "noising", "leak_encoder", "decision"]
    names = {"samples", "p50", "p90", "p95", "p99", "max", "jitter", "std"}
    for batch in data["batches"]:
        for summary in (*batch["stages"].values(), batch["end_to_end"], batch["outside_stages"]):
            assert set(summary) == names
            assert all(math.isfinite(value) for value in summary.values())
    assert data["cold_start"]["runs"] == 1
    assert data["streams"] == 2
    assert data["machine"]["cpu"] == data["device"]
    assert data["memory_bytes"]["device"] is None


def test_streams_share_the_cores(found):
    assert found.runs.threads == max(1, found.machine.cores // 2)


def test_every_stream_runs_the_backend_of_the_first(tiny, monkeypatch):
    """`fastest` times the backends at every load."""
    asked, load = [], Detector.load

    def noting(path, *, backend, precision, threads, device):
        asked.append((backend, precision))
        return load(path, backend=backend, precision=precision, threads=threads, device=device)

    monkeypatch.setattr(Detector, "load", noting)
    found = profile_bundle(tiny, Options(backend="fastest", batches=(1,), streams=3, **QUICK))
    assert asked == [("fastest", "auto"), *[(found.runs.backend, found.runs.precision)] * 2]


def test_too_few_samples_for_p99_add_a_note(tiny):
    found = profile_bundle(tiny, Options(batches=(256,), **QUICK))
    assert found.notes()[0].startswith(
        f"batch 256: p99 is the maximum, because {found.batches[0].end_to_end.samples} calls are"
    )
    assert found.to_json()["enough_for_p99"] is False


def test_an_image_can_be_named(tiny, image_folder):
    found = profile_bundle(tiny, Options(batches=(1,), image=image_folder(1) / "0000.jpg", **QUICK))
    assert found.image == (53, 41)


def test_an_unreadable_image_raises_before_anything_is_loaded(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"x\.png"):
        profile_bundle(tmp_path / "no bundle", Options(image=tmp_path / "x.png"))


def test_a_missing_bundle_raises(tmp_path):
    with pytest.raises(BundleError, match="no bundle at"):
        profile_bundle(tmp_path / "none", Options())


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"batches": ()}, "need at least one"),
        ({"batches": (1, 1)}, "without duplicates"),
        ({"batches": (1, 0)}, "batch size 0: must be 1 to 1024"),
        ({"batches": (10**9,)}, "batch size 1000000000: must be 1 to 1024"),
        ({"streams": 0}, "number of streams 0: must be 1 to 64"),
        ({"seconds": 0.0}, "invalid seconds 0: must be more than 0"),
        ({"seconds": -1.0}, "invalid seconds -1: must be more than 0"),
        ({"seconds": math.nan}, "seconds nan"),
        ({"seconds": math.inf}, "seconds inf"),
        ({"cold_starts": -1}, "number of cold starts -1: must be 0 to 100"),
    ],
)
def test_an_invalid_option_raises(options, why):
    with pytest.raises(UsageError, match=why):
        Options(**options)

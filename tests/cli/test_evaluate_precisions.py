"""`leakrt evaluate BUNDLE DATA --precision all`."""

from __future__ import annotations

import json
import shutil

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxslim")
from runs import tiny_run, write_images

from leakrt.core.bundle import Bundle, write_bundle


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The tiny run's bundle with an fp16 variant; not to be written to."""
    from leakrt.calibration.acceptance.measuring import onnxruntime_only
    from leakrt.calibration.fp16.variant import HalfOptions, add_fp16
    from leakrt.core.progress import silent
    from leakrt.export.exporter import export_run
    from leakrt.train.run import Run

    path = export_run(Run.open(tiny_run() / "run"), tmp_path_factory.mktemp("made") / "bundle").path
    add_fp16(path, tiny_run() / "data", HalfOptions(threads=1), backends=onnxruntime_only(1), progress=silent)
    return path


@pytest.fixture
def ungated(made, tmp_path):
    """The same, as if fp16 had not passed its acceptance test."""
    opened = Bundle(made)
    files = {name: opened.read(name) for name in opened.file_sizes}
    write_bundle(tmp_path / "ungated", opened.spec, files, provenance={**opened.provenance, "variants": {}})
    return tmp_path / "ungated"


def test_all_precisions_stand_side_by_side(leakrt, made):
    done = leakrt("evaluate", made, tiny_run() / "data", "--precision", "all")
    assert done.code == 0
    assert done.lines[0].split() == ["precision", "fp32", "fp16"]
    rows = {line.strip().split("  ")[0]: line.split()[-1] for line in done.lines}
    for name in (
        "size",
        "macro AUC",
        "balanced accuracy",
        "false alarms",
        "95 % interval",
        "labels as fp32",
        "p50",
        "p99",
    ):
        assert name in rows
    assert "of 6" in done.out


def test_json_holds_each_evaluation_and_what_only_a_comparison_knows(leakrt, made, tmp_path):
    write_images(tmp_path / "open" / "stripes", "stripes", 4)
    done = leakrt("evaluate", made, tiny_run() / "data", "--precision", "all", "--open", tmp_path / "open", "--json")
    data = json.loads(done.out)
    exact, half = data["precisions"]["fp32"], data["precisions"]["fp16"]
    assert exact["agreement"] == {"images": 18, "labels": 1.0, "confident": 1.0, "verdicts": 1.0}
    assert half["megabytes"] < exact["megabytes"] == Bundle(made).variant_size("fp32") / 1e6
    assert 0 < half["latency_ms"]["p50"] <= half["latency_ms"]["p99"]
    assert (half["caught"], half["open_images"], data["refused"]) == (0, 4, {})
    alone = json.loads(leakrt("evaluate", made, tiny_run() / "data", "--precision", "fp16", "--json").out)
    assert {k: half[k] for k in ("macro_auc", "false_alarm_count", "coverage")} == {
        k: alone[k] for k in ("macro_auc", "false_alarm_count", "coverage")
    }


def test_a_refused_precision_is_reported_and_the_rest_is_measured(leakrt, ungated):
    done = leakrt("evaluate", ungated, tiny_run() / "data", "--precision", "all")
    assert done.code == 0
    assert done.lines[0].split() == ["precision", "fp32"]
    assert "fp16 has not passed its acceptance test" in done.err
    named = leakrt("evaluate", ungated, tiny_run() / "data", "--precision", "fp16")
    assert (named.code, len(named.err.splitlines())) == (1, 1)


def test_unreadable_images_are_reported_once(leakrt, made, tmp_path):
    data = shutil.copytree(tiny_run() / "data" / "test", tmp_path / "data")
    (data / "real" / "bad.png").write_bytes(b"no image")
    done = leakrt("evaluate", made, data, "--split", "all", "--precision", "all", "--json")
    assert done.code == 1
    assert done.err.count("bad.png") == 1
    assert {p["failed"] for p in json.loads(done.out)["precisions"].values()} == {1}


def test_a_run_and_plots_are_refused_in_one_line(leakrt, made, tmp_path):
    for arguments in ([tiny_run() / "run"], [made, "--plots", tmp_path / "plots"]):
        done = leakrt("evaluate", arguments[0], tiny_run() / "data", "--precision", "all", *arguments[1:])
        assert (done.code, "--precision all takes a bundle" in done.err) == (2, True)

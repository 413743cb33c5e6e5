"""`leakrt export`."""

from __future__ import annotations

import json
import shutil

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxslim")
from runs import tiny_run


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(tiny_run() / "run", tmp_path / "run")


def test_a_run_becomes_a_bundle_that_checks_images(leakrt, run, tmp_path):
    done = leakrt("export", run, "--out", tmp_path / "bundle")
    assert done.code == 0
    assert "60 of 60 verdicts equal" in done.out
    checked = leakrt("check", tmp_path / "bundle", tiny_run() / "data" / "test" / "smooth", "--json")
    assert checked.code == 0
    assert len(checked.lines) == 6


def test_json_is_one_object(leakrt, run, tmp_path):
    done = leakrt("export", run, "--out", tmp_path / "b.zip", "--json", "--false-alarm-rate", 0.1, "--no-exemplars")
    data = json.loads(done.out)
    assert data["decision"]["false_alarm_rate"] == 0.1
    assert data["parity"]["same_verdicts"] == 60
    assert "exemplars.npz" not in data["files"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--false-alarm-rate", "1.5"], 2, "false-alarm rate 1.5"),
        (["--false-alarm-rate", "0.01"], 1, "at least 99 are needed"),
    ],
)
def test_impossible_rates_are_one_line(leakrt, run, tmp_path, arguments, code, message):
    done = leakrt("export", run, "--out", tmp_path / "bundle", *arguments)
    assert done.code == code
    assert message in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    assert not (tmp_path / "bundle").exists()


def test_a_folder_without_a_run_is_refused(leakrt, tmp_path):
    done = leakrt("export", tmp_path, "--out", tmp_path / "bundle")
    assert done.code == 1
    assert "is not a training run" in done.err


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A bundle of the tiny run; not to be written to."""
    from leakrt.export.exporter import export_run
    from leakrt.train.run import Run

    return export_run(Run.open(tiny_run() / "run"), tmp_path_factory.mktemp("exported") / "bundle").path


@pytest.fixture
def bundle(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "bundle")


def files_of(bundle):
    return {path.name: path.read_bytes() for path in bundle.iterdir()}


def test_an_fp16_variant_is_added_and_what_was_measured_is_shown(leakrt, bundle, monkeypatch):
    from leakrt.core.acceptance import Speedup

    monkeypatch.setattr(
        "leakrt.calibration.acceptance.measuring.measure_speedup",
        lambda *given, **options: Speedup(0.66, 0.64, 0.7, 30),
    )
    done = leakrt("export", bundle, "--precision", "fp16", "--data", tiny_run() / "data", "--threads", 1)
    assert (
        "onnxruntime: 0.66 x as fast as fp32 (0.64 to 0.70); `auto` skips it on this backend, "
        "--precision fp16 selects it" in done.out
    )
    assert (done.code, "Traceback" in done.err) == (0, False)
    assert "float32 island" in done.lines[0]
    for word in (
        "passed",
        "rounded: macro AUC",
        "onnxruntime: macro AUC",
        "labels agree",
        "verdicts change (",
        "0 cross",
    ):
        assert word in done.out
    checked = leakrt("check", bundle, tiny_run() / "data" / "test" / "smooth", "--precision", "fp16", "--json")
    assert {json.loads(line)["precision"] for line in checked.lines} == {"fp16"}
    again = leakrt("export", bundle, "--precision", "fp16", "--data", tiny_run() / "data")
    assert (again.code, "already has an fp16 variant; give --replace" in again.err) == (1, True)
    replaced = leakrt("export", bundle, "--precision", "fp16", "--data", tiny_run() / "data", "--replace", "--json")
    found = json.loads(replaced.out)
    assert found["left_out"] == []
    assert found["written"] == str(bundle)
    assert found["attempts"][-1]["failures"] == []
    assert set(found["attempts"][-1]["gate"]) >= {"rounded", "onnxruntime"}


def test_a_failed_acceptance_test_is_exit_code_1_and_the_bundle_stays(leakrt, bundle, monkeypatch):
    from leakrt.core.acceptance import Limits

    impossible = Limits(max_drop=-1.0)
    monkeypatch.setattr("leakrt.calibration.fp16.variant.HalfOptions.__init__.__defaults__", (impossible, 1, False))
    before = files_of(bundle)
    done = leakrt("export", bundle, "--precision", "fp16", "--data", tiny_run() / "data")
    assert done.code == 1
    assert (
        done.err.splitlines()[-1] == "leakrt: every fp16 variant failed its acceptance test; the bundle is not changed"
    )
    assert "macro AUC drops by" in done.out
    assert files_of(bundle) == before


def test_a_refused_variant_is_kept_by_name_and_every_command_says_so(leakrt, bundle, monkeypatch):
    from leakrt.core.acceptance import Limits

    impossible = Limits(max_drop=-1.0)
    monkeypatch.setattr("leakrt.calibration.fp16.variant.HalfOptions.__init__.__defaults__", (impossible, 1, False))
    fp16 = ("export", bundle, "--precision", "fp16", "--data", tiny_run() / "data", "--keep-refused")
    done = leakrt(*fp16)
    assert done.code == 0
    assert done.err.splitlines()[-1] == (
        "leakrt: every fp16 variant failed its acceptance test; "
        "kept as refused: only --precision fp16 selects it, and its verdicts say so"
    )
    images = tiny_run() / "data" / "test" / "smooth"
    plain = [json.loads(line) for line in leakrt("check", bundle, images, "--json").lines]
    named = [json.loads(line) for line in leakrt("check", bundle, images, "--precision", "fp16", "--json").lines]
    assert {v["precision"] for v in plain} == {"fp32"}
    assert {v["precision"] for v in named} == {"fp16"}
    note = "the fp16 variant was refused by its acceptance test: rounded: macro AUC drops"
    assert all(v["reasons"][-1].startswith(note) for v in named)
    assert not any(note in reason for v in plain for reason in v["reasons"])
    assert note in leakrt("check", bundle, images, "--precision", "fp16").out
    shown = leakrt("inspect", bundle).out
    assert "refused variants that were kept, and why" in shown
    assert "refused: only --precision fp16 selects it" in shown
    assert json.loads(leakrt(*fp16, "--replace", "--json").out)["refused"] is True


def test_a_disk_that_fills_up_leaves_the_bundle_as_it_was(start_leakrt, bundle):
    import resource

    before = files_of(bundle)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))

    arguments = ("export", bundle, "--precision", "fp16", "--data", tiny_run() / "data", "--threads", 1)
    process = start_leakrt(*arguments, preexec_fn=limit)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "leakrt: error: " in err.splitlines()[-1]
    assert "Traceback" not in err
    assert files_of(bundle) == before
    assert sorted(path.name for path in bundle.parent.iterdir()) == ["bundle"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--precision", "fp16"], 2, "needs the labelled images of the run for its acceptance test; give --data DATA"),
        (["--precision", "fp16", "--data", "x", "--out", "y"], 2, "omit --out"),
        (["--precision", "fp16", "--data", "nowhere"], 1, "nowhere"),
        (["--precision", "int8", "--data", "x"], 2, "use leakrt calibrate"),
        (["--precision", "fp8"], 2, "choose fp32 or fp16"),
        ([], 2, "give --out BUNDLE"),
    ],
)
def test_what_can_not_be_meant_for_a_bundle_is_one_line(leakrt, bundle, arguments, code, message):
    before = files_of(bundle)
    done = leakrt("export", bundle, *arguments)
    assert done.code == code
    assert message in done.err
    assert "Traceback" not in done.err
    assert files_of(bundle) == before


def test_a_run_is_not_made_fp16_directly(leakrt, run):
    done = leakrt("export", run, "--precision", "fp16", "--data", tiny_run() / "data")
    assert (done.code, "export it first" in done.err) == (2, True)

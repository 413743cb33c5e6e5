"""`leakrt profile`: a table for people, JSON for programs, a picture."""

from __future__ import annotations

import json
import signal
import sys
import time

import pytest

QUICK = ("--seconds", "0.05", "--threads", "1", "--cold-starts", "0")


def test_people_get_a_table_of_every_stage(tiny, leakrt):
    done = leakrt("profile", tiny, "--batch", "1,3", *QUICK)
    assert done.code == 0
    assert done.lines[0].startswith("onnxruntime ")
    for text in ("batch 1:", "batch 3:", "p50", "jitter", "vae_encoder", "end to end", "throughput", "load average"):
        assert text in done.out


def test_programs_get_one_object(tiny, leakrt):
    done = leakrt("profile", tiny, "--json", "--batch", "2", "--streams", "2", *QUICK)
    data = json.loads(done.out)
    assert (data["backend"], data["precision"], data["batch"], data["streams"]) == ("onnxruntime", "fp32", 2, 2)
    assert data["stages"]["noising"]["p50"] <= data["end_to_end"]["p99"]


def test_notes_on_the_figures_are_printed_to_stderr(tiny, leakrt):
    done = leakrt("profile", tiny, "--json", "--batch", "200", *QUICK)
    assert "leakrt: batch 200: " in done.err
    assert "p99 is the maximum, because" in done.err
    json.loads(done.out)


def test_a_cold_start_is_timed_in_new_processes(tiny, leakrt):
    done = leakrt("profile", tiny, "--batch", "1", "--seconds", "0.05", "--cold-starts", "1")
    assert "load to first verdict" in done.out
    assert "median of 1 processes" in done.out


def test_a_picture_is_drawn(tiny, leakrt, tmp_path):
    pytest.importorskip("matplotlib")
    done = leakrt("profile", tiny, "--batch", "1,2", "--plot", tmp_path / "p.png", *QUICK)
    assert done.code == 0
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_without_matplotlib_names_the_command_before_anything_is_measured(
    tiny, leakrt, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    begin = time.perf_counter()
    done = leakrt("profile", tiny, "--seconds", "60", "--plot", tmp_path / "p.png")
    assert time.perf_counter() - begin < 30
    assert done.code == 1
    assert "pip install 'leakrt[train]'" in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("none",), 1, "no bundle at none"),
        (("--backend", "abacus"), 2, "no backend named 'abacus'"),
        (("--precision", "int8"), 1, "has no int8 variant"),
        (("--precision", "fp8"), 2, "no precision 'fp8'"),
        (("--batch", "0"), 2, "invalid batch size 0: must be 1 to 1024"),
        (("--batch", "1,x"), 2, "--batch 1,x: not a list of integers"),
        (("--batch", ""), 2, "not a list of integers"),
        (("--seconds", "0"), 2, "invalid seconds 0: must be more than 0"),
        (("--seconds", "-3"), 2, "invalid seconds -3: must be more than 0"),
        (("--streams", "0"), 2, "number of streams 0"),
        (("--threads", "-1"), 2, "number of threads -1"),
        (("--image", "no.png"), 1, "no.png"),
        (("--plot", "/no/such/folder/p.png"), 2, "/no/such/folder/p.png: cannot write there"),
        (("--plot", "."), 2, "--plot .: cannot write there"),
    ],
)
def test_bad_input_is_one_line(tiny, leakrt, arguments, code, why):
    bundle = () if arguments[0] == "none" else (tiny,)
    done = leakrt("profile", *bundle, *QUICK, *arguments)
    errors = [line for line in done.err.splitlines() if "error" in line]
    assert done.code == code
    assert done.out == ""
    assert len(errors) == 1
    assert why in errors[0]
    assert "Traceback" not in done.err


def test_an_image_that_can_not_be_read_is_one_line(tiny, leakrt, tmp_path):
    (tmp_path / "x.png").write_bytes(b"no image")
    done = leakrt("profile", tiny, "--image", tmp_path / "x.png", *QUICK)
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)


def test_ctrl_c_ends_it_at_once(tiny, start_leakrt):
    process = start_leakrt("profile", tiny, "--seconds", "600", "--cold-starts", "0", "--batch", "1")
    while "batch 1:" not in process.stderr.readline():  # a line of progress: the streams are running
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "leakrt: interrupted"

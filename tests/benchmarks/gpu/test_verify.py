"""Parts in processes of their own: what one does, hangs or breaks on leaves the others' results alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks" / "gpu"
_PART = """
import json, os, sys, time
from pathlib import Path
out = Path(sys.argv[sys.argv.index("--out") + 1])
"""


@pytest.fixture
def verify(script, monkeypatch, tmp_path):
    """verify.py with parts from tmp_path; `verify(**scripts)` runs them and gives exit code and results."""
    monkeypatch.delenv("OUT", raising=False)
    module = script("verify")

    def run(*arguments, **scripts):
        for name, code in scripts.items():
            (tmp_path / f"{name}.py").write_text(_PART + code)
        monkeypatch.setattr(module, "HERE", tmp_path)
        monkeypatch.setattr(module, "ROOT", tmp_path)
        monkeypatch.setattr(module, "STEPS", tuple(module.Step(name, f"{name}.py", 11) for name in scripts))
        options = ["--rehearse", "--work", str(tmp_path / "work"), *arguments]
        monkeypatch.setattr(sys, "argv", ["verify.py", *options])
        code = module.main()
        return code, json.loads((tmp_path / "work" / "gpu_rehearsal.json").read_text())["parts"]

    return run


def test_what_a_part_kept_is_in_the_results(verify):
    code, parts = verify(good='out.write_text(json.dumps({"x": 3, "done": True, "failures": []}))')
    assert (code, parts["good"]["status"], parts["good"]["data"]["x"]) == (0, "ok", 3)


def test_a_part_that_crashes_keeps_what_it_had_and_the_next_one_runs(verify):
    code, parts = verify(
        broken='out.write_text(json.dumps({"x": 3, "failures": []})); print("last words", flush=True); os.abort()',
        good='out.write_text(json.dumps({"done": True}))',
    )
    assert code == 1
    assert (parts["broken"]["status"], parts["broken"]["data"]["x"]) == ("failed", 3)
    assert "last words" in "\n".join(parts["broken"]["output"])
    assert parts["good"]["status"] == "ok"


def test_a_part_that_never_wrote_says_its_last_line(verify):
    code, parts = verify(broken='raise ValueError("of a kind")')
    assert (code, parts["broken"]["why"], parts["broken"]["data"]) == (1, "ValueError: of a kind", {})


def test_a_part_that_failed_says_its_first_failure(verify):
    data = '{"done": True, "failures": ["one", "two"]}'
    code, parts = verify(bad=f"out.write_text(json.dumps({data})); sys.exit(1)")
    assert (code, parts["bad"]["status"], parts["bad"]["why"]) == (1, "failed", "2 failures; one")


def test_a_part_that_is_skipped_is_no_failure(verify):
    code, parts = verify(away='out.write_text(json.dumps({"skipped": "no GPU"}))')
    assert (code, parts["away"]["status"], parts["away"]["why"]) == (0, "skipped", "no GPU")


def test_a_part_that_hangs_is_ended_with_all_that_it_started(script, tmp_path):
    child = f"import time, os; open({str(tmp_path / 'child')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    code = f"import subprocess\nsubprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(600)"
    begin = time.monotonic()
    (tmp_path / "slow.py").write_text(_PART + code)
    log = tmp_path / "log"
    arguments = [sys.executable, str(tmp_path / "slow.py"), "--out", str(tmp_path / "out")]
    assert script("verify")._run(arguments, dict(os.environ), log, 3.0) is None
    assert time.monotonic() - begin < 30
    child = Path("/proc", (tmp_path / "child").read_text(), "stat")
    deadline = time.monotonic() + 10
    while child.exists() and " Z " not in child.read_text():  # a zombie waits for nobody but init
        assert time.monotonic() < deadline, "the child is still there"
        time.sleep(0.05)


def test_parts_for_which_no_time_is_left_are_told(verify):
    code, parts = verify("--seconds", "5", good='out.write_text(json.dumps({"done": True}))')
    assert (code, parts["good"]) == (0, {"status": "skipped", "why": "no time was left"})


def test_a_later_call_replaces_only_the_parts_that_it_ran(verify):
    both = {name: f'out.write_text(json.dumps({{"done": True, "at": "{name}"}}))' for name in ("one", "two")}
    verify(**both)
    both["two"] = both["two"].replace('"two"', '"two again"')
    _, parts = verify("--only", "two", **both)
    assert [parts[name]["data"]["at"] for name in ("one", "two")] == ["one", "two again"]


def test_out_names_the_folder_of_the_results(verify, monkeypatch, tmp_path):
    monkeypatch.setenv("OUT", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError):
        verify(good='out.write_text(json.dumps({"done": True}))')
    assert json.loads((tmp_path / "elsewhere" / "gpu_rehearsal.json").read_text())["parts"]["good"]["status"] == "ok"


def test_a_packed_python_gets_its_own_variables_and_the_others_do_not(script, monkeypatch, tmp_path):
    monkeypatch.delenv("OUT", raising=False)
    kit = tmp_path / "kit"
    (kit / "bin").mkdir(parents=True)
    (kit / "bin" / "python").symlink_to(sys.executable)
    (kit / "env.sh").write_text("export KIT_HOME=here\n")
    code = 'out.write_text(json.dumps({"done": True, "kit": os.environ.get("KIT_HOME", "")}))'
    module = script("verify")
    for name, tensorrt in (("plain", False), ("engines", True)):
        (tmp_path / f"{name}.py").write_text(_PART + code)
        step = module.Step(name, f"{name}.py", 11, tensorrt=tensorrt)
        monkeypatch.setattr(module, "HERE", tmp_path)
        monkeypatch.setattr(module, "STEPS", (step,))
        arguments = ["--rehearse", "--work", str(tmp_path / "work"), "--python", str(kit / "bin" / "python")]
        monkeypatch.setattr(sys, "argv", ["verify.py", *arguments])
        assert module.main() == 0
    parts = json.loads((tmp_path / "work" / "gpu_rehearsal.json").read_text())["parts"]
    assert {name: part["data"]["kit"] for name, part in parts.items()} == {"plain": "", "engines": "here"}


def test_without_a_gpu_nothing_was_verified_and_the_exit_code_says_so(script, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("OUT", raising=False)
    monkeypatch.setenv("PATH", "")
    (tmp_path / "away.py").write_text(_PART + 'out.write_text(json.dumps({"skipped": "no GPU"}))')
    module = script("verify")
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "STEPS", (module.Step("away", "away.py", 11),))
    monkeypatch.setattr(sys, "argv", ["verify.py", "--work", str(tmp_path / "work")])
    assert module.main() == 1
    told = capsys.readouterr()
    assert "away  skipped" in told.out
    assert "not measured" in told.out
    assert told.err.startswith("nothing was verified: nvidia-smi names no GPU")
    parts = json.loads((tmp_path / "work" / "gpu_none.json").read_text())["parts"]
    assert parts["away"]["why"] == "no GPU"


def test_an_unknown_part_is_wrong_usage(tmp_path):
    command = [str(FOLDER / "verify.sh"), "--only", "kernals", "--work", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHON": sys.executable})
    assert done.returncode == 2
    assert "no part 'kernals'; there are: machine, native, kernels" in done.stderr


@pytest.mark.slow
def test_a_rehearsal_runs_the_parts_that_need_no_bundle(tmp_path):
    pytest.importorskip("torch", reason="needs torch")
    only = "machine,kernels,kernel_times,reference_times,rtx_engines,tensorrt"
    command = [str(FOLDER / "verify.sh"), "--rehearse", "--installed", "--only", only, "--work", str(tmp_path)]
    environment = {k: v for k, v in os.environ.items() if k != "OUT"} | {"PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout
    parts = json.loads((tmp_path / "gpu_rehearsal.json").read_text())["parts"]
    assert {name for name, part in parts.items() if part["status"] == "ok"} >= set(only.split(",")[:4])
    assert parts["tensorrt"]["why"].startswith("there is no bundle")

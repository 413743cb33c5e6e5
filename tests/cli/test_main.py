"""The program as people start it: full disks, closed pipes, Ctrl-C, odd locales."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from leakrt.cli.guard import CLOSED_PIPE, INTERRUPTED, guarded

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@needs_full
@pytest.mark.parametrize("verb", [("inspect",), ("inspect", "--json")])
def test_a_full_disk_behind_stdout_is_one_line_that_says_where(start_leakrt, tiny, verb):
    with open("/dev/full", "w") as full:
        process = start_leakrt(*verb, tiny, stdout=full)
        _, err = process.communicate()
    reported = re.fullmatch("leakrt: error: (.*); free some space and run the command again\n", err)
    assert reported
    assert reported.group(1).removesuffix(" to /dev/full") == "no space left while writing standard output"
    assert process.returncode == 1


def test_a_limit_on_the_size_of_a_file_is_one_line(tiny, image_folder, tmp_path):
    command = f"ulimit -f 1; exec {sys.executable} -m leakrt check {tiny} {image_folder(40)} --json > {tmp_path}/out"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "the limit on the size of a file is reached while writing standard output" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error(start_leakrt, tiny, image_folder):
    process = start_leakrt("check", tiny, image_folder(60), "--json", "--batch", 1)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait() == CLOSED_PIPE
    assert "Traceback" not in process.stderr.read()


def test_a_reader_of_the_help_that_goes_away_ends_it_like_any_other_output(start_leakrt):
    process = start_leakrt("--help", "-h")
    process.stdout.close()
    assert process.wait() == CLOSED_PIPE
    assert process.stderr.read() == ""


def test_ctrl_c_is_one_line_and_130(tiny, image_folder, start_leakrt):
    folder = image_folder(1)
    again = [folder / "0000.jpg"] * 5000
    process = start_leakrt("check", tiny, *again, "--json", "--batch", 1)
    assert process.stdout.readline().startswith("{")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == INTERRUPTED
    assert err.splitlines()[-1] == "leakrt: interrupted"
    assert "Traceback" not in err
    assert all(line.endswith("}") for line in out.splitlines())  # no line is cut


def test_ctrl_c_while_python_imports_is_one_line_too(leakrt, monkeypatch):
    class Interrupter:
        def find_spec(self, name, *_):
            if name == "leakrt.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "leakrt.cli.app", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupter(), *sys.meta_path])
    done = leakrt("doctor")
    assert (done.code, done.out, done.err) == (INTERRUPTED, "", "leakrt: interrupted\n")


def test_json_is_utf8_whatever_the_locale_and_the_file_name(tiny, image_folder, start_leakrt):
    import json
    import os

    folder = image_folder(1)
    name = os.fsencode(folder) + b"/\xff\xc3\xa4.jpg"
    (folder / "0000.jpg").rename(os.fsdecode(name))
    process = start_leakrt("check", tiny, folder, "--json", env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"})
    out, _ = process.communicate()
    assert process.returncode == 0
    assert os.fsencode(json.loads(out)["path"]) == name


def test_python_m_leakrt_is_the_same_program():
    result = subprocess.run([sys.executable, "-m", "leakrt", "--version"], capture_output=True, text=True)
    assert (result.returncode, result.stdout.split()[0]) == (0, "leakrt")


def test_ctrl_c_outside_a_verb_is_reported_too(monkeypatch, capsys):
    import typer

    from leakrt.cli import app, main

    def interrupted() -> None:
        raise KeyboardInterrupt

    def build() -> typer.Typer:
        made = typer.Typer()
        made.command()(interrupted)
        return made

    monkeypatch.setattr(app, "build_app", build)
    monkeypatch.setattr("sys.argv", ["leakrt"])
    assert guarded(main._main) == INTERRUPTED
    assert capsys.readouterr().err == "leakrt: interrupted\n"

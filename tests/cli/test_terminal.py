"""Terminals and environments that want no escape codes, and standard streams that are closed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from leakrt.cli import app

pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")

ESCAPE = b"\x1b"
MAIN = "from leakrt.cli.main import run; run()"


def on_terminal(*arguments: object, **environment: str) -> bytes:
    """What `leakrt ARGUMENTS` writes to a terminal that is its stdout and stderr."""
    ours, its = pty.openpty()
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *map(str, arguments)], stdout=its, stderr=its, env={**kept, **environment}
    )
    os.close(its)
    chunks: list[bytes] = []

    def read() -> None:
        try:
            while chunk := os.read(ours, 1 << 16):
                chunks.append(chunk)
        except OSError:  # EIO: the other side is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    process.wait(60)
    reader.join()
    os.close(ours)
    return b"".join(chunks)


def test_a_terminal_gets_colours_and_a_bar(tiny, image_folder):
    folder = image_folder(3)
    assert b"\x1b[" in on_terminal("check", tiny, folder, TERM="xterm")
    assert b"3/3" in on_terminal("check", tiny, folder, "--json", TERM="xterm")


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}])
def test_no_escape_code_reaches_a_terminal_that_wants_none(tiny, image_folder, environment):
    folder = image_folder(3)
    for arguments in (["--help"], ["nosuch"], ["check", tiny, folder], ["check", tiny, folder, "--json"]):
        for forced in ({}, {"FORCE_COLOR": "1"}):
            written = on_terminal(*arguments, **environment, **forced)
            assert written
            assert ESCAPE not in written


@pytest.mark.parametrize("verb", app.VERBS)
def test_help_and_wrong_usage_of_every_verb_are_plain(verb, leakrt, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    for argument in ("--help", "--no-such-option"):
        done = leakrt(verb, argument)
        assert done.out + done.err
        assert "\x1b" not in done.out + done.err


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("arguments", "code"), [("check BUNDLE IMAGES", 0), ("inspect /nope", 1), ("nosuch", 2)])
def test_a_closed_stream_is_no_error_and_loses_nothing_else(tiny, image_folder, closed, arguments, code):
    words = arguments.replace("BUNDLE", str(tiny)).replace("IMAGES", str(image_folder(2)))
    command = f"exec {sys.executable} -c '{MAIN}' {words} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert "Traceback" not in done.stdout + done.stderr
    if ">&-" not in closed.replace("2>&-", ""):
        assert done.stdout.count("\n") == (2 if code == 0 else 0)
    if "2>&-" not in closed:
        assert done.stderr


def test_a_file_does_not_take_the_number_of_a_closed_stream(tmp_path):
    code = "from leakrt.cli.main import _open_closed_streams as f; f(); print(open('x', 'w').fileno())"
    command = f'exec {sys.executable} -c "{code}" <&- 2>&-'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert int(done.stdout) > 2

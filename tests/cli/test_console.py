"""Progress and text for people."""

from __future__ import annotations

import io

import pytest

from leakrt.cli import console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_a_line_comes_at_most_every_two_seconds(clock):
    stream = io.StringIO()
    with console.ConsoleProgress("images", stream=stream) as progress:
        for i in range(101):
            progress("check", i, 100)
            clock[0] += 0.125
    assert stream.getvalue().splitlines() == [
        *(f"check: {n}/100 images, 8/s, {round((100 - n) / 8)} s left" for n in (16, 32, 48, 64, 80, 96)),
        "check: 100/100 images, 8/s",
    ]


def test_what_is_done_at_once_prints_nothing(clock):
    stream = io.StringIO()
    with console.ConsoleProgress("images", stream=stream) as progress:
        progress("check", 0, 3)
        progress("check", 3, 3)
    assert stream.getvalue() == ""


def test_an_unknown_total_shows_what_is_done(clock):
    stream = io.StringIO()
    progress = console.ConsoleProgress("", stream=stream)
    progress("read", 0, 0)
    clock[0] += 4
    progress("read", 8, 0)
    assert stream.getvalue() == "read: 8, 2/s\n"


def test_a_task_without_a_total_counts_seconds(clock, monkeypatch):
    stream = io.StringIO()
    progress = console.ConsoleProgress("%", stream=stream)
    progress("wait", 0, 0)
    clock[0] += 4
    progress("wait", 4, 0)
    assert stream.getvalue() == "wait: 4 s, 1/s\n"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(console.sys, "stderr", Terminal())
    with console.ConsoleProgress("%") as bar:
        bar("wait", 4, 0)
        bar("build", 4, 100)
    shown = console.sys.stderr.getvalue()
    assert "4/? " in shown
    assert "4/?   %" not in shown


def test_on_a_terminal_there_is_a_bar_on_stderr(monkeypatch):
    import sys

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with console.ConsoleProgress("images") as progress:
        progress("check [me]", 1, 2)
        progress("check [me]", 2, 2)
    assert "check [me]" in stream.getvalue()
    assert "2/2" in stream.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(7.6, "8 s"), (125, "2 min 5 s"), (11_520, "3 h 12 min")])
def test_durations_are_for_people(seconds, text):
    assert console.duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")])
def test_sizes_are_for_people(count, text):
    assert console.size(count) == text


def test_control_characters_do_not_reach_a_terminal():
    assert console.printable("a\nb\tc\x1b[31m\u202e\x00ä") == "a b c\ufffd[31m\ufffd\ufffdä"


def test_colour_is_for_terminals(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    assert console.coloured("x", "red", stream=io.StringIO()) == "x"
    assert console.coloured("x", "red", stream=Terminal()) == "\x1b[31mx\x1b[0m"


@pytest.mark.parametrize(
    ("environment", "on_terminal", "elsewhere"),
    [
        ({}, True, False),
        ({"NO_COLOR": ""}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"TERM": "dumb"}, False, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, False, False),
    ],
)
def test_the_environment_decides_on_colours(monkeypatch, environment, on_terminal, elsewhere):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b" in console.coloured("x", "red", stream=Terminal())) is on_terminal
    assert ("\x1b" in console.coloured("x", "red", stream=io.StringIO())) is elsewhere


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_that_wants_no_escape_codes_gets_lines(monkeypatch, clock, name, value):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    stream = Terminal()
    with console.ConsoleProgress("images", stream=stream) as progress:
        progress("check", 0, 8)
        clock[0] += 4
        progress("check", 4, 8)
    assert stream.getvalue() == "check: 4/8 images, 1/s, 4 s left\n"


def test_columns_of_a_table_are_aligned():
    assert console.table([("a", "1"), ("long", "22")], indent="") == "a     1\nlong  22"
    assert console.table([]) == ""

"""The verbs and their help."""

from __future__ import annotations

import pytest

from leakrt import __version__
from leakrt.cli.app import VERBS


def test_without_a_verb_the_help_is_printed_and_usage_was_wrong(leakrt):
    done = leakrt()
    assert done.code == 2
    assert "Commands:" in done.out
    for verb in ("check", "inspect", "doctor"):
        assert verb in done.out


@pytest.mark.parametrize("width", [80, 100, 120])
def test_what_each_verb_does_is_shown_whole(leakrt, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    _, listed = leakrt().out.split("Commands:\n")
    assert [line.split()[0] for line in listed.splitlines()] == list(VERBS)
    assert "..." not in listed
    for verb in VERBS:
        assert "..." not in leakrt(verb, "--help").out.split("\n", 1)[1]  # after the usage: IMAGE_OR_FOLDER...


def test_a_wide_terminal_is_used(leakrt, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert max(map(len, leakrt("export", "--help").out.splitlines())) > 100


def test_the_version_is_printed(leakrt):
    assert leakrt("--version").out == f"leakrt {__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help_whose_options_are_explained(leakrt, verb):
    done = leakrt(verb, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: leakrt {verb} [OPTIONS]")


@pytest.mark.parametrize("arguments", [("nonsense",), ("check",), ("check", "b", "x", "--nonsense"), ("--nonsense",)])
def test_wrong_usage_is_exit_code_2(leakrt, arguments):
    done = leakrt(*arguments)
    assert done.code == 2
    assert "Error: " in done.err
    assert "Traceback" not in done.err

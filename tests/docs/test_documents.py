"""What the documents say to type is what the command takes, and what they point to is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from leakrt.cli.app import VERBS, build_app

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "ARCHITECTURE.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "benchmarks").rglob("*.md")),
]
_COMMAND = re.compile(r"(?:^ {4}(?:\$ )?|`)(?:\w+=\S+ )*leakrt ((?:(?!\s#)[^`\n])+)", re.MULTILINE)
_EXTRAS = re.compile(r"leakrt(?:-src)?\[([\w,-]+)\]")
_LINK = re.compile(r"\]\((?!https?://)([^)#]+)(?:#[^)]*)?\)")


def commands(document: Path) -> list[str]:
    """Everything after "leakrt" in code blocks and in backquotes."""
    return [match.group(1).strip() for match in _COMMAND.finditer(document.read_text())]


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """Verb to the options it takes."""
    group = typer.main.get_command(build_app())
    return {
        verb: {option for p in command.params for option in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}
        for verb, command in group.commands.items()
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_is_one_that_the_program_takes(document, options):
    for command in commands(document):
        words = command.split()
        if words[0].startswith(("-", "VERB")):
            continue
        if words[0].rstrip(":") not in VERBS:
            assert re.match(r"[\w.]+: ", command) or words[0].endswith(":"), f"{document.name}: leakrt {command}"
            continue  # what it prints: "leakrt: ..."
        unknown = {word.split("=")[0] for word in words if word.startswith("--")} - options[words[0]]
        assert not unknown, f"{document.name}: leakrt {command}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_with_what_it_takes_is_one_that_the_program_reads(document):
    """As typed: its arguments are not too many or too few, and numbers are given where they are needed."""
    verbs = typer.main.get_command(build_app()).commands
    for command in commands(document):
        verb, *given = shlex.split(command)
        if verb in VERBS and given:
            with verbs[verb].make_context(verb, given):
                pass


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_extra_to_install_is_there(document):
    project = (ROOT / "pyproject.toml").read_text()  # Python 3.10 has no reader of TOML
    extras = re.findall(r"^([\w-]+) = \[", project.split("[project.optional-dependencies]")[1].split("\n[")[0], re.M)
    named = {name for found in _EXTRAS.findall(document.read_text()) for name in found.split(",")}
    assert named <= set(extras)
    assert "tensorrt" in extras


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_into_the_repository_leads_to_a_file(document):
    missing = [target for target in _LINK.findall(document.read_text()) if not (document.parent / target).exists()]
    assert missing == []


def test_commands_are_found_in_blocks_and_in_backquotes():
    assert "doctor" in commands(ROOT / "docs" / "README.md")
    found = commands(ROOT / "docs" / "engines.md")
    assert "build BUNDLE --precision fp16" in found
    assert "engines verify" in found


def test_the_index_names_every_document():
    index = (ROOT / "docs" / "README.md").read_text()
    assert [path.name for path in (ROOT / "docs").glob("*.md") if f"({path.name})" not in index] == ["README.md"]


def test_the_page_on_jetsons_knows_the_jetpacks_that_the_doctor_knows():
    from leakrt.runtime.doctor.jetson import Jetson

    rows = re.findall(
        r"^\| ([\d., ]+) \| ([\d., ]+) \| .*? \| [\d.]+, ([\d.]+) \|", (ROOT / "docs/jetson.md").read_text(), re.M
    )
    assert len(rows) >= 5
    for jetpack, linux, python in rows:
        jetson = Jetson("", linux.split(",")[0], jetpack.split(",")[0])
        assert jetson.python == python
        assert jetson.too_old == (jetpack == "5")

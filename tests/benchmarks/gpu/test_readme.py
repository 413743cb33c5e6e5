"""What README.md says of verify.sh is what it takes and does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks" / "gpu"
TEXT = (FOLDER / "README.md").read_text()


@pytest.fixture(scope="module")
def options() -> set[str]:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "verify.py"), "--help"], capture_output=True, text=True, check=True
    )
    return set(re.findall(r"--[a-z-]+", done.stdout))


def test_every_option_is_one_that_the_command_takes(options):
    calls = re.findall(r"verify\.sh((?:[^`|\n]|\\\|)*)", TEXT)
    used = {option for call in calls for option in re.findall(r"--[a-z-]+", call)}
    listed = set(re.findall(r"^\| `(--[a-z-]+)", TEXT, re.MULTILINE))
    assert used <= options
    assert listed <= options
    assert options - listed == {"--help", "--seconds", "--soak-seconds", "--work"}


def test_every_part_is_listed_and_every_part_that_a_call_names_is_there(script):
    verify = script("verify")
    names = {step.name for step in verify.STEPS}
    listed = {
        name
        for row in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", TEXT, re.MULTILINE)
        for name in re.findall(r"\w+", row)
    }
    assert listed == names
    for named in re.findall(r"--only ([a-z_,]+)", TEXT):
        assert set(named.split(",")) <= names | {"soak"}


def test_the_scripts_that_it_names_are_there():
    for name in re.findall(r"benchmarks/gpu/(\w+\.(?:py|sh|json))", TEXT):
        assert (FOLDER / name).exists(), name


def test_its_targets_are_those_of_the_report(script):
    stated = " ".join(re.findall(r"^\| .* \|$", TEXT.split("## Targets")[1], re.MULTILINE))
    for figure in script("report").figures({}):
        for number in re.findall(r"\d+(?:\.\d+)?", figure.target):
            assert re.search(rf"\b{re.escape(number)}\b", stated), figure

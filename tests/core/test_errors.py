"""The error tree matches its drawing, and a missing extra names the command that installs it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from leakrt.core import errors
from leakrt.core.errors import LeakRTError, MissingExtraError, one_line, require


def drawn() -> dict[str, str]:
    """Return class to parent, parsed from the drawing at the top of the file."""
    found, parents = {}, {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^([│├└─ ]*)([A-Z]\w+)( {2,}\S.*)?$", line)
        if match:
            depth = len(match[1]) // 4
            parents[depth] = match[2]
            found[match[2]] = parents[depth - 1] if depth else "Exception"
    return found


def test_the_tree_matches_its_drawing():
    classes = {name: c for name, c in vars(errors).items() if inspect.isclass(c) and issubclass(c, Exception)}
    assert {name: c.__base__.__name__ for name, c in classes.items()} == drawn()
    assert len(classes) >= 12


def test_every_error_has_a_docstring():
    for name in drawn():
        assert (getattr(errors, name).__doc__ or "").strip()
    assert all(issubclass(getattr(errors, name), LeakRTError) for name in drawn())


def test_an_installed_module_is_imported():
    assert require("json", "train").dumps([1]) == "[1]"


@pytest.mark.parametrize("module", ["no_such_module_of_leakrt", "json.no_such_part"])
def test_an_error_about_a_missing_module_names_the_command_that_installs_it(module):
    with pytest.raises(
        MissingExtraError, match=rf"^{re.escape(module)} is not installed \(.*\); install it with: "
    ) as error:
        require(module, "serve")
    assert str(error.value).endswith("pip install 'leakrt[serve]'")
    assert "\n" not in str(error.value)


def test_an_error_about_a_broken_module_names_its_missing_dependency(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import what_it_needs")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match=r"half_installed is not installed \(No module named 'what_it_needs'\)"):
        require("half_installed", "train")


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("a\n  b\tc", "a b c"),
        ("", "ValueError"),
        ("x" * 900, "x" * 300),
        (
            "/project/onnx/no_previous_version.h:23: adapt: Assertion `false` failed: No Previous Version",
            "No Previous Version",
        ),
        (
            "1 : FAIL : /onnxruntime_src/core/utils.h:46 void onnxruntime::Check(const std::map<int>&, bool) Opset 99",
            "1 : FAIL : Opset 99",
        ),
        ("can't read /data/a.cc:3 (gone) now", "can't read /data/a.cc:3 (gone) now"),
    ],
)
def test_a_message_of_a_library_becomes_one_line_without_cpp_locations(message, kept):
    assert one_line(ValueError(message)) == kept


def test_every_extra_that_a_message_names_can_be_installed():
    package, project = Path(errors.__file__).parents[1], Path(__file__).parents[2] / "pyproject.toml"
    named = set()
    for folder in ("calibration", "cli", "core", "engines", "export", "runtime", "train"):
        for path in (package / folder).rglob("*.py"):
            named |= set(re.findall(r"require\(\s*[^,()]+,\s*\"(\w+)\"\s*\)", path.read_text()))
    extras = re.search(r"\[project\.optional-dependencies\](.*?)\n\[", project.read_text(), re.DOTALL)
    assert extras is not None
    assert "train" in named
    assert named <= set(re.findall(r"^(\w+) = ", extras[1], re.MULTILINE))

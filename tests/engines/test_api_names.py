"""Check that every TensorRT name in the code exists in every version that its file supports."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import leakrt.engines

STAGE = Path(leakrt.engines.__file__).parent
_DATA = json.loads((Path(__file__).parent / "api_names.json").read_text())
VERSIONS: list[str] = _DATA["versions"]
CLASSES: dict[str, dict[str, list[int]]] = _DATA["classes"]
OLD, TENS, ELEVEN, RTX = {"8.5.3.1"}, {"10.3.0", "10.13.3.9", "10.16.1.11"}, {"11.4.0.106"}, {VERSIONS[-1]}
# A dialect supports only its own versions; every other file supports all of them.
DIALECTS = {
    "tensorrt8.py": OLD,
    "tensorrt10.py": TENS | ELEVEN | RTX,
    "rtx.py": RTX,
}
_MEMBERS = {member for members in CLASSES.values() for member in members}
_DISTINCT = {name for name in _MEMBERS if "_" in name.strip("_") and name.islower()}


@dataclass
class Usage:
    """The names that one file uses, as (class, member, line). Classes of the module are members of class ""."""

    found: set[tuple[str, str, int]] = field(default_factory=set)
    unknown: set[tuple[str, int]] = field(default_factory=set)
    keywords: set[tuple[str, int]] = field(default_factory=set)  # passed to a method or a class of the library


class Reader(ast.NodeVisitor):
    """Follows annotations from engines/library/names.py, the module `trt`, and plain aliases of its classes."""

    def __init__(self) -> None:
        self.usage = Usage()
        self._scopes: list[dict[str, str]] = [{}]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        arguments = [*node.args.args, *node.args.kwonlyargs]
        self._scopes.append({a.arg: k for a in arguments if (k := _class_of(a.annotation))})
        self.generic_visit(node)
        self._scopes.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for base in node.bases:
            kind = self._kind(base)
            for item in node.body if kind else []:
                if isinstance(item, ast.FunctionDef) and not item.name.startswith("__"):
                    self.usage.found.add((kind, item.name, item.lineno))
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        kind = _class_of(node.annotation)
        if kind and isinstance(node.target, ast.Name):
            self._scopes[-1][node.target.id] = kind
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        kind = self._kind(node.value)
        if kind and isinstance(node.targets[0], ast.Name):
            self._scopes[-1][node.targets[0].id] = kind
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if _is_module(node.value):
            self.usage.found.add(("", node.attr, node.lineno))
        elif kind := self._kind(node.value):
            if not node.attr.startswith("__"):
                self.usage.found.add((kind, node.attr, node.lineno))
        elif node.attr in _DISTINCT and not _is_ours(node):
            self.usage.unknown.add((node.attr, node.lineno))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func
        if isinstance(called, ast.Attribute) and (_is_module(called.value) or self._kind(called.value)):
            self.usage.keywords |= {(f"{called.attr}({k.arg}=", node.lineno) for k in node.keywords}
        self.generic_visit(node)

    def _kind(self, node: ast.expr) -> str:
        """Return the TensorRT class that an expression is, or is an instance of."""
        if isinstance(node, ast.Name):
            return next((scope[node.id] for scope in reversed(self._scopes) if node.id in scope), "")
        if isinstance(node, ast.Attribute):
            if _is_module(node.value):
                return node.attr
            outer = self._kind(node.value)
            return outer if (outer, node.attr) == ("ILogger", "Severity") else _FIELDS.get(node.attr, "")
        return ""


_FIELDS = {"network": "INetworkDefinition", "parser": "OnnxParser"}  # of network.ParsedNetwork


def _class_of(annotation: ast.expr | None) -> str:
    return annotation.id if isinstance(annotation, ast.Name) and annotation.id in CLASSES else ""


def _is_module(node: ast.expr) -> bool:
    return (isinstance(node, ast.Name) and node.id == "trt") or (isinstance(node, ast.Attribute) and node.attr == "trt")


def _is_ours(node: ast.Attribute) -> bool:
    """Return whether the attribute belongs to a LeakRT class, such as `flavour.device_memory(...)`."""
    return isinstance(node.value, ast.Name) and node.value.id in {"flavour", "self", "record", "report", "os", "path"}


def read(path: Path) -> Usage:
    reader = Reader()
    reader.visit(ast.parse(path.read_text()))
    return reader.usage


def missing(usage: Usage, versions: set[str]) -> Iterator[str]:
    for kind, member, line in sorted(usage.found):
        if member == "__version__":
            continue
        known = CLASSES.get(member, {}).get("") if not kind else CLASSES.get(kind, {}).get(member)
        for version in sorted(versions - {VERSIONS[i] for i in known or []}):
            yield f"line {line}: {kind or 'tensorrt'}.{member} is not in {version}"


SOURCES = [*STAGE.rglob("*.py"), *(STAGE.parent / "runtime").rglob("*.py")]
_IMPORTS = ("from .names import", "library.names import")
FILES = sorted(path for path in SOURCES if any(words in path.read_text() for words in _IMPORTS))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_name_exists_in_every_version_of_its_file(path):
    usage = read(path)
    assert usage.found, f"{path.name} imports names but uses none"
    assert not list(missing(usage, DIALECTS.get(path.name, set(VERSIONS))))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_tensorrt_names_are_used_only_on_annotated_variables(path):
    assert not read(path).unknown


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_arguments_are_positional_since_parameter_names_differ_between_versions(path):
    assert not read(path).keywords


def test_files_that_use_the_library_import_its_names():
    others = {"names.py", "verify.py"}  # `trt` is in a docstring, or is Polygraphy's
    users = {path for path in SOURCES if "trt." in path.read_text() and path.name not in others}
    assert users <= set(FILES)


def test_the_check_finds_a_name_that_one_version_lacks():
    source = "def f(config: IBuilderConfig, trt: Trt):\n    config.progress_monitor = trt.BuilderFlag.FP16\n"
    reader = Reader()
    reader.visit(ast.parse(source))
    found = set(missing(reader.usage, set(VERSIONS)))
    assert "line 2: BuilderFlag.FP16 is not in 11.4.0.106" in found
    assert "line 2: IBuilderConfig.progress_monitor is not in 8.5.3.1" in found


def test_the_check_finds_a_keyword_argument():
    source = (
        "def f(config: IBuilderConfig, trt: Trt):\n    config.set_flag(flag=1)\n    trt.Runtime(logger=2)\n    g(h=3)\n"
    )
    reader = Reader()
    reader.visit(ast.parse(source))
    assert reader.usage.keywords == {("set_flag(flag=", 2), ("Runtime(logger=", 3)}

"""Print figures about the code: lines, names, parameters, imports between folders."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# A folder may import those before it. cli may import all, and nothing imports it.
ORDER = ("core", "train", "export", "engines", "runtime", "calibration", "demo", "cli")
MOST_POSITIONAL = 3
# Kernels and norms take tensors and their sizes in the order of the native module.
NATIVE = re.compile(r"runtime/backends/(device_memory|torch/(norm_kernels|group_norm|operators|spatial))\.py")


def main() -> None:
    """Print one line for each number."""
    lines = source_lines()
    print(f"source lines: {sum(lines.values())} ({', '.join(f'{name} {count}' for name, count in lines.items())})")
    print(f"functions with more than {MOST_POSITIONAL} positional parameters: {len(list(long_signatures()))}")
    print(f"class names that exist twice: {len(repeated_classes())}")
    print(f"imports of a later folder: {len(list(backward_imports()))}")
    print(f"files that `precision` in `leakrt check` passes: {', '.join(str(f) for f in naming('precision'))}")


def sources() -> Iterator[tuple[Path, ast.Module]]:
    """The Python files of the package, relative to the root, parsed."""
    for folder in ORDER:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text())


def source_lines() -> dict[str, int]:
    """Lines of each folder, C++ and CUDA included."""
    kinds = {".py", ".pyi", ".cpp", ".hpp", ".cu", ".cuh"}
    return {
        folder: sum(len(path.read_text().splitlines()) for path in (ROOT / folder).rglob("*") if path.suffix in kinds)
        for folder in ORDER
    }


def long_signatures() -> Iterator[str]:
    """Functions with more positional parameters than MOST_POSITIONAL, `self` and `cls` not counted."""
    for path, tree in sources():
        if NATIVE.fullmatch(str(path)):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
                if len([name for name in names if name not in ("self", "cls")]) > MOST_POSITIONAL:
                    yield f"{path}:{node.lineno} {node.name}"


def repeated_classes() -> dict[str, list[str]]:
    """Names of classes that more than one file defines, a leading underscore aside."""
    found = defaultdict(list)
    for path, tree in sources():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                found[node.name.lstrip("_")].append(f"{path}:{node.lineno}")
    return {name: places for name, places in found.items() if len(places) > 1}


def backward_imports() -> Iterator[str]:
    """Imports of a folder that comes later in ORDER."""
    for path, tree in sources():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or node.level != len(path.parts):
                continue
            names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
            for name in names:
                if name in ORDER and ORDER.index(name) > ORDER.index(path.parts[0]):
                    yield f"{path}:{node.lineno} imports {name}"


def naming(parameter: str) -> list[Path]:
    """The files between the command line's `check` and the loading of a backend that name a parameter."""
    way = (
        "cli/check.py",
        "runtime/detector.py",
        "runtime/precision.py",
        "runtime/loaded.py",
        "core/variants.py",
        "runtime/backends/registry.py",
        "runtime/backends/base.py",
        "runtime/pipeline.py",
    )
    return [Path(name) for name in way if re.search(rf"\b{parameter}\b", (ROOT / name).read_text())]


if __name__ == "__main__":
    main()

"""The pre-commit hooks reach every source that `make lint` looks at, by the same tools."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml", reason="hooks are read with PyYAML, which pre-commit brings (extra dev)")
identify = pytest.importorskip("identify.identify", reason="needs pre-commit (extra dev)")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hooks() -> dict[str, dict]:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    return {hook["id"]: hook for repo in config["repos"] for hook in repo["hooks"]}


def tracked(patterns: tuple[str, ...]) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("needs the repository that these files are tracked in")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def reached(hook: dict, path: Path) -> bool:
    return bool(identify.tags_from_path(str(path)) & set(hook["types_or"]))


@pytest.mark.parametrize(
    ("hook", "patterns"),
    [("ruff-check", ("*.py", "*.pyi")), ("ruff-format", ("*.py", "*.pyi")), ("mypy", ("core/*.py", "*.pyi")),
     ("clang-format", ("runtime/native/*.[ch]pp", "runtime/native/*.cu", "runtime/native/*.cuh"))],
)  # fmt: skip
def test_a_hook_reaches_every_source_of_its_kind(hooks, hook, patterns):
    sources = tracked(patterns)
    assert len(sources) > 2
    assert [path.name for path in sources if not reached(hooks[hook], path)] == []


def test_hooks_and_make_lint_run_the_same_tools(hooks):
    makefile = (ROOT / "Makefile").read_text()
    linted = re.search(r"^lint:.*?(?=^\S)", makefile, re.MULTILINE | re.DOTALL).group(0)
    tools = {re.search(r"\.venv/bin/(ruff|mypy|clang-format)", hook["entry"]).group(1) for hook in hooks.values()}
    assert tools == {"ruff", "mypy", "clang-format"}
    assert all(f"$(BIN)/{tool}" in linted for tool in tools)

"""What is in the wheel, what the table of folders names, and what importing the package costs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
WHEELS = sorted((ROOT / "dist").glob("leakrt-*.whl"))


@pytest.fixture(scope="module")
def table() -> dict[str, str]:
    """Path in the wheel to path in the tree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return project["tool"]["scikit-build"]["wheel"]["packages"]


@pytest.fixture(scope="module")
def contents() -> list[str]:
    if not WHEELS:
        pytest.skip("no wheel in dist/; make one with: make wheel")
    with zipfile.ZipFile(WHEELS[-1]) as wheel:
        return wheel.namelist()


def test_the_table_names_every_folder_of_the_package(table):
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert {source for source in table.values() if (ROOT / source).is_dir()} == folders


def test_the_table_names_every_root_file_of_the_package(table):
    files = {path.name for pattern in ("*.py", "*.pyi", "py.typed") for path in ROOT.glob(pattern)}
    assert {source for source in table.values() if (ROOT / source).is_file()} == files


def test_the_table_maps_each_name_to_itself_under_leakrt(table):
    assert all(name == f"leakrt/{source}" for name, source in table.items())


def test_no_folder_of_the_packages_own_name_shadows_it():
    assert not (ROOT / "leakrt").exists()


def test_the_wheel_holds_the_core_its_stub_and_the_typing_marker(contents):
    assert any(name.startswith("leakrt/_core.") and name.endswith(".so") for name in contents)
    assert {"leakrt/_core.pyi", "leakrt/py.typed", "leakrt/__init__.py"} <= set(contents)


def test_the_wheel_holds_every_module_of_the_tree(contents, table):
    folders = [source for source in table.values() if (ROOT / source).is_dir()]
    modules = {f"leakrt/{path.relative_to(ROOT)}" for folder in folders for path in (ROOT / folder).rglob("*.py")}
    assert modules <= set(contents)


def test_the_wheel_holds_no_tests_benchmarks_or_sources(contents):
    inside = [name for name in contents if name.startswith("leakrt/")]
    unwanted = (".cpp", ".hpp", ".cu", ".cuh", ".txt", ".toml", ".pyc")
    assert not [name for name in inside if name.endswith(unwanted)]
    assert not [name for name in contents if name.startswith(("tests/", "benchmarks/", "leakrt/tests/", "scripts/"))]


def test_the_wheel_holds_no_host_twin_of_the_cuda_kernels(contents):
    assert not [name for name in contents if name.startswith("leakrt/_grid")]


def test_the_wheel_carries_its_licence_and_its_command(contents):
    info = [name for name in contents if ".dist-info/" in name]
    assert any(name.endswith("LICENSE") for name in info)
    assert any(name.endswith("entry_points.txt") for name in info)


def test_importing_the_package_pulls_nothing_heavy():
    script = (
        "import sys, leakrt, leakrt.core.errors\n"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'cv2', 'diffusers', 'scipy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_importing_the_runtime_never_pulls_torch():
    script = "import sys, leakrt; leakrt.Detector; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"

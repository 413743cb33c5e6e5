"""Finding the TensorRT flavours that this Python can import."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from machines import put

from leakrt.runtime.doctor.libraries import find_libraries, pycuda_version, system_bindings


def test_a_library_that_is_not_installed_has_no_problem(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    libraries, usable = find_libraries()
    tensorrt = libraries[0]
    assert (tensorrt.flavour, tensorrt.version, tensorrt.problem, tensorrt.usable) == ("tensorrt", "", "", False)
    assert "tensorrt" not in [flavour.name for flavour in usable]


def test_another_major_version_is_installed_but_unusable(monkeypatch):
    module = ModuleType("tensorrt")
    module.__version__ = "9.2.0"
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    (tensorrt, _), _ = find_libraries()
    assert not tensorrt.usable
    assert tensorrt.problem.startswith("TensorRT 9.2.0 is not supported; install 8.5, 8.6, 10 or 11")


def test_bindings_without_their_libraries_report_the_loaders_message(tmp_path, monkeypatch):
    package = tmp_path / "tensorrt" / "__init__.py"
    put(tmp_path, {"tensorrt/__init__.py": "raise ImportError('libnvinfer.so.10: cannot open shared object file')\n"})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    (tensorrt, _), _ = find_libraries()
    assert package.exists()
    assert "libnvinfer.so.10: cannot open shared object file" in tensorrt.problem


def test_the_installed_rtx_library_reports_its_version_and_cuda():
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX (extra rtx)")
    libraries, usable = find_libraries()
    assert libraries[1].version == sys.modules["tensorrt_rtx"].__version__
    assert libraries[1].cuda in (12, 13)
    assert usable[-1].name == "tensorrt-rtx"


def test_bindings_of_the_system_are_found_by_their_python(tmp_path):
    assert system_bindings(tmp_path) == ()
    for name in (
        "python3.10/dist-packages/tensorrt",
        "python3.12/dist-packages/tensorrt",
        "python3/dist-packages/other",
    ):
        put(tmp_path, {f"usr/lib/{name}/__init__.py": ""})
    assert system_bindings(tmp_path) == ("3.10", "3.12")


def test_pycuda_is_found_without_being_imported():
    pycuda_version()
    assert "pycuda.driver" not in sys.modules

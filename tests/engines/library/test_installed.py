"""Finding the installed libraries and selecting their dialects."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from leakrt.core.errors import BackendError, MissingExtraError, UsageError
from leakrt.engines.library.flavour import FLAVOURS
from leakrt.engines.library.installed import installed_flavours, load_flavour
from leakrt.engines.library.rtx import TensorRTRTX
from leakrt.engines.library.tensorrt8 import TensorRT8
from leakrt.engines.library.tensorrt10 import TensorRT10


@pytest.fixture
def installed(monkeypatch):
    """Install a stub module `tensorrt` of a given version, or make its import fail."""

    def put(version: str | None) -> None:
        module = ModuleType("tensorrt") if version else None
        if module:
            module.__version__ = version
        monkeypatch.setitem(sys.modules, "tensorrt", module)

    return put


@pytest.mark.parametrize(
    ("version", "dialect"),
    [
        ("8.5.3.1", TensorRT8), ("8.6.1", TensorRT8), ("10.3.0", TensorRT10), ("10.16.1.11", TensorRT10),
        ("11.4.0.106", TensorRT10), ("11.5.0rc1", TensorRT10),
    ],
)  # fmt: skip
def test_the_version_chooses_the_dialect(installed, version, dialect):
    installed(version)
    flavour = load_flavour("tensorrt")
    assert type(flavour) is dialect
    assert str(flavour) == f"TensorRT {version}"


@pytest.mark.parametrize("version", ["7.2.3", "8.4.1", "9.2.0", "12.0.0", "unknown"])
def test_an_unsupported_version_is_refused_with_the_supported_ones(installed, version):
    installed(version)
    with pytest.raises(BackendError, match=f"TensorRT {version} is not supported; install 8.5, 8.6, 10 or 11"):
        load_flavour("tensorrt")
    assert "tensorrt" not in [flavour.name for flavour in installed_flavours()]


def test_a_missing_library_is_refused_with_the_install_command_of_each_machine(installed):
    installed(None)
    with pytest.raises(MissingExtraError, match=r"on a Jetson .* elsewhere: pip install tensorrt"):
        load_flavour("tensorrt")


def test_bindings_without_their_libraries_count_as_missing(tmp_path, monkeypatch):
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(MissingExtraError, match=r"can't import tensorrt: .*libnvinfer.so.10"):
        load_flavour("tensorrt")


def test_an_unknown_flavour_is_a_usage_error():
    with pytest.raises(UsageError, match="unknown flavour 'trt'; choose one of: tensorrt, tensorrt-rtx"):
        load_flavour("trt")


def test_rtx_is_a_separate_flavour(rtx):
    assert isinstance(rtx, TensorRTRTX)
    assert rtx.name in [flavour.name for flavour in installed_flavours()]
    assert str(rtx).startswith("TensorRT-RTX 1.")
    assert set(FLAVOURS) == {"tensorrt", rtx.name}

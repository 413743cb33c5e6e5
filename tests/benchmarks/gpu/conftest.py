"""The scripts of benchmarks/gpu, which import one another by their file names."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks" / "gpu"


@pytest.fixture
def script(monkeypatch):
    """Imports a script by its name, anew for each test."""
    monkeypatch.syspath_prepend(str(FOLDER))
    own = [path.stem for path in FOLDER.glob("*.py")]

    def load(name: str):
        for other in own:
            monkeypatch.delitem(sys.modules, other, raising=False)
        return importlib.import_module(name)

    yield load
    for other in own:
        sys.modules.pop(other, None)

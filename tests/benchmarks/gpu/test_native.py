"""The native part is built one way or another, and what did not work is told."""

from __future__ import annotations

import subprocess

import pytest


def done(code, text=""):
    return subprocess.CompletedProcess([], code, "", text)


@pytest.fixture
def built(script, run_in, monkeypatch):
    """native.py with ways of building that give these exit codes; gives exit code, results, and what was tried."""

    def run(capability: str, *codes: int):
        module, left, tried = script("native"), list(codes), []

        def way(name):
            def build(work, site, settings):
                tried.append((name, settings["CUDA"], settings.get("CUDA_ARCHITECTURES", "")))
                return done(left.pop(0), "ninja: error: of some kind")

            build.__name__ = f"_{name}"
            return build

        monkeypatch.setattr(module, "gpu_state", lambda fields: {"compute_cap": capability} if capability else {})
        loaded = {"leakrt": "leakrt", "_core": "loads"}
        code, found = run_in(
            module, _by_pip=way("by_pip"), _by_cmake=way("by_cmake"), _imports=lambda part, site: loaded
        )
        return code, found, tried

    return run


def test_it_is_built_for_the_gpu_that_is_there_by_pip(built):
    code, found, tried = built("9.0", 0)
    assert (code, tried) == (0, [("by_pip", "ON", "native")])
    assert found["by pip, CUDA native"]["exit"] == 0


def test_what_fails_is_followed_by_cmake_and_by_the_gpus_number(built):
    code, found, tried = built("9.0", 1, 1, 1, 0)
    assert tried == [(way, "ON", which) for which in ("native", "9.0") for way in ("by_pip", "by_cmake")]
    assert code == 1
    assert found["failures"][0] == "by pip, CUDA native: ninja: error: of some kind"


def test_without_a_gpu_it_is_built_without_cuda_and_that_is_a_failure_with_its_reason(built):
    code, found, tried = built("", 0)
    assert (code, tried) == (1, [("by_pip", "OFF", "")])
    assert found["failures"] == ["LeakRT was built without its CUDA kernels; nvidia-smi names no GPU to build them for"]


def test_where_nothing_builds_every_way_is_told(built):
    code, found, _ = built("9.0", 1, 1, 1, 1, 1)
    assert (code, len(found["failures"])) == (1, 5)


def test_a_changed_source_is_built_again(script, tmp_path, monkeypatch):
    module = script("native")
    (tmp_path / "core").mkdir()
    for name in ("CMakeLists.txt", "pyproject.toml", "__init__.py", "__main__.py", "core/__init__.py"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    before = module._fingerprint(False)
    assert module._fingerprint(False) == before
    (tmp_path / "core" / "__init__.py").write_text("other")
    assert module._fingerprint(False) != before


def test_every_folder_of_the_wheel_is_copied_by_cmake_alone(script, tmp_path, monkeypatch):
    module = script("native")
    monkeypatch.setattr(module, "_done", lambda command, environment: done(0))
    (tmp_path / "site" / "leakrt").mkdir(parents=True)  # as `cmake --install` leaves it
    module._by_cmake(tmp_path, tmp_path / "site", {"CUDA": "OFF"})
    assert {"core", "runtime", "engines", "cli", "__init__.py", "__main__.py"} <= {
        path.name for path in (tmp_path / "site" / "leakrt").iterdir()
    }

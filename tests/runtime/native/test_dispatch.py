"""All instruction sets of this machine give identical bits that agree with the reference."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from leakrt import _core
from leakrt.core import noise
from leakrt.core.density import log_density_reference
from leakrt.core.preprocess import preprocess_reference

SHAPE = (4, 21, 12)  # an odd number of vectors plus a remainder
SCRIPT = """
import sys
import numpy as np
from leakrt import _core
given = np.load(sys.argv[1], allow_pickle=False)
assert _core.simd() == sys.argv[3], _core.simd()
normals = np.empty(given["bank"].shape, np.float32)
_core.fill_normals(5, 6, normals)
images = {}
for name in ("frame", "wide", "square"):
    images[name] = np.empty((3, 40, 40), np.float32)
    _core.preprocess(given[name], images[name])
np.savez(
    sys.argv[2],
    words=_core.philox_words(given["counter"], 77),
    normals=normals,
    kept=_core.noise_steps(given["latents"], given["bank"], given["c"]),
    fresh=_core.noise_steps_fresh(given["latents"], given["c"], 5, np.array([6, 6, 6], np.uint32), 2),
    density=_core.kde_log_density(given["x"], given["support"], 0.6),
    **images,
)
"""


@pytest.fixture(scope="module")
def given_arrays():
    rng = np.random.default_rng(0)
    return {
        "counter": rng.integers(0, 2**32, (101, 4), dtype=np.uint32),
        "latents": rng.normal(size=(3, *SHAPE)).astype(np.float32),
        "bank": noise.normals(5, 6, 2, steps=8, shape=SHAPE),
        "c": rng.normal(size=(8, 2)).astype(np.float32),
        "x": rng.normal(size=(5, 37)).astype(np.float32),
        "support": rng.normal(size=(700, 37)).astype(np.float32),
        "frame": rng.integers(0, 256, (55, 33, 3), dtype=np.uint8),
        "wide": rng.integers(0, 256, (301, 457, 3), dtype=np.uint8),
        "square": rng.integers(0, 256, (40, 51, 3), dtype=np.uint8),
    }


@pytest.fixture(scope="module")
def results(given_arrays, tmp_path_factory):
    folder = tmp_path_factory.mktemp("simd")
    np.savez(folder / "given.npz", **given_arrays)
    found = {}
    for level in _core.simd_levels():
        out = folder / f"{level}.npz"
        command = [sys.executable, "-c", SCRIPT, str(folder / "given.npz"), str(out), level]
        subprocess.run(command, check=True, env={**os.environ, "LEAKRT_SIMD": level}, cwd=folder)
        with np.load(out, allow_pickle=False) as arrays:
            found[level] = dict(arrays)
    return found


def test_the_baseline_is_always_available():
    assert _core.simd_levels()[-1] == "baseline"
    assert _core.simd() in _core.simd_levels()


@pytest.mark.parametrize("level", _core.simd_levels())
def test_each_instruction_set_agrees_with_the_reference(level, results, given_arrays):
    given, got = given_arrays, results[level]
    np.testing.assert_array_equal(got["words"], noise.philox4x32(given["counter"], 77))
    assert np.abs(got["normals"] - given["bank"]).max() <= 2e-6
    expected = noise.noise_steps(given["latents"], given["bank"], given["c"])
    np.testing.assert_array_equal(got["kept"], expected)
    assert np.abs(got["fresh"] - expected).max() <= 2e-6 * max(1, np.abs(given["c"][:, 1]).max())
    for name in ("frame", "wide", "square"):
        assert np.abs(got[name] - preprocess_reference(given[name], 40)).max() <= 2e-6
    expected = log_density_reference(given["x"], given["support"], 0.6)
    np.testing.assert_allclose(got["density"], expected, rtol=1e-11)


@pytest.mark.parametrize("level", _core.simd_levels())
def test_instruction_sets_agree_bit_for_bit(level, results):
    for name, expected in results["baseline"].items():
        np.testing.assert_array_equal(results[level][name], expected)


def test_an_unknown_instruction_set_is_a_usage_error_that_names_the_choices():
    script = (
        "from leakrt import _core\nfrom leakrt.core.errors import UsageError\n"
        "try:\n    _core.simd()\nexcept UsageError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "LEAKRT_SIMD": "mmx"}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.startswith("LEAKRT_SIMD=mmx can't run here; choose one of: ")
    assert "baseline" in run.stdout

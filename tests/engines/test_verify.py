"""Comparisons with Polygraphy, with ONNX Runtime on both sides since an engine needs a GPU."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from leakrt.core.bundle import Bundle
from leakrt.core.errors import BackendError, EngineError
from leakrt.core.progress import silent

pytest.importorskip("polygraphy", reason="the comparison is Polygraphy's (extra rtx)")


def test_runners_are_compared_per_output_without_printing(variants, capsys):
    from leakrt.engines.verify import compare_outputs, reference_runner, run_side_by_side

    bundle = Bundle(variants)
    exact, half = (bundle.graph("vae_encoder", p) for p in ("fp32", "fp16"))
    feed = {"image": np.random.default_rng(1).uniform(-1, 1, (2, 3, 40, 40)).astype(np.float32)}
    a, b, c = run_side_by_side([reference_runner(m) for m in (exact, exact, half)], feed)
    assert compare_outputs(a, b) == {"latent": 0.0}
    assert 0 < compare_outputs(a, c)["latent"] < 0.02
    assert capsys.readouterr().out == ""


def test_a_missing_or_misshapen_output_is_named():
    from leakrt.engines.verify import compare_outputs

    wanted = {"latent": np.zeros((2, 4))}
    for found in ({}, {"latent": np.zeros((1, 4))}):
        with pytest.raises(EngineError, match=r"latent, expected shape \[2, 4\]"):
            compare_outputs(wanted, found)


def test_a_failing_runner_is_reported_in_one_line():
    from leakrt.engines.verify import reference_runner, run_side_by_side

    with pytest.raises(EngineError, match=r"^running the comparison failed: [^\n]*$"):
        run_side_by_side([reference_runner(b"nothing")], {"image": np.zeros((1, 3, 8, 8), np.float32)})


def test_without_a_gpu_an_engine_can_not_be_verified(variants, cache, rtx, no_gpu):
    from leakrt.engines.build.build import BuildRequest, build_bundle
    from leakrt.engines.build.builder import BuildOptions
    from leakrt.engines.verify import verify_bundle

    request = BuildRequest(precision="fp32", flavour=rtx, options=BuildOptions(targets=("8.6",)))
    outcomes = build_bundle(Bundle(variants), request, cache, progress=silent)
    with pytest.raises(BackendError, match="no NVIDIA driver"):
        verify_bundle(Bundle(variants), request, outcomes, cache=cache, progress=silent)


REFUSED = """
import numpy as np
from leakrt.engines.library.installed import load_flavour
from leakrt.engines.verify import engine_runner, run_side_by_side

runner = engine_runner(load_flavour("tensorrt-rtx"), b"no engine at all" * 99, 0)
try:
    run_side_by_side([runner], {"image": np.zeros((1, 3, 8, 8), np.float32)})
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


def test_an_invalid_engine_is_reported_in_one_line(rtx, no_gpu):
    """In a separate process, since Polygraphy selects its TensorRT at its first import."""
    done = subprocess.run([sys.executable, "-c", REFUSED], capture_output=True, text=True)
    assert re.match("EngineError: TensorRT-RTX .* can't load the engine: no NVIDIA driver here", done.stdout), (
        done.stderr
    )

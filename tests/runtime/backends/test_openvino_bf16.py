"""The openvino_bf16 backend uses bfloat16 only in the VAE encoder, and not for fp32."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from leakrt.core.bundle import Bundle
from leakrt.core.errors import BackendError
from leakrt.runtime.backends import openvino, openvino_bf16, registry
from leakrt.runtime.backends.base import Variant
from leakrt.runtime.backends.openvino import OpenVinoBackend
from leakrt.runtime.backends.openvino_bf16 import OpenVinoBf16Backend

NEEDED = pytest.mark.skipif(
    not openvino.probe().runs, reason="openvino is not installed: pip install 'leakrt[openvino]'"
)
ON_HARDWARE = pytest.mark.skipif(not openvino_bf16.probe().runs, reason="no OpenVINO, or a CPU without bfloat16")


@pytest.fixture(scope="module")
def variant(tiny):
    bundle = Bundle(tiny)
    graphs = bundle.graph("vae_encoder", "fp32"), bundle.graph("leak_encoder", "fp32")
    return Variant(bundle.spec, "int8", *graphs)  # the graphs do not matter, only the type of their float layers


def image():
    return np.random.default_rng(0).standard_normal((1, 3, 40, 40), dtype=np.float32)


def float_types(backend):
    graphs = (backend._vae, backend._leak)
    return [g._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() for g in graphs]


@ON_HARDWARE
def test_float_layers_of_the_vae_encoder_are_bfloat16_and_those_of_the_leak_encoder_are_not(variant):
    rounded, exact = OpenVinoBf16Backend(variant, 1), OpenVinoBackend(variant, 1)
    assert float_types(rounded) == ["bf16", "f32"]
    found, wanted = (backend.vae_encoder(image()) for backend in (rounded, exact))
    error = np.sqrt(((found - wanted) ** 2).mean()) / wanted.std()
    assert 1e-5 < error < 0.05


@NEEDED
def test_fp32_stays_float32_as_a_fallback_for_the_finite_check(variant):
    single = replace(variant, precision="fp32")
    backend = OpenVinoBf16Backend(single, 1)
    assert float_types(backend) == ["f32", "f32"]
    np.testing.assert_array_equal(backend.vae_encoder(image()), OpenVinoBackend(single, 1).vae_encoder(image()))


@NEEDED
def test_it_describes_itself(variant):
    assert OpenVinoBf16Backend(variant, 1).describe().backend == "openvino_bf16"
    assert OpenVinoBackend(variant, 1).describe().backend == "openvino"


@NEEDED
def test_a_cpu_without_bfloat16_is_reported_and_refused(monkeypatch):
    class Older:
        def get_property(self, device, name):
            assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
            return ["FP32", "INT8", "BIN"]

    monkeypatch.setattr(openvino_bf16, "open_core", Older)
    found = openvino_bf16.probe()
    assert (found.backend, found.runs) == ("openvino_bf16", False)
    with pytest.raises(BackendError, match="this CPU has no bfloat16 instructions; use --backend openvino instead"):
        registry.choose("openvino_bf16")


def test_a_missing_library_is_reported_with_its_install_command(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)
    found = openvino_bf16.probe()
    assert (found.backend, found.runs, found.install) == ("openvino_bf16", False, "pip install 'leakrt[openvino]'")

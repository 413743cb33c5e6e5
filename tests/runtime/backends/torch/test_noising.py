"""Noised latents on a device equal the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bundles import TINY_SPEC

torch = pytest.importorskip("torch", reason="needs torch")

from leakrt import _core
from leakrt.core.noise import noise_steps
from leakrt.core.schedule import step_coefficients
from leakrt.runtime.backends.torch.noising import DeviceNoising

CPU = torch.device("cpu")


def reference(spec, latent):
    bank = np.empty((spec.draws, len(spec.timesteps), *spec.latent_shape), np.float32)
    _core.fill_normals(spec.noise_seed, 0, bank)
    return noise_steps(latent, bank, step_coefficients(spec.schedule, spec.timesteps, spec.sigma_normalize))


def latents(spec, batch):
    return np.random.default_rng(batch).standard_normal((batch, *spec.latent_shape), dtype=np.float32)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("changes", [{}, {"draws": 1}, {"sigma_normalize": False}, {"timesteps": (999,)}])
def test_they_equal_the_reference_bit_for_bit(batch, changes):
    spec = replace(TINY_SPEC, **changes)
    latent = latents(spec, batch)
    found = DeviceNoising(spec, torch.float32, CPU, threads=1)(torch.from_numpy(latent)).numpy()
    np.testing.assert_array_equal(found, reference(spec, latent))


def test_float16_is_the_reference_rounded_once():
    latent = latents(TINY_SPEC, 2)
    found = DeviceNoising(TINY_SPEC, torch.float16, CPU, threads=1)(torch.from_numpy(latent)).numpy()
    np.testing.assert_array_equal(found, reference(TINY_SPEC, latent).astype(np.float16))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_gpu_equals_the_reference_with_and_without_the_kernel(native, dtype, monkeypatch):
    from leakrt.runtime.backends.torch import noising

    if native:
        pytest.importorskip("leakrt._cuda", reason="built without a CUDA toolkit")
    else:
        monkeypatch.setattr(noising, "find_kernels", lambda: None)
    latent = latents(TINY_SPEC, 5)
    found = (
        DeviceNoising(TINY_SPEC, dtype, torch.device("cuda"), threads=1)(torch.from_numpy(latent).cuda()).cpu().numpy()
    )
    np.testing.assert_array_equal(found, reference(TINY_SPEC, latent).astype(found.dtype))

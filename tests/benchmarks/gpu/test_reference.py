"""The reference method as it is written here: its VAE is diffusers', its arithmetic that of the published method."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from leakrt.core.preprocess import preprocess_reference
from leakrt.core.spec import ModelSpec

SPEC = ModelSpec(class_names=("real", "a", "b"), real_class="real", image_size=64, timesteps=(0, 60, 150))
WIDTHS = (32, 32, 64, 64)


@pytest.fixture
def reference(script):
    torch.manual_seed(0)
    return script("reference")


def test_its_vae_encoder_is_that_of_diffusers(reference):
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers")
    theirs = diffusers.AutoencoderKL(**{**reference.SD_VAE, "block_out_channels": WIDTHS}).eval()
    ours = reference.SdVaeEncoder(WIDTHS).eval()
    weights = {k: v for k, v in theirs.state_dict().items() if k.startswith(("encoder.", "quant_conv."))}
    ours.load_state_dict(weights)  # every name, and no other
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        wanted = theirs.encode(image).latent_dist.mean * 0.18215
        torch.testing.assert_close(ours(image), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(64, 64), (81, 97), (200, 130)])
def test_it_sees_a_frame_as_the_runtime_does(reference, shape):
    frame = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    found = reference.ReferenceMethod(SPEC, WIDTHS).preprocess(torch.from_numpy(frame)[None])[0]
    assert np.abs(found.numpy() - preprocess_reference(frame, 64)).max() < 1.5 / 127.5


def test_it_gives_one_row_of_scores_an_image_and_other_noise_every_time(reference):
    method = reference.ReferenceMethod(SPEC, WIDTHS).eval()
    frames = torch.randint(0, 256, (2, 70, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        first, second = method(frames), method(frames)
    assert first.shape == (2, 3)
    assert first.isfinite().all()
    assert not torch.equal(first, second)


def test_its_cost_at_256_pixels_is_the_vaes(reference):
    spec = ModelSpec(class_names=("real", "a"), real_class="real", timesteps=tuple(range(0, 400, 50)))
    cost = reference.flops(reference.ReferenceMethod(spec), 256)
    assert cost["vae"] == pytest.approx(272.7e9, rel=1e-3)
    assert cost["steps"] == pytest.approx(0.57e9, rel=1e-2)

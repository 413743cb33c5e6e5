"""A small VAE trained on pictures: it learns, by its seed alone, and lands in diffusers' own format."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from leakrt.core.errors import ImageError
from leakrt.core.images import find_images
from leakrt.demo.vae_training import train_vae
from leakrt.train.vae import open_vae

pytestmark = pytest.mark.slow
STEPS = 3


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """21 pictures of 72 x 72 pixels in three textures."""
    root = tmp_path_factory.mktemp("pictures")
    from PIL import Image
    from runs import CLASSES, texture

    for k, name in enumerate(CLASSES):
        (root / name).mkdir()
        for i in range(7):
            Image.fromarray(texture(name, 100 * k + i, size=72)[:72, :72]).save(root / name / f"{i}.png")
    return find_images(root)


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    out = tmp_path_factory.mktemp("vae") / "vae"
    calls = []
    train_vae(images, out, STEPS, seed=0, progress=lambda *call: calls.append(call))
    return out, calls


def test_every_step_is_counted(trained):
    assert trained[1] == [("training the VAE", n, STEPS) for n in range(1, STEPS + 1)]


def test_its_scale_brings_the_pictures_latents_to_unit_variance(trained, images):
    from leakrt.core.images import read_image

    vae = open_vae(f"sd:{trained[0]}", None, 72)
    pixels = np.stack([read_image(path).pixels[:, :, ::-1] for path in images]).astype(np.float32) / 127.5 - 1
    latents = vae.encode(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    assert latents.shape == (21, 4, 9, 9)
    assert latents.std() == pytest.approx(1.0, abs=0.05)


def test_the_same_seed_gives_the_same_weights_and_another_others(images, tmp_path):
    def weights(name, seed):
        train_vae(images, tmp_path / name, 2, seed=seed)
        return (tmp_path / name / "diffusion_pytorch_model.safetensors").read_bytes()

    first = weights("a", 3)
    assert weights("b", 3) == first
    assert weights("c", 4) != first


def test_a_picture_that_can_not_be_read_leaves_nothing_behind(images, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"none")
    with pytest.raises(ImageError, match=r"broken\.png"):
        train_vae([*images, tmp_path / "broken.png"], tmp_path / "vae", 2, seed=0)
    assert not (tmp_path / "vae").exists()

"""`sd:` encoders: their latents, and the error and remedy for a refused folder."""

from __future__ import annotations

import numpy as np
import pytest
from runs import write_autoencoder

from leakrt.core.errors import ModelError
from leakrt.train.vae import open_vae

pytest.importorskip("torch")


def images(count: int, size: int):
    return np.random.default_rng(0).uniform(-1, 1, (count, 3, size, size)).astype(np.float32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a small AutoencoderKL and the module itself."""
    pytest.importorskip("diffusers")
    folder = tmp_path_factory.mktemp("sd")
    return folder, write_autoencoder(folder)


class TestAutoencoderKL:
    """`sd:`, with a small AutoencoderKL saved in diffusers' own format."""

    def test_latents_are_the_posterior_mean_times_the_encoder_s_own_scale(self, saved):
        import torch

        folder, module = saved
        vae, batch = open_vae(f"sd:{folder}", None, 40), images(2, 40)
        with torch.inference_mode():
            mean = module.encode(torch.from_numpy(batch)).latent_dist.mean.numpy()
        assert vae.description.scale == pytest.approx(0.7)
        np.testing.assert_allclose(vae.encode(batch), np.float32(0.7) * mean, atol=1e-5)
        assert open_vae(f"sd:{folder}", 0.3, 40).description.scale == 0.3

    def test_the_vae_of_a_whole_pipeline_is_found(self, saved, tmp_path):
        saved[1].save_pretrained(tmp_path / "vae")
        (tmp_path / "model_index.json").write_text("{}")
        whole, alone = (open_vae(f"sd:{p}", None, 40).description.fingerprint for p in (tmp_path, saved[0]))
        assert whole == alone

    def test_encoding_restores_the_callers_threads(self, saved):
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(3)
        try:
            open_vae(f"sd:{saved[0]}", None, 40).encode(images(1, 40))
            assert torch.get_num_threads() == 3
        finally:
            torch.set_num_threads(before)

    def test_weights_in_a_pickle_are_not_read(self, saved, tmp_path):
        saved[1].save_pretrained(tmp_path, safe_serialization=False)
        with pytest.raises(ModelError, match=r"weights in a pickle only .*safe_serialization=True") as error:
            open_vae(f"sd:{tmp_path}", None, 40)
        assert "\n" not in str(error.value)

    def test_truncated_weights_are_refused(self, saved, tmp_path):
        saved[1].save_pretrained(tmp_path)
        weights = next(tmp_path.glob("*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:-100])
        with pytest.raises(ModelError, match="can't be loaded"):
            open_vae(f"sd:{tmp_path}", None, 40)

    @pytest.mark.parametrize(
        ("channels", "blocks", "message"),
        [
            (3, 4, "has 3 latent channels; 4 are needed: use the VAE of Stable Diffusion 1, 2 or XL"),
            (16, 4, "has 16 latent channels, as those of SD3 and FLUX; 4 are needed"),
            (4, 5, "downsamples by 16; 8 is needed"),
            (4, 3, "downsamples by 4; 8 is needed"),
        ],
    )
    def test_other_latents_are_refused_with_the_reason_and_the_remedy(self, tmp_path, channels, blocks, message):
        diffusers = pytest.importorskip("diffusers")
        diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * blocks,
            up_block_types=("UpDecoderBlock2D",) * blocks,
            block_out_channels=(4,) * blocks,
            latent_channels=channels,
            layers_per_block=1,
            norm_num_groups=4,
        ).save_pretrained(tmp_path)
        with pytest.raises(ModelError, match=message):
            open_vae(f"sd:{tmp_path}", None, 40)

    def test_a_folder_that_lacks_weights_of_the_encoder_is_refused(self, saved, tmp_path):
        from safetensors.torch import load_file, save_file

        saved[1].save_pretrained(tmp_path)
        (file,) = tmp_path.glob("*.safetensors")
        tensors = {k: v for k, v in load_file(file).items() if not k.startswith("encoder.conv_in.")}
        save_file(tensors, file, metadata={"format": "pt"})
        with pytest.raises(ModelError, match=r"lacks 2 weights of its encoder, such as encoder.conv_in.bias"):
            open_vae(f"sd:{tmp_path}", None, 40)

    def test_weights_that_are_nan_say_so(self, saved, tmp_path):
        from safetensors.torch import load_file, save_file

        saved[1].save_pretrained(tmp_path)
        (file,) = tmp_path.glob("*.safetensors")
        tensors = load_file(file)
        tensors["encoder.conv_in.bias"][0] = float("nan")
        save_file(tensors, file, metadata={"format": "pt"})
        with pytest.raises(ModelError, match=r"gives NaN in .* of a probe image's latent"):
            open_vae(f"sd:{tmp_path}", None, 40)

    def test_a_folder_with_only_float16_weights_is_refused(self, saved, tmp_path):
        saved[1].save_pretrained(tmp_path)
        (file,) = tmp_path.glob("*.safetensors")
        file.rename(tmp_path / "diffusion_pytorch_model.fp16.safetensors")
        with pytest.raises(ModelError, match=r"has float16 weights only .*; add the float32 ones"):
            open_vae(f"sd:{tmp_path}", None, 40)

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ('{"_class_name": "AutoencoderTiny"}', "is a AutoencoderTiny; an AutoencoderKL is needed"),
            ("{", "config.json can't be read"),
            ("[]", "config.json is not a JSON object"),
        ],
    )
    def test_another_configuration_is_refused(self, saved, tmp_path, config, message):
        saved[1].save_pretrained(tmp_path)
        (tmp_path / "config.json").write_text(config)
        with pytest.raises(ModelError, match=message):
            open_vae(f"sd:{tmp_path}", None, 40)

    def test_a_file_in_place_of_a_folder_is_refused(self, saved):
        with pytest.raises(ModelError, match="is a file; give the folder of an AutoencoderKL"):
            open_vae(f"sd:{saved[0] / 'config.json'}", None, 40)

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("/no/such/folder", "no such folder"),
            ("nosuchfolder", "no such folder"),
            ("owner/name", "without a network download its folder elsewhere"),
        ],
    )
    def test_a_missing_source_is_reported_in_one_line(self, source, message, monkeypatch):
        hub = pytest.importorskip("huggingface_hub")
        monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(hub.constants, "ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(ModelError, match=message) as error:
            open_vae(f"sd:{source}", None, 40)
        assert "\n" not in str(error.value)

    def test_a_folder_without_a_vae_is_reported(self, tmp_path):
        with pytest.raises(ModelError, match=r"holds neither config.json nor vae/config.json"):
            open_vae(f"sd:{tmp_path}", None, 40)

"""ModelSpec rejects invalid values from any source."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from leakrt.core.errors import BundleError, UsageError
from leakrt.core.spec import ModelSpec

SPEC = ModelSpec(class_names=("real", "gan"), real_class="real", noise_seed=2**64 - 1, timesteps=(0, 999))


def test_a_spec_round_trips_through_json():
    assert ModelSpec.from_json(json.loads(json.dumps(SPEC.to_json()))) == SPEC


def test_fields_missing_from_the_json_take_their_defaults():
    assert ModelSpec.from_json({"class_names": ["a", "b"], "real_class": "a"}).image_size == 256


def test_the_latent_shape_and_real_index_are_derived():
    spec = replace(SPEC, image_size=40, real_class="gan")
    assert spec.latent_shape == (4, 5, 5)
    assert spec.real_index == 1


BAD = [
    ({"class_names": ("real",)}, "1 classes"),
    ({"class_names": ("real", "real")}, "twice"),
    ({"class_names": tuple(map(str, range(1001))), "real_class": "0"}, "1001 classes"),
    ({"real_class": "camera"}, "'camera' is not one of: real, gan"),
    ({"image_size": 250}, "image size 250; it must be a multiple of 8"),
    ({"image_size": 24}, "image size 24"),
    ({"image_size": 4096}, "image size 4096"),
    ({"vae_kind": "x"}, "no VAE kind 'x'"),
    ({"vae_scale": 0.0}, "VAE scale 0.0"),
    ({"vae_scale": float("nan")}, "VAE scale nan"),
    ({"schedule": "cosine"}, "no schedule 'cosine'"),
    ({"encoder": "x"}, "no encoder 'x'"),
    ({"timesteps": ()}, "0 timesteps"),
    ({"timesteps": (1, 1)}, "a timestep appears twice"),
    ({"timesteps": (1000,)}, "between 0 and 999"),
    ({"timesteps": (-1,)}, "between 0 and 999"),
    ({"draws": 0}, "0 draws"),
    ({"draws": 65}, "65 draws"),
    ({"noise_seed": -1}, "64 bits"),
    ({"noise_seed": 2**64}, "64 bits"),
    ({"embedding_dim": 0}, "0 dimensions"),
    ({"prototypes_per_class": 257}, "257 prototypes"),
]


@pytest.mark.parametrize(("change", "why"), BAD)
def test_an_invalid_value_is_a_usage_error(change, why):
    with pytest.raises(UsageError, match=why):
        replace(SPEC, **change)


@pytest.mark.parametrize(("change", "why"), BAD)
def test_an_invalid_value_in_a_bundle_is_a_bundle_error(change, why):
    data = SPEC.to_json() | {k: list(v) if isinstance(v, tuple) else v for k, v in change.items()}
    with pytest.raises(BundleError, match=f"^model spec: .*{why}"):
        ModelSpec.from_json(data)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"image_size": "256"}, "image_size is not of type int"),
        ({"image_size": True}, "image_size is not of type int"),
        ({"image_size": 256.0}, "image_size is not of type int"),
        ({"class_names": "ab"}, "class_names is not of type"),
        ({"class_names": [1, 2]}, "class_names is not of type"),
        ({"timesteps": [1.5]}, "timesteps is not of type"),
        ({"sigma_normalize": 1}, "sigma_normalize is not of type bool"),
        ({"vae_scale": None}, "vae_scale is not of type float"),
        ({"colour": 1}, "unknown fields"),
    ],
)
def test_a_mistyped_or_unknown_field_is_named(change, why):
    with pytest.raises(BundleError, match=f"^model spec: .*{why}"):
        ModelSpec.from_json(SPEC.to_json() | change)


@pytest.mark.parametrize("data", [None, [], 3, "x"])
def test_data_that_is_not_an_object_is_rejected(data):
    with pytest.raises(BundleError, match="not a JSON object"):
        ModelSpec.from_json(data)


def test_missing_fields_are_named():
    with pytest.raises(BundleError, match=r"missing fields \['real_class'\]"):
        ModelSpec.from_json({"class_names": ["a", "b"]})

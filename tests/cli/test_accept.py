"""`leakrt accept` for people and programs."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("openvino", reason="openvino is not installed")
from dataclasses import replace

from bundles import TINY_SPEC, noise_image, random_bundle
from PIL import Image

from leakrt.core.bundle import Bundle

SPEC = replace(TINY_SPEC, class_names=("blocky", "real", "smooth"))


@pytest.fixture
def bundle(tmp_path):
    return random_bundle(tmp_path / "bundle", spec=SPEC)


@pytest.fixture
def data(tmp_path):
    for k, name in enumerate(SPEC.class_names):
        for split in ("train", "val"):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for i in range(6):
                Image.fromarray(noise_image(100 * k + i + 50 * (split == "val"))).save(folder / f"{split}{i}.png")
    return tmp_path / "data"


def test_it_prints_what_it_measured(leakrt, bundle, data):
    done = leakrt("accept", bundle, data, "--backend", "openvino", "--precision", "fp32", "--threads", 1)
    assert done.code == 0, done.err
    assert "fp32 on openvino" in done.out
    assert "passed" in done.out
    assert "openvino" in Bundle(bundle).decisions["fp32"].tolerance


def test_json_is_one_object(leakrt, bundle, data):
    done = leakrt("accept", bundle, data, "--backend", "openvino", "--precision", "fp32", "--json")
    reported = json.loads(done.out)
    assert reported["left_out"] == []
    assert (reported["precision"], reported["backend"], reported["passed"], reported["failures"]) == (
        "fp32",
        "openvino",
        True,
        [],
    )


def test_a_precision_that_is_not_there_is_one_line(leakrt, bundle, data):
    done = leakrt("accept", bundle, data, "--backend", "openvino", "--precision", "int8")
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("leakrt: error: ")
    assert "int8" in done.err

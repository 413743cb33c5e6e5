"""Distance of calibration images from validation images, and the error if it is too large."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from leakrt.calibration.int8.histogram import MagnitudeHistogram
from leakrt.calibration.int8.shift import MAX_SHIFT, Shift, distance, shift_of
from leakrt.core.errors import DataError


def counted(values):
    found = MagnitudeHistogram()
    found.add(np.asarray(values, np.float32))
    return found


def normals(seed, scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, 4001)


def test_the_distance_is_that_of_the_values_within_a_bin():
    from scipy.stats import ks_2samp

    for scale in (0.2, 0.9, 1.0, 3.0, 40.0):
        first, second = normals(1), normals(2, scale)
        exact = ks_2samp(np.abs(first), np.abs(second)).statistic
        assert distance(counted(first), counted(second)) == pytest.approx(exact, abs=0.02)
        assert distance(counted(second), counted(first)) == distance(counted(first), counted(second))


def test_the_same_values_are_no_distance_apart_however_many_there_are():
    assert distance(counted(normals(0)), counted(np.tile(normals(0), 3))) == pytest.approx(0.0, abs=1e-12)


def test_values_that_share_no_bin_are_one_apart_and_nothing_is_none_from_nothing():
    assert distance(counted(np.full(7, 0.001)), counted(np.full(9, 1000.0))) == 1.0
    assert distance(MagnitudeHistogram(), MagnitudeHistogram()) == 0.0


def test_measuring_leaves_the_histograms_as_they_were():
    narrow, wide = counted(normals(0, 0.01)), counted(normals(1, 100.0))
    before = narrow.to_json(), wide.to_json()
    distance(narrow, wide)
    assert (narrow.to_json(), wide.to_json()) == before


def test_the_tensor_that_moved_most_is_named():
    expected = {"a": counted(normals(0)), "b": counted(normals(1))}
    found = shift_of({"a": counted(normals(2)), "b": counted(normals(3, 2.0))}, expected, 64)
    assert found.tensor == "b"
    assert found.share == distance(counted(normals(3, 2.0)), expected["b"])
    assert found.to_json(0.2) == {"share": found.share, "limit": 0.2, "tensor": "b", "images": 64}


def test_too_far_and_nan_are_one_line_with_cause_and_advice():
    Shift(MAX_SHIFT, "image", 64).require(MAX_SHIFT, "take faces")
    for share, limit in ((0.301, MAX_SHIFT), (0.301, float("nan"))):
        with pytest.raises(DataError) as error:
            Shift(share, "image", 64).require(limit, "take faces")
        assert "30% of the values in image differ from those of validation images" in str(error.value)
        assert str(error.value).endswith("take faces")
        assert "\n" not in str(error.value)


def test_thirty_two_faces_are_of_the_kind_of_others_and_noise_is_not(shared):
    """Uses the VAE encoder and the images of the measurements behind the limit."""
    for module in ("torch", "onnx", "onnxslim"):
        pytest.importorskip(module)
    from bundles import TINY_SPEC

    from leakrt import _core
    from leakrt.calibration.images import preprocess_file
    from leakrt.calibration.int8.observe import Observer
    from leakrt.calibration.int8.qdq import observed_tensors
    from leakrt.calibration.layers import find_layers
    from leakrt.core.images import find_images
    from leakrt.export.graph_io import parse_graph
    from leakrt.export.vae_graph import export_vae
    from leakrt.train.onnx_vae import OnnxVae

    encoder, faces = shared("models/vaelight_encoder.onnx"), shared("leakbench")
    spec = replace(TINY_SPEC, image_size=256)
    graph = parse_graph(export_vae(OnnxVae(str(encoder), 0.18215, 256), spec), "vae_encoder")
    tensors = observed_tensors(graph, find_layers(graph, "vae_encoder"))
    observer = Observer(graph, tensors, 2)

    def histograms(pictures):
        found = {name: MagnitudeHistogram() for name in tensors}
        for picture in pictures:
            observer.add(picture[None], found)
        return found

    def spread(split, count):
        paths = sorted(find_images(faces / split))
        return [preprocess_file(paths[i], 256) for i in np.linspace(0, len(paths) - 1, count).round().astype(int)]

    def noise():
        out = np.empty((3, 256, 256), np.float32)
        for i in range(32):
            _core.preprocess(np.random.default_rng(i).integers(0, 256, (256, 256, 3), np.uint8), out)
            yield out

    expected = histograms(spread("val", 64))
    assert shift_of(histograms(spread("train", 32)), expected, 64).share < MAX_SHIFT
    assert shift_of(histograms(noise()), expected, 64).share > 3 * MAX_SHIFT

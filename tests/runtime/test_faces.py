"""Faces are found, cut as the detector was trained, and judged one by one."""

from __future__ import annotations

import numpy as np
import pytest

from leakrt import Detector
from leakrt.core.errors import ModelError
from leakrt.core.images import find_images, read_image
from leakrt.runtime.faces import FaceFinder, crop_square


@pytest.fixture(scope="module")
def model(shared):
    return shared("models/face_detection_yunet_2023mar.onnx")


@pytest.fixture(scope="module")
def finder(model):
    return FaceFinder(model)


@pytest.fixture(scope="module")
def photo(shared):
    return read_image(find_images(shared("leakbench/test/real"))[0]).pixels


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((100, 100, 40, 50), (78, 82, 85)),  # 1.7 x 50 around (120, 125)
        ((0, 0, 40, 50), (0, 0, 85)),  # moved inside
        ((260, 160, 40, 40), (232, 132, 68)),
        ((50, 20, 150, 160), (25, 0, 200)),  # limited by the shorter side
    ],
)
def test_the_square_is_1_7_times_the_face_and_inside_the_image(box, expected):
    rows, columns = np.mgrid[:200, :300]
    image = np.stack([rows, columns % 256, columns // 256], axis=2).astype(np.uint8)
    left, top, side = expected
    crop = crop_square(image, box)
    assert crop.shape == (side, side, 3)
    assert np.shares_memory(crop, image)
    assert crop[0, 0].tolist() == [top, left % 256, left // 256]


def test_one_face_is_found_in_a_portrait(finder, photo):
    faces = finder.find(photo)
    assert len(faces) == 1
    x, y, w, h = faces[0].face.box
    assert 0 <= x < x + w <= photo.shape[1]
    assert 0 <= y < y + h <= photo.shape[0]
    assert min(w, h) > 60


def test_the_largest_face_comes_first_and_boxes_are_in_the_pixels_of_a_large_image(finder, photo):
    canvas = np.full((1400, 2600, 3), 127, np.uint8)
    canvas[100:356, 1900:2156] = photo
    canvas[300:1068, 200:968] = photo.repeat(3, axis=0).repeat(3, axis=1)
    faces = finder.find(canvas)
    assert [f.face.index for f in faces] == [0, 1]
    (x0, y0, w0, h0), (x1, y1, w1, h1) = (f.face.box for f in faces)
    assert 200 <= x0 < x0 + w0 <= 968
    assert 1900 <= x1 < x1 + w1 <= 2156
    assert w0 * h0 > 4 * w1 * h1
    assert 300 <= y0 < y0 + h0 <= 1068
    assert 100 <= y1 < y1 + h1 <= 356


def test_the_same_image_gives_the_same_boxes(finder, photo):
    boxes = {tuple(f.face.box for f in finder.find(photo)) for _ in range(3)}
    assert len(boxes) == 1


@pytest.mark.parametrize("shape", [(33, 400), (400, 33), (32, 32), (961, 961)])
def test_odd_sizes_without_a_face_give_none(finder, shape):
    assert finder.find(np.full((*shape, 3), 90, np.uint8)) == []


def test_each_face_gets_its_verdict(tiny, model, photo):
    detector = Detector.load(tiny, faces=model)
    pair = np.concatenate([photo, photo[:, ::-1]], axis=1)
    verdicts = detector.check_faces(pair)
    assert [v.face.index for v in verdicts] == [0, 1]
    assert all(v.verdict for v in verdicts)
    assert {"faces", "preprocess"} < set(verdicts[0].latency_ms)
    assert detector.check(pair).face == verdicts[0].face
    streamed = list(detector.check_stream([pair, photo], 1))
    assert [v.face.index for v in streamed] == [0, 1, 0]


def test_an_image_without_a_face_abstains_and_says_so(tiny, model):
    detector = Detector.load(tiny, faces=model)
    blank = np.full((64, 64, 3), 127, np.uint8)
    for verdict in (detector.check(blank), *detector.check_stream([blank]), detector.analyse(blank)[0].verdict):
        assert (verdict.verdict, verdict.label, verdict.face) == ("abstain", "abstain", None)
        assert verdict.reasons == ("no face was found",)
        assert verdict.scores == {}


def test_a_missing_model_is_one_line(tmp_path):
    with pytest.raises(ModelError, match=r"none\.onnx: the face model can't be read \(No such file"):
        FaceFinder(tmp_path / "none.onnx")


def test_another_file_is_no_face_model(tiny, tmp_path, capfd):
    (tmp_path / "x.onnx").write_bytes(b"hello")
    for path in (tmp_path / "x.onnx", tiny / "vae_encoder.fp32.onnx"):
        with pytest.raises(ModelError, match=r"\.onnx: not a YuNet face model") as error:
            FaceFinder(path)
        assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""

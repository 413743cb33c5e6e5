"""Faces are found, cropped as for training, and classified one by one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from leakrt import Detector
from leakrt.core.errors import ModelError
from leakrt.core.images import find_images, read_image
from leakrt.runtime.face_search import overlap, turn_back
from leakrt.runtime.faces import MAX_FACES, FaceFinder, crop_square

NOTES = [(), *((f"the face is rotated by {d} degrees clockwise; it was classified upright",) for d in (90, 180, 270))]


@pytest.fixture(scope="module")
def model(shared):
    return shared("models/face_detection_yunet_2023mar.onnx")


@pytest.fixture(scope="module")
def finder(model):
    return FaceFinder(model)


@pytest.fixture(scope="module")
def photo(shared):
    return read_image(find_images(shared("leakbench/test/real"))[0]).pixels


@pytest.fixture(scope="module")
def portrait(shared, finder):
    """A portrait of 1,024 pixels per side and the box of its face."""
    image = read_image(find_images(shared("leakbench-originals/real"))[1]).pixels
    return image, finder.find(image)[0].face.box


def pasted(portrait, size, quarters, frame_size):
    """A grey frame with the portrait, rotated clockwise and scaled to a face of `size` pixels, and the face's box."""
    image, box = portrait
    factor = size / max(box[2:])
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    small = np.rot90(cv2.resize(image, None, fx=factor, fy=factor, interpolation=how), -quarters)
    x, y, w, h = turn_back(tuple(v * factor for v in box), quarters, small.shape[1], height=small.shape[0])
    width, height = frame_size
    frame = np.full((height, width, 3), 127, np.uint8)
    left, top = round((width - w) / 2 - x), round((height - h) / 2 - y)
    part = small[max(0, -top) : height - top, max(0, -left) : width - left]
    top, left = max(0, top), max(0, left)
    frame[top : top + part.shape[0], left : left + part.shape[1]] = part
    return frame, ((width - w) / 2, (height - h) / 2, w, h)


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


@pytest.mark.parametrize("size", [48, 100, 300, 450, 700])
@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_face_of_any_size_and_rotation_is_found_once_at_its_position(finder, portrait, size, quarters):
    frame, place = pasted(portrait, size, quarters, (1280, 720))
    (crop,) = finder.find(frame)
    assert overlap(crop.face.box, place) > 0.6
    assert crop.notes == NOTES[quarters]


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_the_crop_of_a_rotated_face_is_upright_and_contiguous(finder, portrait, quarters):
    image = portrait[0]
    (upright,), (turned,) = finder.find(image), finder.find(np.ascontiguousarray(np.rot90(image, -quarters)))
    width, height = (image.shape[0], image.shape[1]) if quarters % 2 else (image.shape[1], image.shape[0])
    assert overlap(turned.face.box, turn_back(upright.face.box, quarters, width, height=height)) > 0.6
    assert turned.pixels.flags.c_contiguous
    small = [cv2.resize(c.pixels, (32, 32), interpolation=cv2.INTER_AREA).astype(float) for c in (upright, turned)]
    assert np.corrcoef(small[0].ravel(), small[1].ravel())[0, 1] > 0.7
    assert upright.notes == ()
    assert np.shares_memory(upright.pixels, image)


def test_a_face_that_one_scale_finds_well_keeps_its_box(finder, model, photo):
    one_scale = cv2.FaceDetectorYN.create(str(model), "", (256, 256), 0.7, 0.3, 512)
    (row,) = one_scale.detect(photo)[1]
    (crop,) = finder.find(photo)
    assert crop.face.box[:2] == (max(0, round(float(row[0]))), max(0, round(float(row[1]))))


def test_a_face_that_exceeds_the_frame_is_found(finder, portrait):
    image, (x, y, w, h) = portrait
    inner = image[round(y + 0.15 * h) : round(y + 0.85 * h), round(x + 0.15 * w) : round(x + 0.85 * w)]
    for side in (64, 300, 960, 1500):
        (crop,) = finder.find(cv2.resize(np.ascontiguousarray(inner), (side, side)))
        assert crop.notes == ()
        assert min(crop.face.box[2:]) > 0.6 * side


def test_a_second_face_that_the_border_cuts_off_is_found(finder, portrait):
    image, (_, y, _, h) = portrait
    half = cv2.resize(np.ascontiguousarray(image[round(y + h / 4) : round(y + h)]), None, fx=0.5, fy=0.5)
    frame, place = pasted(portrait, 300, 0, (1280, 720))
    frame[: half.shape[0], : half.shape[1]] = half
    boxes = [crop.face.box for crop in finder.find(frame)]
    assert len(boxes) == 2
    assert any(box[1] + box[3] / 2 < half.shape[0] for box in boxes)
    assert any(overlap(box, place) > 0.6 for box in boxes)


def test_faces_side_by_side_stay_two(finder, portrait):
    image, (x, y, w, h) = portrait
    face = image[round(y) : round(y + h), round(x) : round(x + w)]
    for width in (60, 150, 400):
        one = cv2.resize(np.ascontiguousarray(face), (width, round(width * h / w)))
        pair = cv2.copyMakeBorder(
            np.concatenate([one, one], axis=1), 40, 40, 40, 40, cv2.BORDER_CONSTANT, value=[90] * 3
        )
        left, right = sorted(crop.face.box for crop in finder.find(pair))
        assert overlap(left, right) < 0.2


def test_a_small_picture_of_a_face_beside_a_large_face_is_a_second_face(finder, portrait):
    frame, place = pasted(portrait, 600, 0, (1280, 720))
    small, inner = pasted(portrait, 60, 0, (200, 150))
    frame[-150:, -200:] = small
    faces = finder.find(frame)
    assert len(faces) == 2
    assert overlap(faces[0].face.box, place) > 0.6
    assert overlap(faces[1].face.box, (inner[0] + 1080, inner[1] + 570, *inner[2:])) > 0.6


def test_a_picture_of_a_face_in_front_of_a_face_is_a_second_face(finder, portrait):
    frame, (x, y, w, h) = pasted(portrait, 500, 0, (1280, 720))
    card, _ = pasted(portrait, 90, 0, (120, 130))
    top, left = round(y + h) - 140, round(x + w / 2)
    frame[top : top + 130, left : left + 120] = card
    large, small = (crop.face.box for crop in finder.find(frame))
    assert overlap(large, (x, y, w, h)) > 0.6
    assert max(small[2:]) < 130


def test_the_largest_32_faces_are_returned(finder, portrait):
    large, _ = pasted(portrait, 90, 0, (180, 160))
    small, _ = pasted(portrait, 50, 0, (180, 160))
    frame = np.concatenate([np.tile(large, (4, 8, 1)), np.tile(small, (1, 8, 1))])
    faces = finder.find(frame)
    assert [f.face.index for f in faces] == list(range(MAX_FACES))
    assert all(max(f.face.box[2:]) > 70 for f in faces)


def test_boxes_do_not_depend_on_earlier_images(finder, photo, portrait):
    others = [portrait[0], photo[:-1, :-1], pasted(portrait, 300, 1, (1280, 720))[0]]
    boxes = set()
    for other in others:
        finder.find(np.ascontiguousarray(other))
        boxes.add(tuple(f.face.box for f in finder.find(photo)))
    assert len(boxes) == 1


@pytest.mark.parametrize("size", [(959, 540), (961, 541), (1439, 333), (1441, 811), (2401, 333), (8000, 600)])
def test_a_face_of_48_pixels_is_found_at_odd_sizes_and_in_a_panorama(finder, portrait, size):
    frame, place = pasted(portrait, 48, 0, size)
    assert any(overlap(crop.face.box, place) > 0.5 for crop in finder.find(frame))


def test_a_face_in_a_frame_of_32_pixels_is_found(finder, portrait):
    image, (x, y, w, h) = portrait
    around = image[max(0, round(y - 0.1 * h)) : round(y + 1.1 * h), max(0, round(x - 0.1 * w)) : round(x + 1.1 * w)]
    (crop,) = finder.find(cv2.resize(np.ascontiguousarray(around), (32, 32), interpolation=cv2.INTER_AREA))
    assert max(crop.face.box[2:]) >= 24


@pytest.mark.parametrize("grain", [0, 2, 8, 32])
def test_noise_of_any_grain_has_no_face(finder, grain):
    noise = np.random.default_rng(0).normal(0, 1, (700, 1000, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), grain) if grain else noise
    assert finder.find(cv2.normalize(soft, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)) == []


@pytest.mark.parametrize("shape", [(33, 400), (400, 33), (32, 32), (961, 961)])
def test_images_of_odd_sizes_without_a_face_return_none(finder, shape):
    assert finder.find(np.full((*shape, 3), 90, np.uint8)) == []


def test_each_face_gets_its_verdict(tiny, model, photo):
    detector = Detector.load(tiny, faces=model)
    pair = np.concatenate([photo, photo[:, ::-1]], axis=1)
    verdicts = detector.check_faces(pair)
    assert [v.face.index for v in verdicts] == [0, 1]
    assert all(v.verdict for v in verdicts)
    assert {"faces", "preprocess"} < set(verdicts[0].latency_ms)
    assert detector.check(pair).face == verdicts[0].face
    streamed = list(detector.check_stream([pair, photo], batch=1))
    assert [v.face.index for v in streamed] == [0, 1, 0]


def test_an_image_without_a_face_abstains_and_says_so(tiny, model):
    detector = Detector.load(tiny, faces=model)
    blank = np.full((64, 64, 3), 127, np.uint8)
    for verdict in (detector.check(blank), *detector.check_stream([blank]), detector.analyse(blank)[0].verdict):
        assert (verdict.verdict, verdict.label, verdict.face) == ("abstain", "abstain", None)
        assert verdict.reasons == ("no face was found",)
        assert verdict.scores == {}


def test_a_missing_model_raises_with_one_line(tmp_path):
    with pytest.raises(ModelError, match=r"can't read the face model .*none\.onnx: No such file"):
        FaceFinder(tmp_path / "none.onnx")


def test_a_file_that_is_not_a_face_model_raises(tiny, tmp_path, capfd):
    (tmp_path / "x.onnx").write_bytes(b"hello")
    for path in (tmp_path / "x.onnx", tiny / "vae_encoder.fp32.onnx"):
        with pytest.raises(ModelError, match=r"\.onnx is not a YuNet face model") as error:
            FaceFinder(path)
        assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_faces_beyond_the_limit_are_counted_in_a_note(finder, shared):
    face = read_image(sorted(shared("leakbench/test/real").glob("*.jpg"))[0]).pixels
    tile = cv2.resize(face, (180, 180), interpolation=cv2.INTER_AREA)
    crowd = np.full((1040, 1820, 3), 128, np.uint8)
    for i in range(40):
        row, column = divmod(i, 10)
        crowd[row * 260 : row * 260 + 180, column * 180 : column * 180 + 180] = tile
    found = finder.find(crowd)
    assert len(found) == MAX_FACES
    assert found[0].notes == ("8 smaller faces of this image were not classified",)

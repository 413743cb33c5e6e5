"""Detector: loading, single images, batches and streams give the same verdicts."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from leakrt import Detector
from leakrt.core.errors import BundleError, ImageError, UsageError
from leakrt.core.images import find_images


@pytest.fixture(scope="module")
def detector(tiny):
    return Detector.load(tiny)


def scores(verdicts):
    return np.array([list(v.scores.values()) for v in verdicts])


def test_a_verdict_is_filled_in_completely(detector, image_folder):
    path = find_images(image_folder(1))[0]
    verdict = detector.check(path)
    assert verdict.path == str(path)
    assert verdict.verdict in ("real", "generator", "unknown", "abstain")
    assert sum(verdict.scores.values()) == pytest.approx(1)
    assert list(verdict.scores) == list(detector.spec.class_names)
    assert list(verdict.step_weights) == ["0", "60", "150"]
    assert sum(verdict.step_weights.values()) == pytest.approx(1, abs=1e-6)
    assert verdict.prototype in {f"{name}/{m}" for name in detector.spec.class_names for m in (0, 1)}
    assert np.isfinite(verdict.log_density)
    assert (verdict.backend, verdict.precision) == ("onnxruntime", "fp32")
    assert verdict.bundle == detector.bundle.identity
    assert set(verdict.latency_ms) == {"decode", "preprocess", "vae", "noising", "leak", "decision"}
    assert (verdict.face, verdict.error) == (None, None)
    assert json.loads(verdict.to_json())["label"] == verdict.label


def test_every_method_returns_the_same_scores_for_an_image(tiny, detector, image_folder):
    paths = find_images(image_folder(9))
    expected = scores([detector.check(path) for path in paths])
    ways = [
        detector.check_batch(paths),
        *(list(detector.check_stream(paths, batch=batch)) for batch in (1, 2, 3, 8, 50)),
    ]
    ways += [[a.verdict for path in paths for a in detector.analyse(path)]]
    ways += [Detector.load(tiny, threads=n).check_batch(paths) for n in (1, 2, 3)]
    for verdicts in ways:
        assert [v.path for v in verdicts] == [str(path) for path in paths]
        np.testing.assert_allclose(scores(verdicts), expected, atol=1e-6, rtol=0)


def test_a_frame_gives_the_scores_of_its_file(detector, image_folder):
    path = image_folder(2) / "0001.png"
    frame = np.asarray(Image.open(path))[:, :, ::-1]
    assert detector.check(frame).scores == detector.check(path).scores
    assert detector.check(frame).path == ""


def test_a_zip_file_is_the_same_bundle(tiny, detector, tmp_path, image_folder):
    shutil.make_archive(str(tmp_path / "b"), "zip", tiny)
    with pytest.raises(BundleError, match="compressed"):
        Detector.load(tmp_path / "b.zip")  # created by a tool that compresses
    import zipfile

    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        for file in tiny.iterdir():
            archive.write(file, file.name)
    path = find_images(image_folder(1))[0]
    assert Detector.load(tmp_path / "c.zip").check(path).scores == detector.check(path).scores


def test_calls_from_several_threads_do_not_mix(detector, image_folder):
    paths = find_images(image_folder(12))
    expected = scores([detector.check(path) for path in paths])
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(detector.check, paths * 3))
    np.testing.assert_allclose(scores(found), np.tile(expected, (3, 1)), atol=1e-6, rtol=0)


def test_check_raises_for_an_image_that_can_not_be_read(detector, tmp_path):
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(ImageError, match="the file is empty"):
        detector.check(tmp_path / "x.png")
    with pytest.raises(ImageError, match="can't be read"):
        detector.check_batch([tmp_path / "none.png"])


def test_a_stream_yields_an_error_at_its_position_and_continues(detector, image_folder):
    folder = image_folder(7)
    (folder / "0002.jpg").write_bytes(b"")
    (folder / "0005.png").write_bytes(b"hello")
    verdicts = list(detector.check_stream(find_images(folder), batch=3))
    assert [v.error is not None for v in verdicts] == [False, False, True, False, False, True, False]
    assert verdicts[2].error == f"{folder / '0002.jpg'}: the file is empty"
    assert (verdicts[2].verdict, verdicts[2].scores) == (None, {})
    assert detector.analyse(folder / "0002.jpg")[0].verdict.error == verdicts[2].error


def test_a_stream_of_only_bad_images_ends(detector, tmp_path):
    (tmp_path / "x.png").write_bytes(b"")
    assert [v.verdict for v in detector.check_stream([tmp_path / "x.png"] * 5, batch=2)] == [None] * 5


def test_an_empty_input_returns_no_verdicts(detector):
    assert detector.check_batch([]) == []
    assert list(detector.check_stream([])) == []


def test_a_stream_reads_ahead_by_a_bounded_number_and_stops_when_closed(detector, image_folder):
    path, taken = find_images(image_folder(1))[0], []

    def endless():
        while True:
            taken.append(path)
            yield path

    stream = detector.check_stream(endless(), batch=2)
    assert len(list(islice(stream, 5))) == 5
    assert len(taken) <= 5 + 3 * 2
    stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("leakrt-prepare")]


def test_an_animation_is_classified_by_its_first_frame_with_a_note(detector, tmp_path):
    frames = [Image.new("L", (50, 50), grey) for grey in (10, 200)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert detector.check(tmp_path / "x.gif").reasons[-1] == "the file has several frames; only the first is used"


@pytest.mark.parametrize(
    ("options", "error", "why"),
    [
        ({"backend": "x"}, UsageError, "no backend named 'x'"),
        ({"precision": "fp8"}, UsageError, "no precision 'fp8'; choose one of: auto, fp32, fp16, int8"),
        ({"precision": "int8"}, BundleError, "has no int8 variant; it has: fp32"),
        ({"threads": -2}, UsageError, "invalid number of threads -2"),
    ],
)
def test_an_invalid_option_raises_at_load(tiny, options, error, why):
    with pytest.raises(error, match=why):
        Detector.load(tiny, **options)


def test_a_batch_size_under_one_raises_at_the_call(detector):
    with pytest.raises(UsageError, match="invalid batch size 0: expected an integer of at least 1"):
        detector.check_stream([], batch=0)


def test_the_pixel_limit_can_be_set(tiny, image_folder):
    path = find_images(image_folder(1))[0]
    with pytest.raises(ImageError, match="megapixels"):
        Detector.load(tiny, max_pixels=100).check(path)


def test_exemplars_come_from_the_bundle(detector):
    assert detector.exemplars().of(0, 0)[0].startswith(b"\xff\xd8")


def test_loading_imports_no_heavy_library(tiny):
    import subprocess
    import sys

    code = (
        "import sys\nfrom leakrt import Detector\nimport numpy\n"
        f"Detector.load({str(tiny)!r}).check(numpy.zeros((50, 50, 3), numpy.uint8))\n"
        "print(sorted({'torch', 'cv2', 'rich', 'typer', 'onnx', 'matplotlib', 'sklearn'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_fastest_selects_a_backend_that_runs_here(tiny, detector, image_folder):
    path = find_images(image_folder(1))[0]
    assert Detector.load(tiny, backend="fastest").check(path).backend == "onnxruntime"

"""`leakrt check`: a line for each image, errors in their place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leakrt import Detector
from leakrt.core.images import find_images, read_image


def spoil(folder: Path, names: list[str]) -> None:
    """Ten kinds of image that can't be judged, under the given names."""
    whole = (folder / "0000.jpg").read_bytes()
    kinds = [
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(b"not an image"),
        lambda p: p.write_bytes(whole[: len(whole) // 2]),
        lambda p: p.write_bytes(whole[:20]),
        lambda p: Image.new("RGB", (1, 1)).save(p, "PNG"),
        lambda p: Image.new("1", (20_000, 20_000)).save(p, "PNG"),
        lambda p: Image.new("F", (40, 40)).save(p, "TIFF"),
        lambda p: Image.new("RGB", (31, 400)).save(p, "PNG"),
        lambda p: (p.unlink(), p.symlink_to("/dev/null")),
        lambda p: (p.unlink(), p.symlink_to("nowhere")),
    ]
    for name, kind in zip(names, kinds, strict=True):
        kind(folder / name)


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_of_a_folder_with_ten_bad_images_all_others_are_judged(leakrt, tiny, image_folder, count):
    folder = image_folder(count)
    bad = [path.name for path in find_images(folder)][5 :: count // 10]
    spoil(folder, bad)
    done = leakrt("check", tiny, folder, "--json")
    verdicts = [json.loads(line) for line in done.lines]
    assert done.code == 1
    assert len(verdicts) == count
    assert sorted(Path(v["path"]).name for v in verdicts if v["error"]) == bad
    assert sum(v["verdict"] is not None for v in verdicts) == count - 10
    assert [v["path"] for v in verdicts] == [str(path) for path in find_images(folder)]
    assert f"{count} checked" in done.err
    assert "10 error" in done.err


def test_lines_for_people_are_aligned_and_name_the_path(leakrt, tiny, image_folder):
    folder = image_folder(4)
    (folder / "0003.png").write_bytes(b"")
    done = leakrt("check", tiny, folder)
    places = [line.find(str(folder)) for line in done.lines]
    assert len(done.lines) == 4
    assert len(set(places[:3])) == 1
    assert done.lines[3].startswith("error")
    assert done.lines[3].endswith("0003.png: the file is empty")
    assert "\x1b" not in done.out
    detector = Detector.load(tiny)
    for line, path in zip(done.lines, find_images(folder)[:3], strict=False):
        verdict = detector.check(path)
        assert line.startswith(verdict.verdict)
        assert f"{100 * verdict.probability:.1f} %" in line
        if verdict.verdict in ("abstain", "unknown"):
            assert line.endswith(verdict.reasons[0])


def test_json_lines_are_the_detectors_verdicts(leakrt, tiny, image_folder):
    folder = image_folder(3)
    done = leakrt("check", tiny, folder, "--json", "--threads", 1)
    detector = Detector.load(tiny)
    for line, path in zip(done.lines, find_images(folder), strict=True):
        assert json.loads(line)["scores"] == pytest.approx(dict(detector.check(path).scores), abs=1e-6)
    assert done.code == 0


def test_several_paths_are_taken_in_their_order(leakrt, tiny, image_folder):
    first, second = image_folder(2, "b"), image_folder(1, "a")
    done = leakrt("check", tiny, first, second / "0000.jpg", "--json")
    found = [json.loads(line)["path"] for line in done.lines]
    assert found == [str(first / "0000.jpg"), str(first / "0001.png"), str(second / "0000.jpg")]


def test_a_name_with_control_characters_stays_on_its_line(leakrt, tiny, image_folder):
    folder = image_folder(1)
    (folder / "0000.jpg").rename(folder / "a\n\x1b[31mb.jpg")
    done = leakrt("check", tiny, folder)
    assert len(done.lines) == 1
    assert "\x1b" not in done.out


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (("none", "{image}"), 1, "no bundle at none; make one with: leakrt export RUN --out none"),
        (("{tiny}", "none.jpg"), 1, "no such file or folder: none.jpg"),
        (("{tiny}", "{image}", "--backend", "x"), 2, "no backend named 'x'"),
        (("{tiny}", "{image}", "--precision", "int8"), 1, "has no int8 variant; it has: fp32"),
        (("{tiny}", "{image}", "--batch", "0"), 2, "invalid batch size 0: expected an integer of at least 1"),
        (("{tiny}", "{image}", "--faces", "none.onnx"), 1, "can't read the face model none.onnx"),
        (("{image}", "{image}"), 1, "is not a bundle: neither a folder nor a complete zip"),
    ],
)
def test_what_can_not_work_is_one_line(leakrt, tiny, image_folder, arguments, code, line):
    image = image_folder(1) / "0000.jpg"
    done = leakrt("check", *(a.format(tiny=tiny, image=image) for a in arguments))
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("leakrt: error: ")
    assert line in done.err
    assert done.err.count("\n") == 1


def flip(bundle: Path) -> None:
    data = bytearray((bundle / "vae_encoder.fp32.onnx").read_bytes())
    data[100] ^= 1
    (bundle / "vae_encoder.fp32.onnx").write_bytes(data)


def newer(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"format_version": 2}))


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (flip, "vae_encoder.fp32.onnx was changed or damaged (SHA-256 differs); copy the bundle again"),
        (newer, "has format 2, this LeakRT reads up to 1; upgrade it: pip install -U leakrt"),
        (lambda b: (b / "golden.npz").unlink(), "golden.npz is missing"),
        (lambda b: (b / "manifest.json").unlink(), "has no manifest.json"),
        (lambda b: (b / "manifest.json").write_text("{"), "manifest.json"),
        (lambda b: (b / "notes.txt").write_text("hello"), "notes.txt is not listed in the manifest"),
    ],
)
@pytest.mark.parametrize("verb", ["check", "inspect"])
def test_a_bundle_that_is_not_whole_or_too_new_is_one_line(leakrt, tiny_copy, image_folder, verb, damage, line):
    damage(tiny_copy)
    done = leakrt(verb, tiny_copy, *([image_folder(1)] if verb == "check" else []))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("leakrt: error: ")
    assert line in done.err
    assert done.err.count("\n") == 1


def odd_images(folder: Path) -> None:
    """One of each kind of file that people have and that is no plain 8-bit RGB picture."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (48, 61, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    folder.mkdir()
    Image.fromarray(rng.integers(0, 65536, (48, 61), dtype=np.uint16)).save(folder / "16bit.png")
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    rgb.convert("P").save(folder / "palette.png")
    rgb.convert("P").save(folder / "palette_alpha.gif", transparency=3)
    rgb.convert("RGBA").save(folder / "alpha.png")
    rgb.convert("LA").save(folder / "grey_alpha.png")
    rgb.convert("1").save(folder / "one_bit.tif")
    rgb.save(folder / "rotated.jpg", exif=exif)
    rgb.save(folder / "animated.gif", save_all=True, append_images=[rgb.rotate(90), rgb.rotate(180)])


def test_every_kind_of_pixel_gets_a_verdict_and_several_frames_are_noted(leakrt, tiny, tmp_path):
    odd_images(tmp_path / "odd")
    done = leakrt("check", tiny, tmp_path / "odd", "--json")
    found = {Path(v["path"]).name: v for v in map(json.loads, done.lines)}
    assert done.code == 0
    assert len(found) == 9
    assert all(v["verdict"] and v["error"] is None for v in found.values())
    noted = [name for name, v in found.items() if any("only the first is used" in r for r in v["reasons"])]
    assert noted == ["animated.gif"]


def test_a_rotated_picture_gets_the_verdict_of_the_upright_one(leakrt, tiny, tmp_path):
    odd_images(tmp_path / "odd")
    upright = read_image(tmp_path / "odd" / "rotated.jpg").pixels
    assert upright.shape == (61, 48, 3)
    Image.fromarray(upright[:, :, ::-1]).save(tmp_path / "odd" / "upright.png")
    done = leakrt("check", tiny, tmp_path / "odd" / "rotated.jpg", tmp_path / "odd" / "upright.png", "--json")
    first, second = (json.loads(line)["scores"] for line in done.lines)
    assert first == second


def test_the_pixel_limit_is_an_option(leakrt, tiny, image_folder):
    done = leakrt("check", tiny, image_folder(1), "--max-pixels", 100)
    assert done.code == 1
    assert "megapixels" in done.out


def test_explain_draws_a_picture_and_prints_the_same_verdict(leakrt, tiny, image_folder, tmp_path):
    image = image_folder(1) / "0000.jpg"
    plain = leakrt("check", tiny, image)
    explained = leakrt("check", tiny, image, "--explain", tmp_path / "why.png")
    assert (explained.code, explained.out) == (0, plain.out)
    assert read_image(tmp_path / "why.png").pixels.shape[2] == 3


def test_explain_without_space_is_one_line_and_leaves_no_rest(start_leakrt, tiny, image_folder, tmp_path):
    import resource
    import signal

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    process = start_leakrt("check", tiny, image_folder(1), "--explain", tmp_path / "why", preexec_fn=limit)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "leakrt: error: can't write" in err
    assert "Traceback" not in err
    assert list((tmp_path / "why").iterdir()) == []


def test_with_faces_there_is_a_line_for_each_face(leakrt, tiny, tmp_path, shared):
    model = shared("models/face_detection_yunet_2023mar.onnx")
    portrait = read_image(find_images(shared("leakbench/test/real"))[0]).pixels
    Image.fromarray(np.concatenate([portrait, portrait[:, ::-1]], axis=1)[:, :, ::-1]).save(tmp_path / "two.png")
    Image.new("RGB", (200, 200)).save(tmp_path / "none.png")
    done = leakrt("check", tiny, tmp_path, "--faces", model)
    assert len(done.lines) == 3
    assert done.lines[0].startswith("abstain")
    assert done.lines[0].endswith("no face was found")
    assert " face 0 at " in done.lines[1]
    assert " face 1 at " in done.lines[2]


@pytest.mark.parametrize(
    ("broken_in", "reported"),
    [
        ({"int8": ("vae_encoder", "latent", np.nan)}, "1 caught, 1 retried, 1 rescued"),
        (
            dict.fromkeys(("int8", "fp16"), ("leak_encoder", "scores", np.inf)),
            "1 caught, 1 retried, 0 rescued",
        ),
        ({}, ""),
    ],
    ids=["rescued", "not_rescued", "nothing_caught"],
)
def test_the_summary_states_what_the_finite_check_caught(leakrt, tmp_path, broken_in, reported):
    pytest.importorskip("onnx")
    from guarded import frames, guarded_bundle

    bundle = guarded_bundle(tmp_path / "bundle", broken_in)
    folder = tmp_path / "images"
    folder.mkdir()
    for i, frame in enumerate(frames(3, 1)):
        Image.fromarray(frame).save(folder / f"{i}.png")
    done = leakrt("check", bundle, folder, "--precision", "int8", "--backend", "onnxruntime")
    assert len(done.lines) == 3
    (summary,) = [line for line in done.err.splitlines() if "3 checked" in line]
    assert ("finite check: " + reported in summary) if reported else ("finite check" not in summary)


def test_a_missing_file_among_others_is_an_error_of_its_own(leakrt, tiny, image_folder):
    folder = image_folder(2)
    done = leakrt("check", tiny, folder, folder / "gone.jpg", "--json")
    found = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 1
    assert [one["error"] is None for one in found] == [True, True, False]
    assert "gone.jpg" in found[2]["error"]

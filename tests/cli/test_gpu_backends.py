"""The verbs that judge, on GPUs of host memory: what can't be run there is one line that says what to do."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

pytest.importorskip("onnx", reason="the stand-in for TensorRT needs onnx")
from engine_records import GPU
from host_chain import VERSION

from leakrt.engines.cache.cache import default_cache

ON_GPU = ("--backend", "tensorrt", "--precision", "fp32")
BUILD = "build them with: leakrt build {bundle} --precision fp32"


@pytest.fixture(params=["check", "profile"])
def judge(request, leakrt, tiny, image_folder):
    """Runs the verb on the tiny bundle with some options; gives exit code, stdout and stderr."""
    given = [image_folder(3)] if request.param == "check" else ["--seconds", 0.1, "--batch", 1, "--cold-starts", 0]

    def run(*options: object):
        return leakrt(request.param, tiny, *given, *options)

    return run


def assert_one_line(done, *words: str) -> None:
    assert (done.code, done.out, done.err.strip().count("\n")) == (1, "", 0)
    for word in words:
        assert word in done.err


def test_engines_that_fit_are_run(gpus, tiny, judge):
    gpus.build(tiny, "fp32")
    done = judge(*ON_GPU, "--json")
    assert done.code == 0
    assert {json.loads(line)["backend"] for line in done.lines} == {"tensorrt"}


def test_without_engines_the_command_that_builds_them_is_named(gpus, tiny, judge):
    assert_one_line(judge(*ON_GPU), f"for TensorRT {VERSION} on GPU A", BUILD.format(bundle=tiny))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"device": replace(GPU, name="GPU Z")}, "it was built on GPU Z (8.9, 128 multiprocessors"),
        ({"device": replace(GPU, name="GPU A", driver="999.9")}, "driver 999.9"),
        ({"version": "10.3.0"}, f"it was built with tensorrt 10.3.0, and tensorrt {VERSION} is installed"),
        ({"flavour": "tensorrt-rtx"}, "it was built with tensorrt-rtx"),
    ],
    ids=["GPU", "driver", "version", "flavour"],
)
def test_engines_for_another_machine_are_not_loaded(gpus, tiny, judge, changed, why):
    gpus.build(tiny, "fp32", **changed)
    assert_one_line(judge(*ON_GPU), why, BUILD.format(bundle=tiny))
    assert gpus.trt.deserialized == 0


@pytest.mark.parametrize("keep", [0, 0.5, 1], ids=["empty", "half", "a flipped bit"])
def test_an_engine_that_was_damaged_is_not_loaded(gpus, tiny, judge, keep):
    gpus.build(tiny, "fp32")
    with open(default_cache().engines()[0].path, "rb+") as engine:
        whole = engine.read()
        engine.seek(len(whole) // 3)
        engine.write(bytes([whole[len(whole) // 3] ^ 1]))
        engine.truncate(int(keep * len(whole)))
    assert_one_line(judge(*ON_GPU), "it is truncated" if keep < 1 else "SHA-256 differs", BUILD.format(bundle=tiny))
    assert gpus.trt.deserialized == 0


def test_int8_without_a_variant_is_reported_with_those_there_are(gpus, judge):
    assert_one_line(judge("--backend", "tensorrt", "--precision", "int8"), "has no int8 variant; it has: fp32")


@pytest.mark.parametrize("number", [2, -1])
def test_a_gpu_that_is_not_there_is_reported_with_those_there_are(gpus, judge, number):
    said = f"--device {number}: no such GPU; this machine has 0: GPU A, 1: GPU B"
    assert_one_line(judge(*ON_GPU, "--device", number), said)


def test_memory_that_holds_no_image_is_reported_with_the_requested_amount(gpus, tiny, judge):
    gpus.build(tiny, "fp32")
    gpus.options["limit"] = 30_000
    assert_one_line(judge(*ON_GPU), "out of GPU memory while allocating ", " MiB for ", " a batch of 1 (")


def test_memory_that_holds_the_smaller_batch_is_enough_and_that_is_said(gpus, tiny, leakrt, image_folder, caplog):
    gpus.build(tiny, "fp32", (1, 256))
    gpus.options["limit"] = 5 << 20
    done = leakrt("check", tiny, image_folder(3), *ON_GPU, "--json")
    assert (done.code, len(done.lines)) == (0, 3)
    warning = "batch 256 does not fit into memory, so the largest is 1: out of GPU memory while allocating 0.6 MiB"
    assert warning in caplog.text

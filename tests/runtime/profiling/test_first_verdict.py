"""The program of a cold start prints one JSON object: seconds of each part, or an error."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CODE = "from leakrt.runtime.profiling.first_verdict import run; run()"


def ask(**request):
    body = {"backend": "onnxruntime", "precision": "fp32", "threads": 1, "image": "", "device": 0, **request}
    done = subprocess.run([sys.executable, "-c", CODE, json.dumps(body)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def test_each_part_has_its_seconds(tiny):
    found = ask(bundle=str(tiny))
    assert found.keys() == {"import", "load", "first_check", "reading", "peak"}
    assert min(found["import"], found["load"], found["first_check"]) > 0
    assert found["peak"] is None or found["peak"] > 10 << 20


def test_reading_an_image_is_timed_separately(tiny, image_folder):
    found = ask(bundle=str(tiny), image=str(image_folder(1) / "0000.jpg"))
    assert found["reading"] > 0


@pytest.mark.parametrize(
    ("request_", "words"),
    [({"bundle": "/no/such"}, "no bundle at /no/such"), ({"image": "/no/such.png"}, "/no/such.png"),
     ({"backend": "abacus"}, "no backend named 'abacus'"), ({"precision": "int8"}, "int8")],
)  # fmt: skip
def test_an_error_is_printed_as_json(tiny, request_, words):
    assert words in ask(**{"bundle": str(tiny), **request_})["error"]


def test_only_the_standard_library_is_imported_before_the_clock_starts():
    code = (
        "import sys; import leakrt.runtime.profiling.first_verdict; "
        "print([m for m in ('numpy', 'onnxruntime', 'cv2', 'PIL') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"

"""The tests marked `gpu` are found, and counted by what became of them."""

from __future__ import annotations

import pytest

from leakrt.engines.library.device import find_driver


@pytest.mark.slow
@pytest.mark.skipif(find_driver().library is not None, reason="there is a GPU here")
def test_without_a_gpu_all_are_skipped_and_the_part_says_so(run_script):
    code, found = run_script("gpu_tests")
    assert code == 0
    assert found["skipped"].startswith(f"all {found['tests']} tests were skipped: ")
    assert (found["passed"], found["failures"]) == (0, [])
    assert found["tests"] == len(found["skipped tests"]) > 10


def test_a_test_that_fails_is_a_failure_of_the_part(script, run_in, tmp_path):
    module = script("gpu_tests")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_some.py").write_text(
        "import pytest\n@pytest.mark.gpu\ndef test_wrong():\n    assert 1 == 2\n"
        "@pytest.mark.gpu\ndef test_right():\n    pass\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: needs one\n")
    code, found = run_in(module, ROOT=tmp_path)
    assert (code, found["tests"], found["passed"]) == (1, 2, 1)
    assert found["failures"][0].startswith("tests.test_some.test_wrong: ")

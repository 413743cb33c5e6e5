"""Detectors in forked children raise where they would hang, and never block the child's exit."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from leakrt import Detector
from leakrt.core.errors import BackendError
from leakrt.runtime.forked import Home

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

REFUSED = "in a forked child: its threads exist only in the parent process; load the detector in the child, or start"
SETUP = """
import os, sys
import numpy as np
from leakrt import Detector
from leakrt.core.errors import LeakRTError
frame = np.zeros((60, 60, 3), np.uint8)
detector = Detector.load(sys.argv[1], backend=sys.argv[2], threads=int(sys.argv[3]))
detector.check(frame)
stream = detector.check_stream(iter([frame] * 99), batch=2)
next(stream)
def show(work):
    try:
        work()
        print("done")
    except LeakRTError as error:
        print(error)
child = os.fork()
if child:
    _, status = os.waitpid(child, 0)
    stream.close()
    print("status", status)
    sys.exit()
"""


@pytest.fixture(scope="module")
def bundle(with_weights):
    return with_weights


def forked(bundle, backend: str, threads: int, child: str) -> tuple[list[str], str]:
    """Return the lines that a forked child running `child` prints, and its exit status."""
    command = [sys.executable, "-W", "ignore", "-c", SETUP + child, str(bundle), backend, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    *lines, status = done.stdout.splitlines()
    assert done.stderr == ""
    return lines, status


BACKENDS = [("onnxruntime", "onnxruntime", 2), ("openvino", "openvino", 1), ("openvino", "openvino", 2),
            ("torch", "torch", 1), ("torch", "torch", 2)]  # fmt: skip


@pytest.mark.parametrize(("module", "backend", "threads"), BACKENDS)
def test_a_backend_with_threads_raises_in_a_forked_child_which_then_exits(bundle, module, backend, threads):
    pytest.importorskip(module)
    child = "show(lambda: detector.check(frame)); show(lambda: list(detector.check_stream([frame] * 5)))\n"
    child += "show(lambda: list(stream)); show(detector.close)\ndel stream, detector"
    (check, new, old, closed), status = forked(bundle, backend, threads, child)
    assert check == new
    assert check.startswith(f"can't use the backend {backend} {REFUSED}")
    assert old.startswith(f"can't use the stream {REFUSED}")
    assert (closed, status) == ("done", "status 0")


def test_one_thread_of_onnx_runtime_survives_a_fork(bundle):
    child = "show(lambda: detector.check(frame)); show(lambda: list(detector.check_stream([frame] * 5)))"
    assert forked(bundle, "onnxruntime", 1, child) == (["done", "done"], "status 0")


LOADED = "show(lambda: Detector.load(sys.argv[1], backend=sys.argv[2], threads=2).check(frame))"


def test_a_child_may_reload_onnx_runtime(bundle):
    assert forked(bundle, "onnxruntime", 2, LOADED) == (["done"], "status 0")


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_a_child_can_not_reload_a_backend_whose_threads_it_lacks(bundle, backend):
    pytest.importorskip(backend)
    (line,), status = forked(bundle, backend, 2, LOADED)
    message = f"can't load the {backend} backend in a forked child: its threads exist only in the parent"
    assert line.startswith(message)
    assert status == "status 0"


def test_a_gpu_backend_raises_in_a_forked_child(gpus, tiny):
    gpus.build(tiny, "fp32", (1, 4))
    detector = Detector.load(tiny, backend="tensorrt", threads=1)
    frame = np.zeros((60, 60, 3), np.uint8)
    child = os.fork()
    if child == 0:
        try:
            detector.check(frame)
        except BackendError:
            detector.close()
            detector._guarded.variant.backend.close()
            os._exit(7)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert detector.check(frame).error is None
    detector.close()


SPAWNING = """
import multiprocessing, sys
import numpy as np
from leakrt import Detector
def judge(bundle):
    return Detector.load(bundle, backend="onnxruntime", threads=2).check(np.zeros((60, 60, 3), np.uint8)).scores
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(judge(sys.argv[1]) == pool.apply(judge, (sys.argv[1],)))
"""


def test_a_spawned_child_gives_the_same_scores(tiny, tmp_path):
    (tmp_path / "spawning.py").write_text(SPAWNING)
    command = [sys.executable, str(tmp_path / "spawning.py"), str(tiny)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_home_is_the_process_that_created_it():
    home = Home("the thing")
    assert home.is_here
    home.require()
    home._process += 1
    with pytest.raises(BackendError, match=f"the thing {REFUSED}"):
        home.require()


def test_a_lock_held_by_another_thread_is_unlocked_in_a_forked_child():
    command = """
import os, threading
from leakrt.runtime.forked import ForkLock
lock, held, done = ForkLock(), threading.Event(), threading.Event()
def hold():
    with lock:
        held.set(); done.wait()
threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    with lock:
        os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
done.set()
"""
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", command], capture_output=True, text=True, timeout=30)
    assert ran.stdout == "7\n"


def test_the_face_search_raises_in_a_forked_child(shared):
    command = """
import os, sys
import numpy as np
from leakrt.core.errors import BackendError
from leakrt.runtime.faces import FaceFinder
finder = FaceFinder(sys.argv[1])
frame = np.zeros((64, 64, 3), np.uint8)
finder.find(frame)
child = os.fork()
if child == 0:
    try:
        finder.find(frame)
    except BackendError as error:
        os._exit(7 if "in a forked child" in str(error) else 1)
    os._exit(2)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    model = shared("models/face_detection_yunet_2023mar.onnx")
    arguments = [sys.executable, "-W", "ignore", "-c", command, str(model)]
    assert subprocess.run(arguments, capture_output=True, text=True, timeout=30).stdout == "7\n"

"""GpuRunner: order, threads, back-pressure, memory, errors and shutdown."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from host_chain import averaged

from leakrt.core.errors import BackendError, ModelError
from leakrt.core.outputs import LeakOutputs
from leakrt.runtime.backends.device_memory import OutOfMemoryError
from leakrt.runtime.backends.tensorrt.runner import GpuRunner, RunnerOptions

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
NAMES = tuple(LeakOutputs.__dataclass_fields__)


def scores(results) -> np.ndarray:
    return np.concatenate([averaged(result).scores for result in results])


def gpu_threads() -> list[str]:
    """Return the live threads of runners and streams."""
    return [t.name for t in threading.enumerate() if t.name.startswith(("leakrt-gpu", "host stream"))]


def test_results_are_in_order_for_any_slots_and_batches(chain, frames):
    given = frames(11)
    expected = chain.reference(given).scores
    for slots, batches in ((1, (1,)), (3, (2,)), (2, (1, 4))):
        with chain.runner(slots=slots, batches=batches) as runner:
            assert np.abs(scores(runner.run(given)) - expected).max() <= 1e-5
    assert gpu_threads() == []


def test_the_loader_and_its_bytes_are_released(chain, frames):
    class Bytes:
        pass

    held = Bytes()
    gone = weakref.ref(held)

    def load(_, held=held):
        return chain.engines()

    with GpuRunner(chain.spec, chain.device, load, options=RunnerOptions()) as runner:
        del load, held
        gc.collect()
        assert gone() is None
        assert len(runner.run(frames(1))) == 1


def test_many_threads_get_their_own_results(chain, frames):
    given = frames(6)
    expected = chain.reference(given).scores

    def judge(seed: int) -> bool:
        order = np.random.default_rng(seed).permutation(6)
        found = scores(runner.run([given[i] for i in order]))
        return bool(np.abs(found - expected[order]).max() <= 1e-5)

    with chain.runner(slots=2, batches=(2,)) as runner, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(judge, range(24)))


def test_submit_blocks_a_fast_caller(chain, frames):
    """With one slot and one waiting place, the fourth batch is not accepted before the first has ended."""
    gate = threading.Event()
    with chain.runner(slots=1, waiting=1) as runner:
        device = chain.devices[-1]
        device._streams[max(device._streams)].put(gate.wait)
        taken, futures = threading.Semaphore(0), []

        def submit():
            for _ in range(4):
                futures.append(runner.submit(frames(1)))
                taken.release()

        submitter = threading.Thread(target=submit)
        submitter.start()
        assert taken.acquire(timeout=10)
        assert taken.acquire(timeout=10)
        # One batch is on the slot, one waits. A third may be accepted only if the first had already begun.
        time.sleep(0.2)
        assert submitter.is_alive()
        gate.set()
        submitter.join(30)
        assert not submitter.is_alive()
        assert len([future.result(30) for future in futures]) == 4


def test_out_of_memory_keeps_the_smaller_batch_and_notes_it(chain, frames):
    with chain.runner(batches=(1, 256), slots=2, device={"limit": 5 << 20}) as runner:
        assert runner.ready.batches == (1,)
        assert any(
            "batch 256 does not fit" in note and "out of GPU memory while allocating" in note
            for note in runner.ready.notes
        )
        assert np.abs(scores(runner.run(frames(5))) - chain.reference(frames(5)).scores).max() <= 1e-5
    assert chain.devices[-1].held() == 0


def test_if_one_image_does_not_fit_the_error_names_the_request(chain):
    with pytest.raises(OutOfMemoryError, match=r"MiB for .* of a batch of 1"):
        chain.runner(device={"limit": 30_000})
    assert chain.devices[-1].held() == 0
    assert gpu_threads() == []


def test_only_the_bad_batch_fails(chain, frames):
    with chain.runner(slots=2, device={"limit": 8 << 20}) as runner:
        good = runner.submit(frames(1))
        bad = runner.submit([np.zeros((1500, 1500, 3), np.uint8)])
        after = runner.submit(frames(1))
        with pytest.raises(OutOfMemoryError, match="1500 x 1500"):
            bad.result(30)
        np.testing.assert_array_equal(good.result(30).outputs.scores, after.result(30).outputs.scores)


def test_a_device_that_fails_fails_every_batch_and_still_closes(chain, frames):
    runner = chain.runner(slots=2)
    for stream in list(chain.devices[-1]._streams.values())[1:]:
        stream.put(lambda: 1 / 0)
    for _ in range(3):
        with pytest.raises(BackendError, match="division by zero"):
            runner.submit(frames(1)).result(30)
    runner.close()
    assert chain.devices[-1].held() == 0
    assert gpu_threads() == []


@pytest.mark.parametrize("failing", ["device", "engines"])
def test_a_failed_start_raises_in_the_caller_and_frees_everything(chain, failing):
    def fail(*_):
        raise ModelError("no such thing")

    open_device = fail if failing == "device" else chain.device
    with pytest.raises(ModelError, match="no such thing"):
        GpuRunner(chain.spec, open_device, fail, options=RunnerOptions())
    assert gpu_threads() == []


def test_closing_finishes_pending_batches(chain, frames):
    runner = chain.runner(slots=2, waiting=8)
    futures = [runner.submit(frames(1)) for _ in range(8)]
    runner.close()
    assert all(future.done() for future in futures)
    expected = chain.reference(frames(1)).scores
    assert all(np.abs(averaged(future.result()).scores - expected).max() <= 1e-5 for future in futures)


def test_close_is_idempotent_and_thread_safe(chain):
    runner = chain.runner()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: runner.close(), range(8)))
    runner.close()
    assert gpu_threads() == []


def test_submitting_during_close_returns_a_result_or_raises(chain, frames):
    for _ in range(5):
        runner, ended = chain.runner(slots=1, waiting=1), []

        def submit(runner=runner, ended=ended):
            for _ in range(6):
                try:
                    runner.submit(frames(1)).result(30)
                    ended.append("result")
                except BackendError as error:
                    ended.append("error" if "is closed" in str(error) else str(error))

        threads = [threading.Thread(target=submit) for _ in range(4)]
        for thread in threads:
            thread.start()
        runner.close()
        for thread in threads:
            thread.join(30)
        assert len(ended) == 24
        assert set(ended) <= {"result", "error"}


def test_a_closed_runner_raises(chain, frames):
    runner = chain.runner()
    runner.close()
    with pytest.raises(BackendError, match="the GPU runner is closed"):
        runner.submit(frames(1))


def test_an_unreferenced_runner_closes(chain, frames):
    runner = chain.runner()
    runner.run(frames(2))
    gone = weakref.ref(runner)
    del runner
    gc.collect()
    assert gone() is None
    assert gpu_threads() == []
    assert chain.devices[-1].held() == 0


def test_a_runner_collected_in_its_own_thread_ends_the_thread(chain, frames):
    runner = chain.runner()
    gone, gate = weakref.ref(runner), threading.Event()
    runner.itself = runner  # only the garbage collector frees it

    def collect(_):
        gate.wait(30)
        gc.collect()
        return lambda: None

    gc.disable()
    try:
        done = runner._put(collect)
        del runner
        assert gone() is not None
        gate.set()
        done.result(30)
    finally:
        gc.enable()
    assert gone() is None
    for _ in range(300):
        if gpu_threads() == []:
            break
        time.sleep(0.1)
    assert gpu_threads() == []
    assert chain.devices[-1].held() == 0


@pytest.mark.parametrize("interrupted", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_while_engines_load_leaves_no_thread(chain, monkeypatch, interrupted):
    """Regression: the thread waited for jobs, and the interrupted caller waited for the thread."""
    loading, gate = threading.Event(), threading.Event()

    def load(_):
        loading.set()
        gate.wait(30)
        return chain.engines()

    def result(self, timeout=None):
        loading.wait(30)
        gate.set()
        raise interrupted

    monkeypatch.setattr(Future, "result", result)
    with pytest.raises(interrupted):
        GpuRunner(chain.spec, chain.device, load, options=RunnerOptions())
    assert gpu_threads() == []
    assert chain.devices[-1].held() == 0


def test_a_cancelled_batch_is_not_run(chain, frames):
    gate = threading.Event()
    with chain.runner(slots=1, waiting=4) as runner:
        device = chain.devices[-1]
        device._streams[max(device._streams)].put(gate.wait)
        first, second, third = (runner.submit(frames(1)) for _ in range(3))
        assert second.cancel()
        gate.set()
        np.testing.assert_array_equal(first.result(30).outputs.scores, third.result(30).outputs.scores)
    assert second.cancelled()


@pytest.mark.parametrize("count", [0, 3])
def test_a_batch_of_an_unsupported_size_is_refused(chain, frames, count):
    expected = f"batch of {count} frames: submit between 1 and 2"
    with chain.runner(batches=(1, 2)) as runner, pytest.raises(BackendError, match=expected):
        runner.submit(frames(count))


def test_memory_does_not_grow_with_the_number_of_batches(chain, frames):
    with chain.runner(slots=2) as runner:
        runner.run(frames(4))
        before = chain.devices[-1].held()
        for _ in range(10):
            runner.run(frames(4))
        assert chain.devices[-1].held() == before == runner.ready.held


def test_the_interpreter_exits_with_an_open_runner(tiny):
    script = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from conftest import Chain\n"
        "import numpy as np\n"
        "runner = Chain(sys.argv[1]).runner(slots=2)\n"
        "print(len(runner.run([np.zeros((50, 60, 3), np.uint8)] * 3)), flush=True)\n"
    )
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[3] / "support")]
    run = subprocess.run([sys.executable, "-c", script, str(tiny), *paths], capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout.strip(), run.stderr.strip()) == (0, "3", "")

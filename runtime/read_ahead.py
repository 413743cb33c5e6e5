"""Read ahead from an iterator in a background thread, so that a slow source does not delay results that are ready."""

from __future__ import annotations

import logging
import queue
import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, TypeVar

from .forked import Home

S = TypeVar("S")
T = TypeVar("T")
_GRACE = 0.5  # seconds to wait for a source to return before abandoning its thread

_log = logging.getLogger(__name__)


class ReadAhead(Generic[T]):
    """Applies `work` to each item of a source in a background thread. A context manager; its exit stops the reading.

    Attributes: `ended`, whether all results were taken; `error`, the exception that ended the source.
    """

    def __init__(self, source: Iterator[S], work: Callable[[S], T], capacity: int) -> None:
        """Start the thread. `capacity`: maximum number of results that are not yet taken.

        `work` returns before the next item is requested from the source.
        """
        self.ended = False
        self.error: BaseException | None = None
        self._home = Home("the stream")
        self._results: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
        self._capacity: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(capacity):
            self._capacity.put(None)
        reader = _Reader(source, work, self._capacity, results=self._results)
        # A daemon: a source that never returns must not keep the process alive.
        thread = threading.Thread(target=reader.run, name="leakrt-prepare", daemon=True)
        # Also runs at interpreter shutdown: native code must not return to an interpreter that is gone.
        self._stop = weakref.finalize(self, _stop, reader, thread)
        thread.start()

    def take(self, max_results: int, min_results: int) -> list[T]:
        """Return up to `max_results` ready results. Waits for at least `min_results`, or until the source ends.

        Raises a KeyboardInterrupt, SystemExit or GeneratorExit of the source immediately, and BackendError in a forked
        child.
        """
        self._home.require()
        taken: list[T] = []
        while len(taken) < max_results and not self.ended:
            try:
                found = self._results.get(block=len(taken) < min_results)
            except queue.Empty:
                break
            if isinstance(found, _End):
                self.ended, self.error = True, found.error
            else:
                taken.append(found)
                self._capacity.put(None)
        if self.error is not None and not isinstance(self.error, Exception):
            raise self.error
        return taken

    def close(self) -> None:
        """Stop reading, and close a source that is a generator. Idempotent.

        Waits for the thread, but at most half a second for the source to return. After that, the thread exits when the
        source returns.
        """
        self._stop()

    def __enter__(self) -> ReadAhead[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Reader(Generic[S, T]):
    """The thread's work. Does not reference the ReadAhead, so that garbage collection of that stops the thread."""

    def __init__(
        self,
        source: Iterator[S],
        work: Callable[[S], T],
        capacity: queue.SimpleQueue[None],
        *,
        results: queue.SimpleQueue[T | _End],
    ) -> None:
        self._source, self._work, self._capacity, self._results = source, work, capacity, results
        self.stopped, self.in_source = False, False
        self.done = threading.Event()

    def run(self) -> None:
        try:
            self._read()
        except Exception as error:
            self._results.put(_End(error))
        except BaseException as error:  # raised before the results that are still in the queue
            while not self._results.empty():
                self._results.get()
            self._results.put(_End(error))
        finally:
            self.done.set()

    def stop(self) -> None:
        """Stop reading. Thread-safe."""
        self.stopped = True
        self._capacity.put(None)

    def _read(self) -> None:
        while True:
            self._capacity.get()
            if self.stopped:
                break
            self.in_source = True
            try:
                item = next(self._source)
            except StopIteration:
                self._results.put(_End(None))
                return
            if self.stopped:
                break
            self.in_source = False
            self._results.put(self._work(item))
            del item
        self.in_source = True
        self._close_source()

    def _close_source(self) -> None:
        if isinstance(self._source, Generator):
            try:
                self._source.close()
            except Exception as error:
                _log.warning("the stream's source raised %s while closing: %s; ignored", type(error).__name__, error)


def _stop(reader: _Reader[Any, Any], thread: threading.Thread) -> None:
    reader.stop()
    if threading.current_thread() is thread:  # the garbage collector ran in this thread, which can't join itself
        return
    while thread.is_alive() and not reader.done.wait(_GRACE):
        if reader.in_source:
            return
    thread.join()  # returns almost at once: `done` is set

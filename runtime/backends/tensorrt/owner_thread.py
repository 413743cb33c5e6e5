"""The thread that owns a device."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ...forked import Home


class OwnerThread:
    """A daemon thread that starts when it is created; it does not keep the process alive.

    `wait` waits for an event. Up to Python 3.12, a join that Ctrl-C interrupts marks a running thread as ended
    (bpo-45274), and the interpreter would then shut down while the thread still runs native libraries.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work, self._done = work, threading.Event()
        self._home = Home("the thread of a GPU")
        self._thread = threading.Thread(target=self._run, name="leakrt-gpu", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether its work has ended."""
        return self._done.is_set()

    def wait(self) -> bool:
        """Wait until the work has ended and return True.

        Returns False without waiting in the thread itself, where the garbage collector may run finalizers, and in a
        forked child, which does not have the thread.
        """
        if threading.current_thread() is self._thread or not self._home.is_here:
            return False
        self._done.wait()
        self._thread.join()  # returns at once: `_run` ends after it sets the event
        return True

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._done.set()

"""The thread that owns a device, and how its end is waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ...forked import Home


class OwnerThread:
    """Started when it is made. A daemon: where nobody waits for it the process can end all the same.

    It is waited for by an event. Up to Python 3.12 a join that Ctrl-C interrupts takes a running thread for an ended
    one (bpo-45274), and Python's own end would then take the interpreter from under the libraries that it runs.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work, self._done = work, threading.Event()
        self._home = Home("the thread of a GPU")
        self._thread = threading.Thread(target=self._run, name="leakrt-gpu", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether its work is over."""
        return self._done.is_set()

    def wait(self) -> bool:
        """Until its work is over. False, and no waiting, in the thread itself, where garbage may be collected that
        wants its end, and in a forked child, which has no such thread."""
        if threading.current_thread() is self._thread or not self._home.is_here:
            return False
        self._done.wait()
        self._thread.join()  # a moment
        return True

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._done.set()

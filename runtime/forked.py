"""What a fork leaves behind: the libraries' threads and the GPU's context stay in the process that made them."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref

from ..core.errors import BackendError

_loaded: weakref.WeakValueDictionary[int, object] = weakref.WeakValueDictionary()


class Home:
    """The process that loaded something."""

    def __init__(self, what: str) -> None:
        """`what` begins the error's message, such as "the torch backend"."""
        self._what, self._process = what, os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether this is that process; False in its forked children."""
        return os.getpid() == self._process

    def require(self) -> None:
        """Raises BackendError in a forked child, where a call would wait for threads that are not there."""
        if not self.is_here:
            raise BackendError(
                f"{self._what} was loaded in another process, whose threads a fork does not copy; load the detector in "
                "the child, or start children with the method spawn"
            )


class FirstUse:
    """The process that first used a library whose threads bind it to that process."""

    def __init__(self, backend: str) -> None:
        """`backend`: the name of the backend that uses the library, for the error's message."""
        self._backend, self._process = backend, 0

    def claim(self) -> bool:
        """Whether this is that process; the first call makes it that."""
        self._process = self._process or os.getpid()
        return self._process == os.getpid()

    def require(self) -> None:
        """Raises BackendError in a child forked from that process."""
        if not self.claim():
            raise BackendError(
                f"the {self._backend} backend can't be loaded here: the parent process used it, and its threads are "
                "not copied by a fork; start children with the method spawn, or load the detector in them only"
            )


class ForkLock:
    """A lock that is free in a forked child, whatever another thread of the parent held: that thread is not there."""

    def __init__(self) -> None:
        self._lock, self._process = threading.Lock(), os.getpid()

    def __enter__(self) -> None:
        if os.getpid() != self._process:
            self._lock, self._process = threading.Lock(), os.getpid()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def keep_in_children(library: object) -> None:
    """Never free `library` in a forked child: its destructor would wait for threads that are not there, or crash."""
    _loaded[id(library)] = library


def _keep_all() -> None:
    for library in list(_loaded.values()):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(library))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_all)

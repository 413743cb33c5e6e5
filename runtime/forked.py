"""Fork safety: libraries' threads and GPU contexts exist only in the process that created them."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref

from ..core.errors import BackendError

_loaded: weakref.WeakValueDictionary[int, object] = weakref.WeakValueDictionary()


class Home:
    """The process that loaded an object."""

    def __init__(self, what: str) -> None:
        """`what` names the object in the error message, such as "the torch backend"."""
        self._what, self._process = what, os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether the current process is the one that loaded it; False in forked children."""
        return os.getpid() == self._process

    def require(self) -> None:
        """Raise BackendError in a forked child, where a call would wait for threads that do not exist."""
        if not self.is_here:
            raise BackendError(
                f"can't use {self._what} in a forked child: its threads exist only in the parent process; load the "
                "detector in the child, or start children with the spawn method"
            )


class FirstUse:
    """The first process that used a library which can't be used in a forked child afterwards."""

    def __init__(self, backend: str) -> None:
        """`backend` names the library's backend in the error message."""
        self._backend, self._process = backend, 0

    def claim(self) -> bool:
        """Return whether the current process is the first user; the first call registers it."""
        self._process = self._process or os.getpid()
        return self._process == os.getpid()

    def require(self) -> None:
        """Raise BackendError in a child forked from the first user."""
        if not self.claim():
            raise BackendError(
                f"can't load the {self._backend} backend in a forked child: its threads exist only in the "
                "parent process, which used it; start children with the spawn method, or load the detector only there"
            )


class ForkLock:
    """A lock that is unlocked in a forked child: the parent's thread that holds it does not exist there."""

    def __init__(self) -> None:
        self._lock, self._process = threading.Lock(), os.getpid()

    def __enter__(self) -> None:
        if os.getpid() != self._process:
            self._lock, self._process = threading.Lock(), os.getpid()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def keep_in_children(library: object) -> None:
    """Never free `library` in a forked child: its destructor would wait for threads that do not exist, or crash."""
    _loaded[id(library)] = library


def _keep_all() -> None:
    for library in list(_loaded.values()):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(library))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_all)

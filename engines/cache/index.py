"""The index of the engine cache. Engines are machine code, so only those with a SHA-256 in the index are loaded."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType

from ...core.errors import EngineError
from ...core.files import atomic_write_owned, read_bounded, storage_error
from ...core.locks import FileLock, held, take
from ...core.progress import Progress, silent
from .key import ENGINE_FILE, read_fields

INDEX = "index.json"
_FORMAT = 1
_LIMIT = 16 << 20
DIGEST = re.compile("[0-9a-f]{32}")
_SHA256 = re.compile("[0-9a-f]{64}")
_EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The index entry of an engine."""

    file: str
    size: int  # bytes
    sha256: str  # of the engine
    record: str  # SHA-256 of its JSON file


@dataclass(frozen=True)
class Index:
    """Maps key digests to engines, and file names of timing caches to their SHA-256."""

    engines: Mapping[str, Entry] = field(default_factory=dict)
    timing: Mapping[str, str] = field(default_factory=dict)


def read_index(root: Path) -> Index:
    """Return the index of a cache folder, empty if there is none.

    Raises EngineError if the index is unreadable or damaged, or if another user could have written it.
    """
    path = root / INDEX
    _check_owner(root)
    try:
        raw = read_bounded(path, _LIMIT)
    except FileNotFoundError:
        return Index()
    except OSError as error:
        advice = "run: leakrt engines prune" if error.errno in (errno.EFBIG, errno.EINVAL) else "check its permissions"
        raise EngineError(f"{path} can't be read ({error.strerror}); {advice}") from error
    _check_owner(path)
    try:
        data = json.loads(raw)
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise EngineError("unknown format")
        engines = {key: _entry(key, value) for key, value in data["engines"].items()}
        timing = {str(name): str(digest) for name, digest in data["timing"].items() if _SHA256.fullmatch(str(digest))}
    except (ValueError, KeyError, AttributeError, RecursionError, EngineError) as error:
        raise EngineError(f"{path} is damaged ({error}); run: leakrt engines prune") from error
    return Index(engines, timing)


def write_index(root: Path, index: Index) -> None:
    """Replace the index atomically. The caller holds `index_lock`. Raises StorageError."""
    engines = {key: asdict(entry) for key, entry in sorted(index.engines.items())}
    body = {"format": _FORMAT, "engines": engines, "timing": dict(sorted(index.timing.items()))}
    atomic_write_owned(root / INDEX, json.dumps(body, indent=1).encode())


def make_folder(root: Path, *, name: str = "") -> Path:
    """Create the cache folder, or one inside it, with mode 0700 regardless of the umask. Raises StorageError."""
    folder = root / name
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        for path in (root, folder):  # one by one: `parents=True` would apply the umask to the outer one
            path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error
    return folder


@contextmanager
def index_lock(root: Path) -> Iterator[None]:
    """Hold the lock of the index during a change, and remove the partial files of interrupted writers first."""
    make_folder(root)
    with held(root / "index.lock", silent, ""):
        for part in root.glob(f".{INDEX}.*.part"):
            part.unlink(missing_ok=True)
        yield


@contextmanager
def engine_lock(root: Path, digest: str, progress: Progress, *, waiting: str) -> Iterator[None]:
    """Hold the lock of an engine while it is built or removed. The system releases it if the process dies.

    `waiting` is the progress caption while another process holds it. Raises StorageError.
    """
    folder = make_folder(root, name="locks")
    with held(folder / f"{digest}.lock", progress, waiting):
        yield


@contextmanager
def engine_locks(root: Path, names: Mapping[str, str], progress: Progress) -> Iterator[None]:
    """Hold the locks of several engines that are only used together, so that none is pruned before all are stored.

    `names` maps digests to names. The locks are acquired in sorted order, so that two processes can't deadlock.
    """
    with ExitStack() as stack:
        for digest, name in sorted(names.items()):
            waiting = f"wait for another process that builds {name}"
            stack.enter_context(engine_lock(root, digest, progress, waiting=waiting))
        yield


def try_engine_lock(root: Path, digest: str) -> FileLock | None:
    """Acquire the lock of an engine, or return None if it is taken. The caller releases it. Raises StorageError."""
    return take(make_folder(root, name="locks") / f"{digest}.lock")


def _entry(digest: str, value: object) -> Entry:
    entry = Entry(**read_fields(Entry, value, "index"))
    hashes = all(_SHA256.fullmatch(h) for h in (entry.sha256, entry.record))
    if not DIGEST.fullmatch(digest) or not hashes or not ENGINE_FILE.fullmatch(entry.file):
        raise EngineError(f"invalid entry {digest[:40]!r}")
    return entry


def _check_owner(path: Path) -> None:
    """Raise EngineError if another user owns or can write `path`: its content decides which machine code runs."""
    if not path.exists():
        return
    status = path.stat()
    if status.st_uid not in (os.getuid(), 0) or status.st_mode & 0o022:
        raise EngineError(f"{path} is not trusted: other users can write it; run: chmod -R go-w {path}")

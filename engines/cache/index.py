"""The cache's own list of what it holds: engines are machine code, and only one whose hash stands here is loaded."""

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
    """One engine of the cache."""

    file: str
    size: int  # bytes
    sha256: str  # of the engine
    record: str  # SHA-256 of the JSON beside it


@dataclass(frozen=True)
class Index:
    """Key digest to engine, and file name to SHA-256 of the timing caches."""

    engines: Mapping[str, Entry] = field(default_factory=dict)
    timing: Mapping[str, str] = field(default_factory=dict)


def read_index(root: Path) -> Index:
    """The index of a cache folder; empty where there is none. Raises EngineError when it is damaged, or when somebody
    else could have written it."""
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
            raise EngineError("another format")
        engines = {key: _entry(key, value) for key, value in data["engines"].items()}
        timing = {str(name): str(digest) for name, digest in data["timing"].items() if _SHA256.fullmatch(str(digest))}
    except (ValueError, KeyError, AttributeError, RecursionError, EngineError) as error:
        raise EngineError(f"{path} is damaged ({error}); run: leakrt engines prune") from error
    return Index(engines, timing)


def write_index(root: Path, index: Index) -> None:
    """Replace the index in one step. The caller holds `index_lock`. Raises StorageError."""
    engines = {key: asdict(entry) for key, entry in sorted(index.engines.items())}
    body = {"format": _FORMAT, "engines": engines, "timing": dict(sorted(index.timing.items()))}
    atomic_write_owned(root / INDEX, json.dumps(body, indent=1).encode())


def make_folder(root: Path, *, name: str = "") -> Path:
    """Make the cache folder, or one inside it, for its owner alone whatever the umask. Raises StorageError."""
    folder = root / name
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        for path in (root, folder):  # one by one: `parents` would make the outer one with the umask's rights
            path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error
    return folder


@contextmanager
def index_lock(root: Path) -> Iterator[None]:
    """Hold the index alone, for the moment a change takes; leftovers of a writer that was killed go first."""
    make_folder(root)
    with held(root / "index.lock", silent, ""):
        for part in root.glob(f".{INDEX}.*.part"):
            part.unlink(missing_ok=True)
        yield


@contextmanager
def engine_lock(root: Path, digest: str, progress: Progress, *, waiting: str) -> Iterator[None]:
    """Hold one engine's folder alone while it is built or removed. The system drops the lock of a killed process."""
    folder = make_folder(root, name="locks")
    with held(folder / f"{digest}.lock", progress, waiting):
        yield


@contextmanager
def engine_locks(root: Path, names: Mapping[str, str], progress: Progress) -> Iterator[None]:
    """Hold several engines, digest to name, that are of no use apart, until all are there: who prunes or evicts
    meanwhile takes none. They are locked in one order, so two who want the same ones don't wait for one another."""
    with ExitStack() as stack:
        for digest, name in sorted(names.items()):
            waiting = f"wait for another process that builds {name}"
            stack.enter_context(engine_lock(root, digest, progress, waiting=waiting))
        yield


def try_engine_lock(root: Path, digest: str) -> FileLock | None:
    """The lock, held, or None while another process builds that engine. The caller releases it. Raises StorageError."""
    return take(make_folder(root, name="locks") / f"{digest}.lock")


def _entry(digest: str, value: object) -> Entry:
    entry = Entry(**read_fields(Entry, value, "index"))
    hashes = all(_SHA256.fullmatch(h) for h in (entry.sha256, entry.record))
    if not DIGEST.fullmatch(digest) or not hashes or not ENGINE_FILE.fullmatch(entry.file):
        raise EngineError(f"entry {digest[:40]!r} is not one of ours")
    return entry


def _check_owner(path: Path) -> None:
    """Refuse what another user owns or may write: whoever writes the index decides which machine code runs."""
    if not path.exists():
        return
    status = path.stat()
    if status.st_uid not in (os.getuid(), 0) or status.st_mode & 0o022:
        raise EngineError(f"{path} can be written by others; make it your own: chmod -R go-w {path}")

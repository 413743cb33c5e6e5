"""The engine cache: a folder of engines that are verified before use, with least-recently-used eviction.

    engines/index.json                     SHA-256 of every file that may be loaded
    engines/DIGEST/GRAPH.PRECISION.engine  the serialized engine
    engines/DIGEST/GRAPH.PRECISION.json    its EngineRecord; the modification time is the last use
    engines/timing/NAME                    timing caches, one per library version and device
    engines/locks/                         lock files of engines that are being built or removed

The engine is written first, then its JSON, then the index. Files left by an interrupted build are not in the index, so
they are never loaded, and the next build of that engine replaces them.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ...core.errors import EngineError, StorageError, UsageError
from ...core.files import atomic_write, cache_folder, read_bounded, sha256_bytes
from .index import DIGEST, Entry, Index, index_lock, make_folder, read_index, try_engine_lock, write_index
from .key import EngineKey, EngineQuery, misfit
from .record import ENGINE_LIMIT, RECORD_LIMIT, EngineRecord

DEFAULT_LIMIT = 8 << 30  # bytes
LIMIT_VARIABLE = "LEAKRT_ENGINE_CACHE_GIB"
_TIMING_LIMIT = 256 << 20
_ABANDONED_AFTER = 3600.0  # seconds after which a partly written timing cache counts as abandoned


@dataclass(frozen=True, kw_only=True)
class CachedEngine:
    """An engine listed in the index. `record` is None if its JSON is unreadable."""

    digest: str
    path: Path  # of the engine
    size: int  # bytes, according to the index
    used: float  # time of the last use, seconds since the epoch
    record: EngineRecord | None
    problem: str  # why the engine can't be used; empty if it can


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """The result of `EngineCache.prune`."""

    engines: int  # number of engines removed
    leftovers: int  # number of folders and files removed that no index entry names
    freed: int  # bytes
    busy: int  # number of folders skipped because another process has locked them


class EngineCache:
    """A cache of engines in one folder. Reads need no lock and write only the time of use."""

    def __init__(self, root: Path, limit: int) -> None:
        """Open the cache below `root`, which keeps at most `limit` bytes of engines. See `default_cache`."""
        self.root = root
        self.limit = limit

    def engines(self) -> list[CachedEngine]:
        """Return the engines in the index, most recently used first. Raises EngineError if the index is unusable."""
        listed = [self._look(digest, entry) for digest, entry in read_index(self.root).engines.items()]
        return sorted(listed, key=lambda engine: -engine.used)

    def find(self, wanted: EngineQuery) -> tuple[EngineRecord | None, tuple[str, ...]]:
        """Return the newest engine that matches, and why the other engines of the same graph don't.

        The record is None if none matches. Raises EngineError if the index is unusable.
        """
        fitting, reasons = [], []
        for engine in self.engines():
            record = engine.record
            if record is None or (record.key.graph, record.key.source) != (wanted.graph, wanted.source):
                continue
            reason = engine.problem or misfit(record.key, wanted)
            if reason:
                reasons.append(f"{engine.digest[:8]}: {reason}")
            else:
                fitting.append(record)
        return max(fitting, key=lambda record: record.created, default=None), tuple(reasons)

    def get(self, key: EngineKey) -> EngineRecord | None:
        """Return the record with this key, or None. Raises EngineError if the engine is listed but damaged."""
        digest = key.digest
        entry = read_index(self.root).engines.get(digest)
        if entry is None:
            return None
        engine = self._look(digest, entry)
        if engine.record is None or engine.problem:
            raise EngineError(f"{engine.path}: {engine.problem}")
        return engine.record

    def read(self, record: EngineRecord) -> bytes:
        """Return the verified bytes of an engine and update its time of use. Raises EngineError (missing, changed)."""
        digest = record.key.digest
        entry = read_index(self.root).engines.get(digest)
        path = self.path(record)
        if entry is None or entry.sha256 != record.sha256:
            raise EngineError(f"{path} was not loaded: it is not in the index of the cache; build the engine again")
        data = _read(path, ENGINE_LIMIT)
        record.check(data)
        with suppress(OSError):  # a read-only cache can't record the time
            os.utime(path.with_name(record.json_file))
        return data

    def path(self, record: EngineRecord) -> Path:
        """Return the path of an engine."""
        return self.root / record.key.digest / record.file

    def store(self, record: EngineRecord, data: bytes, *, together: Collection[str] = ()) -> tuple[str, ...]:
        """Add or replace an engine, then evict the least recently used ones over the limit.

        Never evicts this engine or those with the digests `together`, which are only used with it. The caller holds the
        `engine_lock`. Returns a description of each evicted engine. Raises StorageError, EngineError.
        """
        record.check(data)
        self.discard(record.key.digest)
        folder = make_folder(self.root, name=record.key.digest)
        described = record.to_bytes()
        try:
            atomic_write(folder / record.file, data)
            atomic_write(folder / record.json_file, described)
        except StorageError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        entry = Entry(file=record.file, size=len(data), sha256=record.sha256, record=sha256_bytes(described))
        self._change(lambda index: replace(index, engines={**index.engines, record.key.digest: entry}))
        return self._evict(keep={record.key.digest, *together}, limit=self.limit, busy=set())

    def discard(self, digest: str) -> None:
        """Remove an engine from the index and delete its folder, even a damaged one. The caller holds its lock."""
        folder = self.root / digest
        if digest in _engines_of(self.root):
            self._change(lambda index: replace(index, engines={k: v for k, v in index.engines.items() if k != digest}))
        if folder.is_symlink() or folder.is_file():
            folder.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    def prune(self, limit: int) -> Pruned:
        """Remove damaged engines, files without an index entry, and the least recently used engines over `limit` bytes.

        A damaged index is replaced by an empty one, since none of its hashes can be trusted. Raises StorageError.
        """
        with index_lock(self.root):
            try:
                index = read_index(self.root)
            except EngineError:
                index = Index()
                write_index(self.root, index)
        before = _folder_size(self.root)
        busy: set[str] = set()
        broken = [self._remove(engine.digest, self._is_broken, busy) for engine in self.verify() if engine.problem]
        evicted = self._evict(keep=(), limit=limit, busy=busy)
        leftovers = self._remove_leftovers(busy)
        freed = max(before - _folder_size(self.root), 0)
        return Pruned(engines=sum(broken) + len(evicted), leftovers=leftovers, freed=freed, busy=len(busy))

    def verify(self) -> list[CachedEngine]:
        """Return `engines()` after checking the SHA-256 of every engine."""
        return [self._verify(engine) for engine in self.engines()]

    def timing(self, name: str) -> bytes:
        """Return a timing cache, or empty bytes if it is missing, changed or not in the index."""
        digest = read_index(self.root).timing.get(name)
        if digest is None:
            return b""
        try:
            data = _read(self.root / "timing" / name, _TIMING_LIMIT)
        except EngineError:
            return b""
        return data if sha256_bytes(data) == digest else b""

    def store_timing(self, name: str, data: bytes) -> None:
        """Store a timing cache. The last of several concurrent builds wins. Raises StorageError."""
        atomic_write(make_folder(self.root, name="timing") / name, data)
        self._change(lambda index: replace(index, timing={**index.timing, name: sha256_bytes(data)}))

    def _change(self, change: Callable[[Index], Index]) -> None:
        with index_lock(self.root):
            write_index(self.root, change(read_index(self.root)))

    def _look(self, digest: str, entry: Entry) -> CachedEngine:
        """Return an engine without hashing its bytes: checks only its JSON and its size."""
        path = self.root / digest / entry.file
        described = path.with_suffix(".json")
        record, problem, used = None, "", 0.0
        try:
            raw = _read(described, RECORD_LIMIT)
            used = described.stat().st_mtime
            if sha256_bytes(raw) != entry.record:
                raise EngineError("its JSON file was changed (SHA-256 differs)")
            record = EngineRecord.from_bytes(raw, described.name)
            if record.key.digest != digest or record.sha256 != entry.sha256:
                raise EngineError("its JSON file belongs to another engine")
            if path.stat().st_size != entry.size:
                raise EngineError("it is truncated or changed (its size differs)")
        except (EngineError, OSError) as error:
            problem = str(error) if isinstance(error, EngineError) else "a file is missing"
        return CachedEngine(digest=digest, path=path, size=entry.size, used=used, record=record, problem=problem)

    def _is_broken(self, engine: CachedEngine | None) -> bool:
        return engine is not None and self._verify(engine).problem != ""

    def _verify(self, engine: CachedEngine) -> CachedEngine:
        if engine.problem or engine.record is None:
            return engine
        try:
            engine.record.check(_read(engine.path, ENGINE_LIMIT))
        except EngineError as error:
            return replace(engine, problem=str(error))
        return engine

    def _evict(self, keep: Collection[str], limit: int, busy: set[str]) -> tuple[str, ...]:
        """Remove the least recently used engines over `limit` bytes and return a description of each."""
        engines = self.engines()
        total = sum(engine.size for engine in engines)
        gone = []
        for engine in reversed(engines):
            if total <= limit:
                break
            # removed only if it was neither rebuilt nor used since it was listed
            if engine.digest not in keep and self._remove(engine.digest, engine.__eq__, busy):
                total -= engine.size
                gone.append(f"{engine.path.name} ({engine.digest[:8]})")
        return tuple(gone)

    def _remove(self, digest: str, due: Callable[[CachedEngine | None], bool], busy: set[str]) -> bool:
        """Remove an engine if `due` still holds while its lock is held, and return whether it was removed.

        Another process may have built it since it was listed. If its lock is taken, the digest is added to `busy`.
        """
        lock = try_engine_lock(self.root, digest)
        if lock is None:
            busy.add(digest)
            return False
        try:
            entry = read_index(self.root).engines.get(digest)
            found = due(None if entry is None else self._look(digest, entry))
            if found:
                self.discard(digest)
        finally:
            lock.release()
        return found

    def _remove_leftovers(self, busy: set[str]) -> int:
        """Remove folders without an index entry and abandoned partial files; return their number."""
        gone = 0
        for folder in self.root.iterdir():
            ours = folder.is_dir() or DIGEST.fullmatch(folder.name) is not None  # covers dangling links
            if ours and folder.name not in {*_engines_of(self.root), "locks", "timing"}:
                gone += self._remove(folder.name, lambda now: now is None, busy)
        for part in (self.root / "timing").glob(".*.part"):
            with suppress(FileNotFoundError):  # its writer has just renamed it
                if time.time() - part.stat().st_mtime > _ABANDONED_AFTER:
                    part.unlink()
                    gone += 1
        return gone


def default_cache() -> EngineCache:
    """Return the cache below $XDG_CACHE_HOME/leakrt, of at most $LEAKRT_ENGINE_CACHE_GIB (8) GiB. Raises UsageError."""
    text = os.environ.get(LIMIT_VARIABLE, "")
    try:
        limit = int(float(text) * 2**30) if text else DEFAULT_LIMIT
    except (ValueError, OverflowError) as error:
        raise UsageError(f"${LIMIT_VARIABLE}={text!r} is not a number; give a size in GiB") from error
    if limit < 0:
        raise UsageError(f"${LIMIT_VARIABLE}={text!r} is negative; give a size in GiB")
    return EngineCache(cache_folder() / "engines", limit)


def _engines_of(root: Path) -> set[str]:
    return set(read_index(root).engines)


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_bounded(path, limit)
    except OSError as error:
        raise EngineError(f"{path.name} can't be read ({error.strerror})") from error


def _folder_size(root: Path) -> int:
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            with suppress(FileNotFoundError):  # other processes write and remove files concurrently
                total += os.lstat(Path(folder, name)).st_size
    return total

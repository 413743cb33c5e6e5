"""The engine cache: a folder of engines that are built once, verified before use, and evicted least recently used.

    engines/index.json                     what may be loaded, by hash
    engines/DIGEST/GRAPH.PRECISION.engine  the engine, as TensorRT wrote it
    engines/DIGEST/GRAPH.PRECISION.json    its EngineRecord; its modification time is the last use
    engines/timing/NAME                    timing caches, one a library and device
    engines/locks/                         one empty file for each engine that is built or removed right now

An engine is written, then its JSON, then the index: whatever a kill leaves behind is not in the index, so it is never
loaded, and the next build of that engine replaces it.
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
_ABANDONED = 3600.0  # seconds after which a half-written timing cache has no writer any more


@dataclass(frozen=True, kw_only=True)
class CachedEngine:
    """One engine that the index lists. `problem` says why it can't be used; the record is None if it can't be read."""

    digest: str
    path: Path  # of the engine
    size: int  # bytes, as the index has it
    used: float  # time of the last use, seconds since the epoch
    record: EngineRecord | None
    problem: str


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What `prune` took away."""

    engines: int
    leftovers: int  # folders and files that no index entry names
    freed: int  # bytes
    busy: int  # left alone: another process builds them


class EngineCache:
    """The engines below one folder. Reading needs no lock and writes nothing but times of use."""

    def __init__(self, root: Path, limit: int) -> None:
        """`limit`: bytes of engines to keep; the least recently used go first. See `default_cache`."""
        self.root = root
        self.limit = limit

    def engines(self) -> list[CachedEngine]:
        """Everything the index lists, last used first. Raises EngineError (the index)."""
        listed = [self._look(digest, entry) for digest, entry in read_index(self.root).engines.items()]
        return sorted(listed, key=lambda engine: -engine.used)

    def find(self, wanted: EngineQuery) -> tuple[EngineRecord | None, tuple[str, ...]]:
        """The newest engine that is what a runtime wants, or None with the reasons why the others of its graph are not.

        Raises EngineError (the index).
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
        """The record of exactly this key, or None. Raises EngineError when it is there and broken."""
        digest = key.digest
        entry = read_index(self.root).engines.get(digest)
        if entry is None:
            return None
        engine = self._look(digest, entry)
        if engine.record is None or engine.problem:
            raise EngineError(f"{engine.path}: {engine.problem}")
        return engine.record

    def read(self, record: EngineRecord) -> bytes:
        """The verified bytes of an engine; its time of use becomes now. Raises EngineError (missing, changed)."""
        digest = record.key.digest
        entry = read_index(self.root).engines.get(digest)
        path = self.path(record)
        if entry is None or entry.sha256 != record.sha256:
            raise EngineError(f"{path} is not in the cache's index, so it is not loaded")
        data = _read(path, ENGINE_LIMIT)
        record.check(data)
        with suppress(OSError):  # a cache that can only be read keeps no times
            os.utime(path.with_name(record.json_file))
        return data

    def path(self, record: EngineRecord) -> Path:
        """Where an engine lies."""
        return self.root / record.key.digest / record.file

    def store(self, record: EngineRecord, data: bytes, *, together: Collection[str] = ()) -> tuple[str, ...]:
        """Add or replace an engine, then evict what is over the limit, but for this one and those with the digests
        `together`, which are of no use apart. The caller holds its `engine_lock`.

        Returns what was evicted, for people. Raises StorageError, EngineError.
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
        """Forget an engine and remove its folder, whatever state it is in. The caller holds its lock."""
        folder = self.root / digest
        if digest in _engines_of(self.root):
            self._change(lambda index: replace(index, engines={k: v for k, v in index.engines.items() if k != digest}))
        if folder.is_symlink() or folder.is_file():
            folder.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    def prune(self, limit: int) -> Pruned:
        """Remove what is broken, what no entry names, and the least recently used over `limit` bytes.

        An index that is damaged is begun anew: nothing it named can be trusted. Raises StorageError.
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
        """Like `engines`, with every byte hashed."""
        return [self._verify(engine) for engine in self.engines()]

    def timing(self, name: str) -> bytes:
        """A timing cache as it was stored, or empty: missing, changed and foreign ones are not given to the library."""
        digest = read_index(self.root).timing.get(name)
        if digest is None:
            return b""
        try:
            data = _read(self.root / "timing" / name, _TIMING_LIMIT)
        except EngineError:
            return b""
        return data if sha256_bytes(data) == digest else b""

    def store_timing(self, name: str, data: bytes) -> None:
        """Keep a timing cache. Of two builds at once the later one's stays. Raises StorageError."""
        atomic_write(make_folder(self.root, name="timing") / name, data)
        self._change(lambda index: replace(index, timing={**index.timing, name: sha256_bytes(data)}))

    def _change(self, change: Callable[[Index], Index]) -> None:
        with index_lock(self.root):
            write_index(self.root, change(read_index(self.root)))

    def _look(self, digest: str, entry: Entry) -> CachedEngine:
        """Everything that is known without hashing the engine itself."""
        path = self.root / digest / entry.file
        described = path.with_suffix(".json")
        record, problem, used = None, "", 0.0
        try:
            raw = _read(described, RECORD_LIMIT)
            used = described.stat().st_mtime
            if sha256_bytes(raw) != entry.record:
                raise EngineError("its JSON was changed (SHA-256 differs)")
            record = EngineRecord.from_bytes(raw, described.name)
            if record.key.digest != digest or record.sha256 != entry.sha256:
                raise EngineError("its JSON belongs to another engine")
            if path.stat().st_size != entry.size:
                raise EngineError("it was cut short or changed (its size differs)")
        except (EngineError, OSError) as error:
            problem = str(error) if isinstance(error, EngineError) else "a file of it is missing"
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
        """Remove the least recently used over `limit` bytes; what went, for people."""
        engines = self.engines()
        total = sum(engine.size for engine in engines)
        gone = []
        for engine in reversed(engines):
            if total <= limit:
                break
            # only as it was seen: neither built again nor used since
            if engine.digest not in keep and self._remove(engine.digest, engine.__eq__, busy):
                total -= engine.size
                gone.append(f"{engine.path.name} ({engine.digest[:8]})")
        return tuple(gone)

    def _remove(self, digest: str, due: Callable[[CachedEngine | None], bool], busy: set[str]) -> bool:
        """Whether one engine is removed: if that is `due` of what the index lists under the engine's lock, since it may
        have been built in the meantime. One that another process builds right now is added to `busy`."""
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
        """Remove folders that no entry names and files half written; how many."""
        gone = 0
        for folder in self.root.iterdir():
            ours = folder.is_dir() or DIGEST.fullmatch(folder.name) is not None  # a link may lead nowhere
            if ours and folder.name not in {*_engines_of(self.root), "locks", "timing"}:
                gone += self._remove(folder.name, lambda now: now is None, busy)
        for part in (self.root / "timing").glob(".*.part"):
            with suppress(FileNotFoundError):  # its writer lives
                if time.time() - part.stat().st_mtime > _ABANDONED:
                    part.unlink()
                    gone += 1
        return gone


def default_cache() -> EngineCache:
    """The cache below $XDG_CACHE_HOME/leakrt, at most $LEAKRT_ENGINE_CACHE_GIB (8) large. Raises UsageError."""
    text = os.environ.get(LIMIT_VARIABLE, "")
    try:
        limit = int(float(text) * 2**30) if text else DEFAULT_LIMIT
    except (ValueError, OverflowError) as error:
        raise UsageError(f"${LIMIT_VARIABLE}={text!r} is not a number of GiB") from error
    if limit < 0:
        raise UsageError(f"${LIMIT_VARIABLE}={text!r} is less than nothing; give a number of GiB")
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
            with suppress(FileNotFoundError):  # another process writes and removes meanwhile
                total += os.lstat(Path(folder, name)).st_size
    return total

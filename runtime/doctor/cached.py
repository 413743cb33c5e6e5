"""The state of the engine cache, and which engines can be used on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...core.errors import LeakRTError
from ...engines.build.build import reasons_unusable
from ...engines.cache.cache import CachedEngine, EngineCache, default_cache
from ...engines.library.flavour import Flavour


@dataclass(frozen=True, kw_only=True)
class CacheState:
    """The state of the engine cache. Hashes are not checked; `leakrt engines verify` checks them."""

    path: str
    engines: int
    bytes: int
    limit: int  # bytes
    broken: int  # truncated, modified, or without their JSON
    elsewhere: int  # intact, but built for another TensorRT or GPU
    reason: str  # why the first of `elsewhere` can't be used
    problem: str  # why the cache can't be read; empty if it can


def look_at_cache(flavours: Sequence[Flavour]) -> CacheState:
    """Read the index and the JSON of each engine. Does not raise."""
    try:
        cache = default_cache()
    except LeakRTError as error:
        return CacheState(path="", engines=0, bytes=0, limit=0, broken=0, elsewhere=0, reason="", problem=str(error))
    try:
        return _state(cache, cache.engines(), flavours)
    except LeakRTError as error:
        return CacheState(
            path=str(cache.root),
            engines=0,
            bytes=0,
            limit=cache.limit,
            broken=0,
            elsewhere=0,
            reason="",
            problem=str(error),
        )


def _state(cache: EngineCache, engines: list[CachedEngine], flavours: Sequence[Flavour]) -> CacheState:
    intact = [engine.record for engine in engines if engine.record and not engine.problem]
    reasons = [reason for record in intact for reason in list(reasons_unusable(record, list(flavours)))[:1]]
    return CacheState(
        path=str(cache.root),
        engines=len(engines),
        bytes=sum(engine.size for engine in engines),
        limit=cache.limit,
        broken=len(engines) - len(intact),
        elsewhere=len(reasons),
        reason=reasons[0] if reasons else "",
        problem="",
    )

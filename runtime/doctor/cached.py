"""What the engine cache holds, and how much of it can be used here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...core.errors import LeakRTError
from ...engines.build.build import reasons_unusable
from ...engines.cache.cache import CachedEngine, EngineCache, default_cache
from ...engines.library.flavour import Flavour


@dataclass(frozen=True, kw_only=True)
class CacheState:
    """The engine cache. Nothing is hashed: `leakrt engines verify` does that."""

    path: str
    engines: int
    bytes: int
    limit: int  # bytes
    broken: int  # cut short, changed, or without their JSON
    elsewhere: int  # whole, and for another TensorRT or another GPU
    reason: str  # of the first of those
    problem: str  # why the cache can't be read at all; empty where it can


def look_at_cache(flavours: Sequence[Flavour]) -> CacheState:
    """Read the index and the JSON beside each engine. Raises nothing."""
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
    whole = [engine.record for engine in engines if engine.record and not engine.problem]
    reasons = [reason for record in whole for reason in list(reasons_unusable(record, list(flavours)))[:1]]
    return CacheState(
        path=str(cache.root),
        engines=len(engines),
        bytes=sum(engine.size for engine in engines),
        limit=cache.limit,
        broken=len(engines) - len(whole),
        elsewhere=len(reasons),
        reason=reasons[0] if reasons else "",
        problem="",
    )

"""Which engines of the cache a runtime may load for a variant, or why there is none and what builds them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.errors import EngineError
from .build.derive import RECIPE
from .cache.cache import EngineCache
from .cache.key import GRAPHS, EngineQuery
from .cache.record import EngineRecord
from .library.device import TargetDevice
from .library.flavour import Flavour


@dataclass(frozen=True)
class StoredEngine:
    """One engine with its bytes, whose hash stands in the cache's index."""

    record: EngineRecord
    data: bytes


@dataclass(frozen=True)
class StoredEngines:
    """The two engines of a variant, their bytes verified, and the batch sizes that both were built for."""

    vae: StoredEngine
    leak: StoredEngine
    batches: tuple[int, ...]  # images


@dataclass(frozen=True, kw_only=True)
class WantedEngines:
    """A variant on a library and a GPU."""

    precision: str
    sources: tuple[str, str]  # SHA-256 of the bundle's VAE encoder and leak encoder, as ONNX
    draws: int  # of the spec: the leak encoder sees as many samples an image
    flavour: Flavour
    device: TargetDevice
    number: int  # of that GPU, for --device
    bundle: str  # where the bundle lies


def find_engines(cache: EngineCache, wanted: WantedEngines) -> StoredEngines:
    """The newest engines that fit. Nothing is built: that takes minutes, and is for people to start.

    Raises EngineError with the reasons and the command that builds them.
    """
    found, reasons = [], []
    for graph, source in zip(GRAPHS, wanted.sources, strict=True):
        try:
            found.append(_find(cache, wanted, graph, source=source))
        except EngineError as error:
            reasons.append(f"{graph}: {error}")
    if reasons:
        raise EngineError(_problem(wanted, reasons))
    vae, leak = found
    images, samples = vae.record.key.batches, leak.record.key.batches
    batches = tuple(sorted(batch for batch in images if batch * wanted.draws in samples))
    if not batches:
        told = f"vae_encoder is for batch {_listed(images)}, leak_encoder for {_listed(samples)} samples"
        raise EngineError(_problem(wanted, [f"{told}, {wanted.draws} an image"]))
    return StoredEngines(vae, leak, batches)


def build_command(wanted: WantedEngines) -> str:
    """What builds the engines that a runtime wants."""
    parts = ["leakrt build", shlex.quote(wanted.bundle), "--precision", wanted.precision]
    if wanted.flavour.name != "tensorrt":
        parts += ["--flavour", wanted.flavour.name]
    if wanted.flavour.targets:
        named = wanted.device.capability in wanted.flavour.targets
        parts += ["--target", wanted.device.capability if named else "current"]
    if wanted.number:
        parts += ["--device", str(wanted.number)]
    return " ".join(parts)


def _find(cache: EngineCache, wanted: WantedEngines, graph: str, *, source: str) -> StoredEngine:
    """Raises EngineError that says why there is none."""
    flavour = wanted.flavour
    asked = EngineQuery(
        graph=graph,
        precision=wanted.precision,
        source=source,
        flavour=flavour.name,
        version=flavour.version,
        device=wanted.device,
        batches=(),
        recipe=RECIPE,
    )
    record, reasons = cache.find(asked)
    if record is None:
        raise EngineError("; ".join(reasons) or "none was built")
    return StoredEngine(record, cache.read(record))


def _problem(wanted: WantedEngines, reasons: Sequence[str]) -> str:
    what = f"no {wanted.precision} engines of {wanted.bundle} for {wanted.flavour} on {wanted.device.name}"
    return f"{what} ({'; '.join(reasons)}); build them with: {build_command(wanted)}"


def _listed(batches: Sequence[int]) -> str:
    return ", ".join(map(str, batches))

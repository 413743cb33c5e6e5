"""Find the cached engines of a variant. If one is missing, the error prints the command that builds it."""

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
    """An engine and its verified bytes."""

    record: EngineRecord
    data: bytes


@dataclass(frozen=True)
class StoredEngines:
    """The two engines of a variant, and the batch sizes that both support."""

    vae: StoredEngine
    leak: StoredEngine
    batches: tuple[int, ...]  # images, ascending


@dataclass(frozen=True, kw_only=True)
class WantedEngines:
    """The variant, the library and the GPU that engines are needed for."""

    precision: str
    sources: tuple[str, str]  # SHA-256 of the bundle's VAE encoder and leak encoder, as ONNX
    draws: int  # samples per image of the leak encoder (spec.draws)
    flavour: Flavour
    device: TargetDevice
    number: int  # index of that GPU, for --device
    bundle: str  # path of the bundle


def find_engines(cache: EngineCache, wanted: WantedEngines) -> StoredEngines:
    """Return the newest matching engines. Never builds one, since that takes minutes.

    Raises EngineError with the reasons and the build command.
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
        built = f"vae_encoder was built for batch {_listed(images)}, leak_encoder for {_listed(samples)} samples"
        raise EngineError(_problem(wanted, [f"{built}, {wanted.draws} per image"]))
    return StoredEngines(vae, leak, batches)


def build_command(wanted: WantedEngines) -> str:
    """Return the command line that builds the engines."""
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
    """Return the engine of one graph. Raises EngineError with the reasons if there is none."""
    flavour = wanted.flavour
    query = EngineQuery(
        graph=graph,
        precision=wanted.precision,
        source=source,
        flavour=flavour.name,
        version=flavour.version,
        device=wanted.device,
        batches=(),
        recipe=RECIPE,
    )
    record, reasons = cache.find(query)
    if record is None:
        raise EngineError("; ".join(reasons) or "not built yet")
    return StoredEngine(record, cache.read(record))


def _problem(wanted: WantedEngines, reasons: Sequence[str]) -> str:
    what = f"no {wanted.precision} engines of {wanted.bundle} for {wanted.flavour} on {wanted.device.name}"
    return f"{what} ({'; '.join(reasons)}); build them with: {build_command(wanted)}"


def _listed(batches: Sequence[int]) -> str:
    return ", ".join(map(str, batches))

"""A bundle at one precision, loaded on a backend and ready to classify."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ..core.bundle import Bundle
from ..core.judging import Judge, Origin
from ..core.variants import refusal_notes
from ..core.weights import WEIGHTS_NAME
from .backends import registry
from .backends.base import Backend, Frame, Variant
from .golden import check_golden
from .pipeline import Pipeline


class LoadedVariant:
    """A variant's backend, pipeline and judge. Attributes: `backend`, `pipeline`, `judge`, `support`."""

    def __init__(self, bundle: Bundle, backend: Backend, threads: int) -> None:
        """Wrap a loaded backend and run the golden image. Raises ParityError, BundleError."""
        precision = backend.precision
        decision, self.support = bundle.decisions[precision], bundle.support(precision)
        self.backend = backend
        origin, notes = Origin(backend.name, precision, bundle.identity), refusal_notes(bundle.provenance, precision)
        self.judge = Judge(bundle.spec, decision, self.support, origin=origin, notes=notes)
        self.pipeline = Pipeline(bundle.spec, self.support, backend, threads=threads, bounds=decision.bounds)
        try:
            check_golden(bundle, self.pipeline, backend)
        except BaseException:
            self.pipeline.close()
            raise

    @property
    def precision(self) -> str:
        """fp32, fp16 or int8."""
        return self.backend.precision

    @classmethod
    def load(cls, bundle: Bundle, precision: str, backend: str, *, threads: int, device: int = 0) -> LoadedVariant:
        """Load one precision on the backend of that name.

        `device`: index of the GPU, for a backend that runs on one. Raises BundleError, ModelError, BackendError,
        EngineError, ParityError, UsageError.
        """
        graphs = bundle.graph("vae_encoder", precision), bundle.graph("leak_encoder", precision)
        variant = Variant(bundle.spec, precision, *graphs, weights_of(bundle), str(bundle.path))
        return cls(bundle, registry.load(backend, variant, threads, device=device), threads)


def weights_of(bundle: Bundle) -> Callable[[], bytes] | None:
    """Return a function that reads the bundle's `weights.safetensors`; None if the bundle has none."""
    return partial(bundle.read, WEIGHTS_NAME) if bundle.has(WEIGHTS_NAME) else None


def quickest(bundle: Bundle, variants: Sequence[LoadedVariant]) -> LoadedVariant:
    """Return the variant that runs the golden image fastest on this machine, and close the others."""
    if len(variants) == 1:
        return variants[0]
    image = bundle.golden().image
    pipelines = {variant.backend.name: variant.pipeline for variant in variants}
    laps = {name: partial(_run, pipeline, image) for name, pipeline in pipelines.items()}
    winner = registry.race(laps)
    for name, pipeline in pipelines.items():
        if name != winner:
            pipeline.close()
    return next(variant for variant in variants if variant.backend.name == winner)


def _run(pipeline: Pipeline, image: Frame) -> None:
    pipeline.run([pipeline.prepare(image)])

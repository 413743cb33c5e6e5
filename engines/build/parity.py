"""Whether a derived graph still says what the bundle's says: both on ONNX Runtime, on the bundle's golden image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...core.bundle import Bundle
from ...core.errors import MissingExtraError, ModelError, ParityError, require
from ...core.graphs import GraphSpec
from ...core.onnx_session import open_onnx_session
from ...core.noise import noise_steps, normals
from ...core.preprocess import preprocess_reference
from ...core.schedule import step_coefficients
from .derive import DerivedGraph
from ..cache.record import OutputParity

_HALF_LIMIT = 0.02  # of what float16 may change
_INT8_LIMIT = 0.1  # a float16 value beside a rounding edge falls on the other side: one int8 step
# It makes biases int32, in steps that are the product of two scales: too small a number for a float16.
_WRONG_IN_FLOAT16 = ["WeightBiasQuantization"]
_JUDGED_FROM = (1, 32)  # ONNX Runtime's float16 Q/DQ on a CPU is wrong before
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class GoldenInputs:
    """What the golden image gives both graphs of a variant, and what the first of them made of it."""

    image: Array  # [1, 3, S, S]
    latent: Array  # [1, 4, S/8, S/8], by the bundle's own graph
    noised: Array  # [draws, T, 4, S/8, S/8]

    def of(self, graph: GraphSpec) -> Array:
        """The input of one graph."""
        return self.image if graph.input.name == "image" else self.noised


def golden_inputs(bundle: Bundle, precision: str) -> GoldenInputs:
    """Take the golden image through the bundle's own VAE encoder. Raises BundleError, ModelError."""
    spec = bundle.spec
    image = preprocess_reference(bundle.golden().image, spec.image_size)[None]
    (latent,) = run_graph(bundle.graph("vae_encoder", precision), image, ("latent",))
    bank = normals(spec.noise_seed, 0, spec.draws, steps=len(spec.timesteps), shape=spec.latent_shape)
    coefficients = step_coefficients(spec.schedule, spec.timesteps, spec.sigma_normalize)
    return GoldenInputs(image, latent, noise_steps(latent, bank, coefficients))


def check_parity(
    bundle: Bundle, graph: GraphSpec, precision: str, *, derived: DerivedGraph, golden: GoldenInputs
) -> tuple[OutputParity, ...]:
    """Compare every output of the derived graph with the bundle's. Raises ParityError naming the output and both
    numbers; empty where nothing was changed, or where this ONNX Runtime can't judge."""
    if not derived.changed or (precision == "int8" and not can_judge_int8()):
        return ()
    names = tuple(tensor.name for tensor in graph.outputs)
    given = golden.of(graph)
    wanted = run_graph(bundle.graph(graph.stem, precision), given, names)
    found = run_graph(derived.model, given, names)
    limit = _limit(bundle, graph, precision, golden=golden)
    compared = tuple(OutputParity(n, relative_error(f, w), limit) for n, f, w in zip(names, found, wanted, strict=True))
    for parity in compared:
        if not parity.error <= parity.limit:  # also when it is no number
            raise ParityError(
                f"{graph.stem}: {parity.output} of the {precision} graph as TensorRT would get it differs by "
                f"{parity.error:.3g} of its spread, where {parity.limit:.3g} is allowed; build another precision"
            )
    return compared


def run_graph(model: bytes, given: Array, outputs: tuple[str, ...]) -> tuple[Array, ...]:
    """Run ONNX bytes on the CPU with one input, in the type that it takes; outputs as float32. Raises ModelError."""
    try:
        session = open_session(model)
        entry = session.get_inputs()[0]
        typed = given.astype(np.float16 if entry.type == "tensor(float16)" else np.float32)
        results = session.run(list(outputs), {entry.name: typed})
    except MissingExtraError:
        raise
    except Exception as error:  # ONNX Runtime's errors share no base
        raise ModelError(f"ONNX Runtime can't run the graph ({' '.join(str(error).split())[:200]})") from error
    return tuple(np.asarray(result, dtype=np.float32) for result in results)


def open_session(model: bytes) -> Any:
    """ONNX bytes on ONNX Runtime's CPU, computed as the graph says. Raises MissingExtraError, and what ONNX Runtime
    raises."""
    require("onnxruntime", "rtx")
    return open_onnx_session(model, disabled_optimizers=_WRONG_IN_FLOAT16)


def relative_error(found: Array, wanted: Array) -> float:
    """Root mean square of the difference over that of `wanted` around its mean; nan when anything is not finite."""
    difference = found.astype(np.float64) - wanted
    spread = float(np.std(wanted.astype(np.float64))) or 1.0
    return float(np.sqrt(np.mean(difference**2)) / spread)


def can_judge_int8() -> bool:
    """Whether this ONNX Runtime computes float16 Q/DQ rightly on a CPU."""
    version = str(require("onnxruntime", "rtx").__version__)
    return tuple(int(part) for part in version.split(".")[:2]) >= _JUDGED_FROM


def _limit(bundle: Bundle, graph: GraphSpec, precision: str, *, golden: GoldenInputs) -> float:
    """Int8 may move by what quantising itself moved, where the bundle can tell: its VAE encoders share a target."""
    if precision != "int8" or b"QuantizeLinear" not in bundle.graph(graph.stem, precision):
        return _HALF_LIMIT
    if graph.input.name == "image" and "fp32" in bundle.precisions:
        (exact,) = run_graph(bundle.graph(graph.stem, "fp32"), golden.image, ("latent",))
        return max(_HALF_LIMIT, relative_error(golden.latent, exact))
    return _INT8_LIMIT

"""Check that a derived graph computes what the bundle's graph does, in ONNX Runtime on the golden image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...core.bundle import Bundle
from ...core.errors import MissingExtraError, ModelError, ParityError, require
from ...core.graphs import GraphSpec
from ...core.noise import noise_steps, normals
from ...core.onnx_session import open_onnx_session
from ...core.preprocess import preprocess_reference
from ...core.schedule import step_coefficients
from ..cache.record import OutputParity
from .derive import DerivedGraph

_HALF_LIMIT = 0.02  # relative error allowed for float16
_INT8_LIMIT = 0.1  # float16 values near a rounding boundary may differ by one int8 step
# It quantizes biases to int32 with the product of two scales as the scale, which underflows in float16.
_WRONG_IN_FLOAT16 = ["WeightBiasQuantization"]
_HALF_QDQ_SINCE = (1, 32)  # earlier ONNX Runtime versions compute float16 Q/DQ wrongly on a CPU
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class GoldenInputs:
    """The inputs of both graphs for the golden image, float32, and its latent."""

    image: Array  # [1, 3, S, S]
    latent: Array  # [1, C, S/8, S/8], computed by the bundle's own graph
    noised: Array  # [draws, T, C, S/8, S/8]

    def of(self, graph: GraphSpec) -> Array:
        """Return the input of one graph."""
        return self.image if graph.input.name == "image" else self.noised


def golden_inputs(bundle: Bundle, precision: str) -> GoldenInputs:
    """Run the golden image through preprocessing, the bundle's own VAE encoder and noising.

    Raises BundleError, ModelError, MissingExtraError.
    """
    spec = bundle.spec
    image = preprocess_reference(bundle.golden().image, spec.image_size)[None]
    (latent,) = run_graph(bundle.graph("vae_encoder", precision), image, ("latent",))
    bank = normals(spec.noise_seed, 0, spec.draws, steps=len(spec.timesteps), shape=spec.latent_shape)
    coefficients = step_coefficients(spec.schedule, spec.timesteps, spec.sigma_normalize)
    return GoldenInputs(image, latent, noise_steps(latent, bank, coefficients))


def check_parity(
    bundle: Bundle, graph: GraphSpec, precision: str, *, derived: DerivedGraph, golden: GoldenInputs
) -> tuple[OutputParity, ...]:
    """Compare every output of the derived graph with that of the bundle's graph.

    Returns an empty tuple if the graph is unchanged or this ONNX Runtime computes it wrongly. Raises ParityError naming
    an output over its limit, with the error and the limit; ModelError, MissingExtraError.
    """
    if not derived.changed or (precision == "int8" and not can_judge_int8()):
        return ()
    names = tuple(tensor.name for tensor in graph.outputs)
    given = golden.of(graph)
    wanted = run_graph(bundle.graph(graph.stem, precision), given, names)
    found = run_graph(derived.model, given, names)
    limit = _limit(bundle, graph, precision, golden=golden)
    compared = tuple(OutputParity(n, relative_error(f, w), limit) for n, f, w in zip(names, found, wanted, strict=True))
    for parity in compared:
        if not parity.error <= parity.limit:  # `not <=` also catches NaN
            raise ParityError(
                f"{graph.stem}: {parity.output} of the derived {precision} graph differs by {parity.error:.3g} of its "
                f"standard deviation (limit {parity.limit:.3g}); build another precision"
            )
    return compared


def run_graph(model: bytes, given: Array, outputs: tuple[str, ...]) -> tuple[Array, ...]:
    """Run an ONNX graph with one input on the CPU and return the outputs as float32.

    The input is cast to the type that the graph declares. Raises ModelError, MissingExtraError.
    """
    try:
        session = open_session(model)
        entry = session.get_inputs()[0]
        typed = given.astype(np.float16 if entry.type == "tensor(float16)" else np.float32)
        results = session.run(list(outputs), {entry.name: typed})
    except MissingExtraError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        raise ModelError(f"ONNX Runtime can't run the graph: {' '.join(str(error).split())[:200]}") from error
    return tuple(np.asarray(result, dtype=np.float32) for result in results)


def open_session(model: bytes) -> Any:
    """Open an ONNX graph on the CPU, without the optimizer that is wrong in float16.

    Raises MissingExtraError and ONNX Runtime's own exceptions.
    """
    require("onnxruntime", "rtx")
    return open_onnx_session(model, disabled_optimizers=_WRONG_IN_FLOAT16)


def relative_error(found: Array, wanted: Array) -> float:
    """Return the RMS of `found - wanted` divided by the standard deviation of `wanted`, or by 1 if that is 0.

    NaN if a value is not finite.
    """
    difference = found.astype(np.float64) - wanted
    spread = float(np.std(wanted.astype(np.float64))) or 1.0
    return float(np.sqrt(np.mean(difference**2)) / spread)


def can_judge_int8() -> bool:
    """Return whether this ONNX Runtime computes float16 Q/DQ correctly on a CPU. Raises MissingExtraError."""
    version = str(require("onnxruntime", "rtx").__version__)
    return tuple(int(part) for part in version.split(".")[:2]) >= _HALF_QDQ_SINCE


def _limit(bundle: Bundle, graph: GraphSpec, precision: str, *, golden: GoldenInputs) -> float:
    """Return the error limit. For an int8 VAE encoder it is at least the error that quantization itself introduced."""
    if precision != "int8" or b"QuantizeLinear" not in bundle.graph(graph.stem, precision):
        return _HALF_LIMIT
    if graph.input.name == "image" and "fp32" in bundle.precisions:
        (exact,) = run_graph(bundle.graph(graph.stem, "fp32"), golden.image, ("latent",))
        return max(_HALF_LIMIT, relative_error(golden.latent, exact))
    return _INT8_LIMIT

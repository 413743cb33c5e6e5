"""The default backend: ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.errors import ModelError, one_line
from ...core.graphs import GraphSpec, leak_encoder_graph, vae_encoder_graph
from ...core.onnx_session import open_onnx_session
from ...core.outputs import LeakOutputs
from ...core.unsigned_codes import codes_for_this_cpu
from ..machine import cpu_name
from .base import Array, Availability, Backend, BackendKind, Description, Variant, refuse_device

NAME = "onnxruntime"
_INSTALL = "pip install onnxruntime"


class OnnxRuntimeBackend:
    """Both graphs as ONNX Runtime sessions, each with its own pool of `threads` threads."""

    name = NAME
    batch = 1  # larger batches are no faster on a CPU, and a batch-dependent kernel choice could change score bits

    def __init__(self, variant: Variant, threads: int) -> None:
        """Load both graphs from bytes, never from a path. Raises ModelError that names graph, tensor and shape."""
        self.precision = variant.precision
        self._threads = threads
        self.forkable = threads == 1
        self._vae = _Session(vae_encoder_graph(variant.spec), variant.vae_encoder, threads)
        self._leak = _Session(leak_encoder_graph(variant.spec), variant.leak_encoder, threads)

    def vae_encoder(self, image: Array) -> Array:
        """Encode image float32 [B, 3, S, S] to the scaled latent float32 [B, C, S/8, S/8]. Raises ModelError."""
        return self._vae.run(image)[0]

    def leak_encoder(self, noised: Array) -> LeakOutputs:
        """Return the four outputs, one row each, of noised float32 [B, T, C, S/8, S/8]. Raises ModelError."""
        return LeakOutputs(*self._leak.run(noised))

    def describe(self) -> Description:
        """Return the backend's version, device and precision."""
        return Description(
            backend=NAME, version=probe().version, device=cpu_name(), precision=self.precision, threads=self._threads
        )


class _Session:
    """One session whose inputs and outputs are checked against its GraphSpec."""

    def __init__(self, graph: GraphSpec, model: bytes, threads: int) -> None:
        self._graph = graph
        self._names = [tensor.name for tensor in graph.outputs]
        self._session = session(graph.stem, model, threads)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        for node in (*inputs, *outputs):
            if node.type != "tensor(float)":
                raise ModelError(f"{graph.stem}: {node.name} has type {node.type}, expected float32")
        graph.check_declared([(n.name, n.shape) for n in inputs], [(n.name, n.shape) for n in outputs])

    def run(self, value: Array) -> list[Array]:
        try:
            results = self._session.run(self._names, {self._graph.input.name: value})
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            raise ModelError(f"{self._graph.stem}: ONNX Runtime can't run it ({one_line(error)})") from error
        for tensor, result in zip(self._graph.outputs, results, strict=True):
            self._graph.check_shape(tensor, np.shape(result), len(value))
        return [np.asarray(result, np.float32) for result in results]


def session(stem: str, model: bytes, threads: int) -> Any:
    """Return an InferenceSession on the CPU, loaded from bytes. Raises ModelError that begins with `stem`."""

    def configure(options: Any) -> None:
        # A detector's two sessions run in turn. Spinning threads of one would keep the other's threads off the cores.
        options.add_session_config_entry("session.force_spinning_stop", "1")

    try:
        return open_onnx_session(codes_for_this_cpu(model), threads=threads, configure=configure)
    except Exception as error:  # as above
        raise ModelError(f"{stem}: ONNX Runtime can't load it ({one_line(error)})") from error


def probe() -> Availability:
    """Return whether ONNX Runtime can be imported."""
    try:
        import onnxruntime as ort

        return Availability(backend=NAME, runs=True, version=str(ort.__version__), reason="", install="")
    except (ImportError, AttributeError) as error:
        return Availability(
            backend=NAME,
            runs=False,
            version="",
            reason=f"onnxruntime is not installed or fails to import ({one_line(error)})",
            install=_INSTALL,
        )


def load(variant: Variant, threads: int, *, device: int = 0) -> Backend:
    """Load the variant. Raises ModelError, and UsageError for a non-zero `device`."""
    refuse_device(NAME, device)
    return OnnxRuntimeBackend(variant, threads)


KIND = BackendKind(NAME, probe, load)

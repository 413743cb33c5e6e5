"""The OpenVINO backend for x86 CPUs. Runs int8 variants faster than ONNX Runtime.

On CPUs with bfloat16, OpenVINO silently computes float layers in bfloat16. This backend requests float32 instead, so
fp16 variants and the float layers of int8 variants run in float32.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from ...core.errors import ModelError, one_line
from ...core.graphs import GraphSpec, leak_encoder_graph, vae_encoder_graph
from ...core.outputs import LeakOutputs
from ..forked import FirstUse
from .base import Array, Availability, Backend, BackendKind, Description, Variant, refuse_device
from .external_data import refuse_external_data
from .openvino_graph import hide_scales, open_core

NAME = "openvino"
_INSTALL = "pip install 'leakrt[openvino]'"
_DEVICE = "CPU"
_first = FirstUse(NAME)


class OpenVinoBackend:
    """Both graphs compiled for the CPU, one request each with `threads` threads.

    Subclasses may override `name` and `vae_float`, the type in which float layers of the VAE encoder are computed.
    """

    name = NAME
    vae_float = "f32"
    batch = 1  # larger batches are no faster on a CPU
    forkable = False

    def __init__(self, variant: Variant, threads: int) -> None:
        """Load both graphs from bytes, never from a path.

        Raises ModelError that names graph, tensor and shape, MissingExtraError, and BackendError in a forked child
        whose parent loaded OpenVINO.
        """
        _first.require()
        self.precision = variant.precision
        self._threads = threads
        core = open_core()
        vae = settings(threads, floats="f32" if variant.precision == "fp32" else self.vae_float)
        self._vae = _CompiledGraph(core, vae_encoder_graph(variant.spec), variant.vae_encoder, compiled_with=vae)
        self._leak = _CompiledGraph(
            core, leak_encoder_graph(variant.spec), variant.leak_encoder, compiled_with=settings(threads)
        )
        self._device = str(core.get_property(_DEVICE, "FULL_DEVICE_NAME"))

    def vae_encoder(self, image: Array) -> Array:
        """Encode image float32 [B, 3, S, S] to the scaled latent float32 [B, C, S/8, S/8]. Raises ModelError."""
        return self._vae.run(image)[0]

    def leak_encoder(self, noised: Array) -> LeakOutputs:
        """Return the four outputs, one row each, of noised float32 [B, T, C, S/8, S/8]. Raises ModelError."""
        return LeakOutputs(*self._leak.run(noised))

    def describe(self) -> Description:
        """Return the backend's version, device and precision."""
        return Description(
            backend=self.name,
            version=probe().version,
            device=self._device,
            precision=self.precision,
            threads=self._threads,
        )


def settings(threads: int, *, floats: str = "f32") -> dict[str, Any]:
    """Return compile settings for one request at a time. `floats`: type of the float layers, "f32" or "bf16"."""
    return {
        "INFERENCE_PRECISION_HINT": floats,
        "EXECUTION_MODE_HINT": "ACCURACY",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # two detectors on one machine would be pinned to the same cores
    }


class _CompiledGraph:
    """One compiled graph whose inputs and outputs are checked against its GraphSpec."""

    def __init__(self, core: Any, graph: GraphSpec, model: bytes, *, compiled_with: Mapping[str, Any]) -> None:
        self._graph = graph
        refuse_external_data(model, graph.stem)
        try:
            read = core.read_model(model=model)
            hide_scales(read)
            compiled = core.compile_model(read, _DEVICE, dict(compiled_with))
        except Exception as error:  # OpenVINO's exceptions have no common base class
            raise ModelError(f"{graph.stem}: OpenVINO can't load it ({one_line(error)})") from error
        for port in (*compiled.inputs, *compiled.outputs):
            if port.element_type.get_type_name() != "f32":
                kind = port.element_type.get_type_name()
                raise ModelError(f"{graph.stem}: {port.any_name} has type {kind}, expected float32")
        names = {graph.input.name, *(tensor.name for tensor in graph.outputs)}
        graph.check_declared(*([_declared(p, names) for p in ports] for ports in (compiled.inputs, compiled.outputs)))
        self._outputs = [compiled.output(tensor.name) for tensor in graph.outputs]
        self._compiled = compiled
        self._request = compiled.create_infer_request()

    def run(self, value: Array) -> list[Array]:
        try:
            results = self._request.infer({self._graph.input.name: np.ascontiguousarray(value, np.float32)})
        except Exception as error:  # as above
            raise ModelError(f"{self._graph.stem}: OpenVINO can't run it ({one_line(error)})") from error
        # Copy the results: the request's next run overwrites them.
        arrays = [np.array(results[port], np.float32) for port in self._outputs]
        for tensor, array in zip(self._graph.outputs, arrays, strict=True):
            self._graph.check_shape(tensor, array.shape, len(value))
        return arrays


def _declared(port: Any, names: Collection[str]) -> tuple[str, list[int | None]]:
    """Return name and dimensions of an input or output, None for a dynamic dimension.

    OpenVINO removes operators without effect, such as a product with 1, and merges the names of their input and output.
    The name that is in `names` is returned.
    """
    name = next(iter(sorted(port.get_names() & set(names))), port.any_name)
    return name, [d.get_length() if d.is_static else None for d in port.partial_shape]


def probe() -> Availability:
    """Return whether OpenVINO can be imported and lists a CPU device."""
    try:
        import openvino

        core = openvino.Core()
        runs = _DEVICE in core.available_devices
        reason = "" if runs else "OpenVINO finds no CPU device"
        return Availability(
            backend=NAME,
            runs=runs,
            version=str(openvino.__version__).split("-")[0],
            reason=reason,
            install="" if runs else _INSTALL,
        )
    except (ImportError, AttributeError, RuntimeError) as error:
        return Availability(
            backend=NAME,
            runs=False,
            version="",
            reason=f"openvino is not installed or fails to import ({one_line(error)})",
            install=_INSTALL,
        )


def load(variant: Variant, threads: int, *, device: int = 0) -> Backend:
    """Load the variant. Raises ModelError, and UsageError for a non-zero `device`."""
    refuse_device(NAME, device)
    return OpenVinoBackend(variant, threads)


KIND = BackendKind(NAME, probe, load)

"""Probe and loader of the `tensorrt` backend, which runs engines that `leakrt build` compiled.

Imports neither TensorRT nor PyCUDA, because `auto` and the doctor probe backends that are not installed.
"""

from __future__ import annotations

import importlib.util
from importlib import metadata
from typing import TYPE_CHECKING

from ....core.errors import LeakRTError
from ..base import Availability, Backend, BackendKind, Variant

if TYPE_CHECKING:
    from ....engines.library.flavour import Flavour
    from ....engines.lookup import StoredEngines
    from ..device_memory import Device
    from .slot import Engines

NAME = "tensorrt"
_DOCTOR = "run `leakrt doctor` for instructions"
_MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}


def load(variant: Variant, threads: int, *, device: int = 0) -> Backend:
    """Load the variant's engines from the cache on GPU number `device`.

    Raises EngineError with the command that builds a missing engine, MissingExtraError, BackendError, ModelError.
    """
    return load_engines(NAME, "tensorrt", variant, threads=threads, number=device)


def probe() -> Availability:
    """Return whether TensorRT, PyCUDA, LeakRT's kernels and a driver are available; see `probe_flavour`."""
    return probe_flavour(NAME, "tensorrt")


def load_engines(name: str, flavour_name: str, variant: Variant, *, threads: int, number: int) -> Backend:
    """Load the variant's engines with TensorRT or TensorRT-RTX; see `load`."""
    from ....core.errors import EngineError
    from ....core.files import sha256_bytes
    from ....engines.cache.cache import default_cache
    from ....engines.library.device import find_device
    from ....engines.library.installed import load_flavour
    from ....engines.lookup import WantedEngines, find_engines
    from .backend import GpuBackend
    from .cuda_device import CudaDevice
    from .runner import GpuRunner, RunnerOptions

    device, flavour = find_device(number), load_flavour(flavour_name)
    problem = flavour.gpu_problem(device.capability)
    if problem:
        raise EngineError(problem)
    sources = sha256_bytes(variant.vae_encoder), sha256_bytes(variant.leak_encoder)
    draws = variant.spec.draws
    wanted = WantedEngines(
        precision=variant.precision,
        sources=sources,
        draws=draws,
        flavour=flavour,
        device=device,
        number=number,
        bundle=variant.bundle,
    )
    stored = find_engines(default_cache(), wanted)

    def open_engines(_: Device) -> Engines:
        return deserialize(variant, flavour, stored)

    options = RunnerOptions(batches=stored.batches)
    runner = GpuRunner(variant.spec, lambda: CudaDevice(number), open_engines, options=options)
    return GpuBackend(name, flavour.version, variant.precision, threads=threads, runner=runner, draws=draws)


def deserialize(variant: Variant, flavour: Flavour, stored: StoredEngines) -> Engines:
    """Deserialize both engines. Call it in the thread that owns the device.

    Raises EngineError, ModelError, OutOfMemoryError.
    """
    from ....core.graphs import leak_encoder_graph, vae_encoder_graph
    from .slot import Engines
    from .tensorrt_engine import TensorRTEngine

    spec = variant.spec
    vae, leak = (
        TensorRTEngine(flavour, graph, engine.data, dla_core=engine.record.key.dla_core)
        for graph, engine in ((vae_encoder_graph(spec), stored.vae), (leak_encoder_graph(spec), stored.leak))
    )
    return Engines(vae, leak)


def probe_flavour(name: str, flavour: str) -> Availability:
    """Return what is missing, cheapest checks first; the driver is initialized only if everything else is available."""
    from ....engines.library.installed import load_flavour

    module = _MODULES[flavour]
    if importlib.util.find_spec(module) is None:
        return Availability(backend=name, runs=False, version="", reason=f"{module} is not installed", install=_DOCTOR)
    version, reason = "", _missing()
    if not reason:  # import the library last: it is slow, and its own libraries may be missing
        try:
            version = load_flavour(flavour).version
        except LeakRTError as error:
            reason = str(error)
    return Availability(
        backend=name,
        runs=not reason,
        version=version or _version(module),
        reason=reason,
        install=_DOCTOR if reason else "",
    )


def _missing() -> str:
    """Return why no GPU can be used, or an empty string."""
    from ....engines.library.device import find_driver
    from ...doctor.toolkit import driver_too_old, find_kernels

    if importlib.util.find_spec("pycuda") is None:
        return "PyCUDA is not installed"
    kernels = find_kernels()
    if kernels.problem:
        return kernels.problem
    driver = find_driver()
    if driver.library is None:
        return driver.problem
    if driver_too_old(driver.cuda, kernels.toolkit):
        return f"the driver supports CUDA up to {driver.cuda}, but LeakRT's kernels were built with {kernels.toolkit}"
    return ""


def _version(module: str) -> str:
    try:
        return metadata.version(module)
    except metadata.PackageNotFoundError:
        return "another build"


KIND = BackendKind(NAME, probe, load)

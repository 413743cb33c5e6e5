"""Evaluate which components an NVIDIA GPU needs, from the facts about a machine. Reads no files."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...engines.library.flavour import version_numbers
from . import commands
from .commands import DATACENTER, JETSON, Commands
from .facts import VISIBLE_DEVICES, MachineFacts
from .libraries import Library
from .toolkit import driver_too_old, kernels_misfit, listed

READY, MISSING, UNFIT, SPARE = "ready", "missing", "unfit", "not needed"
_NO_DEVICE, _VERSION_MISMATCH = 100, 803  # CUDA error codes: no device; driver and library versions differ


@dataclass(frozen=True, kw_only=True)
class Need:
    """One component: its state, and the command that installs or repairs it."""

    name: str
    state: str  # READY, MISSING, UNFIT (installed but unusable) or SPARE (not needed on this machine)
    detail: str  # its version, or the problem
    commands: Commands = field(default_factory=dict)  # kind of machine to the command; empty if none is needed


def judge(facts: MachineFacts) -> tuple[Need, ...]:
    """Return every component, in the order in which to install them."""
    return (
        _driver(facts),
        _toolkit(facts),
        _kernels(facts),
        _pycuda(facts),
        *(_library(facts, library) for library in facts.libraries),
        _engines(facts),
    )


def _driver(facts: MachineFacts) -> Need:
    driver = facts.driver
    if not driver.problem:
        version = f"{driver.version}, " if driver.version else ""
        return Need(name="driver", state=READY, detail=f"{version}for CUDA up to {driver.cuda}")
    if driver.code == _NO_DEVICE and facts.hidden:
        detail = f"{driver.problem}, and ${VISIBLE_DEVICES} is {facts.hidden!r}"
        return Need(name="driver", state=UNFIT, detail=detail, commands=commands.everywhere(f"unset {VISIBLE_DEVICES}"))
    if driver.code == _VERSION_MISMATCH:
        detail = f"{driver.problem}: the driver was updated but not reloaded"
        return Need(name="driver", state=UNFIT, detail=detail, commands=commands.everywhere("sudo reboot"))
    if facts.container and not driver.cuda:
        return Need(
            name="driver",
            state=MISSING,
            detail=f"{driver.problem}, in this container",
            commands=commands.enter_container(),
        )
    if driver.cuda:
        return Need(name="driver", state=UNFIT, detail=driver.problem, commands=commands.everywhere("nvidia-smi"))
    return Need(name="driver", state=MISSING, detail=driver.problem, commands=commands.get_driver())


def _toolkit(facts: MachineFacts) -> Need:
    toolkit, cuda = facts.toolkit, facts.driver.cuda
    if not toolkit.path:
        if facts.kernels.toolkit and facts.pycuda:
            return Need(
                name="CUDA toolkit",
                state=SPARE,
                detail="no nvcc; not needed, because LeakRT's kernels and PyCUDA are installed",
            )
        get = commands.get_toolkit(facts.distribution, facts.architecture, _major(cuda))
        return Need(
            name="CUDA toolkit",
            state=MISSING,
            detail="no nvcc; needed to compile LeakRT's kernels and PyCUDA",
            commands=get,
        )
    detail = f"{toolkit.version or 'nvcc does not run'}, {toolkit.path}{'' if toolkit.on_path else ' (not on PATH)'}"
    if driver_too_old(cuda, toolkit.version):
        detail = f"{detail}: the driver supports CUDA up to {cuda}, so it can't run code compiled by this toolkit"
        return Need(name="CUDA toolkit", state=UNFIT, detail=detail, commands=_newer_driver(facts))
    return Need(name="CUDA toolkit", state=READY if toolkit.version else UNFIT, detail=detail)


def _kernels(facts: MachineFacts) -> Need:
    kernels, cuda = facts.kernels, facts.driver.cuda
    build = commands.build_kernels(facts.toolkit)
    if kernels.problem:
        return Need(name="kernels", state=MISSING, detail=kernels.problem, commands=build)
    detail = f"leakrt._cuda, built with CUDA {kernels.toolkit} for {listed(kernels)}"
    for gpu in facts.gpus:
        misfit = kernels_misfit(kernels, cuda, gpu.device.capability)
        if misfit:
            get = _newer_driver(facts) if driver_too_old(cuda, kernels.toolkit) else build
            return Need(
                name="kernels",
                state=UNFIT,
                detail=f"{gpu.device.name}: {misfit}",
                commands={**get, JETSON: build[JETSON]},
            )
    return Need(name="kernels", state=READY, detail=detail)


def _pycuda(facts: MachineFacts) -> Need:
    if facts.pycuda:
        return Need(name="PyCUDA", state=READY, detail=facts.pycuda)
    return Need(
        name="PyCUDA",
        state=MISSING,
        detail="not installed; needed for GPU memory and streams",
        commands=commands.build_pycuda(facts.toolkit),
    )


def _library(facts: MachineFacts, library: Library) -> Need:
    return _tensorrt(facts, library) if library.flavour == "tensorrt" else _rtx(facts, library)


def _tensorrt(facts: MachineFacts, library: Library) -> Need:
    get = commands.get_tensorrt(_major(facts.driver.cuda))
    if facts.jetson and facts.jetson.too_old:
        detail = (
            f"the TensorRT of JetPack {facts.jetson.jetpack} is for Python {facts.jetson.python}, but LeakRT needs "
            "3.10 or newer; flash JetPack 6 or 7 (see docs/jetson.md); on a Xavier, which supports neither, use the CPU"
        )
        return Need(name="TensorRT", state=UNFIT, detail=detail)
    if library.usable:
        return _importable(facts, "TensorRT", library, get=get)
    hidden_reason = _hidden_bindings(facts)
    if hidden_reason and not library.problem:
        return Need(
            name="TensorRT", state=UNFIT, detail=hidden_reason, commands=commands.see_tensorrt(facts.bindings[-1])
        )
    if library.problem:
        return Need(name="TensorRT", state=UNFIT, detail=library.problem, commands=get)
    return Need(name="TensorRT", state=MISSING, detail="not installed", commands=get)


def _hidden_bindings(facts: MachineFacts) -> str:
    """Return why this Python can't import the system's TensorRT bindings; empty if the system has none."""
    if not facts.bindings:
        return ""
    versions = ", ".join(facts.bindings)
    if facts.python in facts.bindings or facts.bindings == ("3",):
        return (
            "installed on the system but not visible here: this environment was created without --system-site-packages"
        )
    return f"installed on the system for Python {versions}, but this is Python {facts.python}"


def _rtx(facts: MachineFacts, library: Library) -> Need:
    kind = commands.machine_kind(facts.jetson, facts.gpus)
    if library.usable:
        return _importable(facts, "TensorRT-RTX", library, get=commands.get_rtx())
    if kind in (JETSON, DATACENTER):
        return Need(name="TensorRT-RTX", state=SPARE, detail="only for RTX GPUs")
    state, detail = (UNFIT, library.problem) if library.problem else (MISSING, "not installed")
    return Need(name="TensorRT-RTX", state=state, detail=detail, commands=commands.get_rtx())


def _importable(facts: MachineFacts, name: str, library: Library, *, get: Commands) -> Need:
    """Return the state of a library that can be imported; it may need a newer CUDA than the driver supports."""
    cuda = facts.driver.cuda
    if cuda and library.cuda > _major(cuda):
        detail = f"{library.version} is for CUDA {library.cuda}, but the driver supports CUDA up to {cuda}"
        return Need(name=name, state=UNFIT, detail=detail, commands={**_newer_driver(facts), JETSON: get[JETSON]})
    return Need(name=name, state=READY, detail=library.version)


def _engines(facts: MachineFacts) -> Need:
    cache = facts.cache
    if cache.problem:
        return Need(name="engine cache", state=UNFIT, detail=cache.problem)
    if cache.broken:
        detail = f"{cache.broken} of {cache.engines} engines are broken and will not be loaded"
        return Need(
            name="engine cache", state=UNFIT, detail=detail, commands=commands.everywhere("leakrt engines prune")
        )
    if cache.elsewhere:
        detail = f"{cache.elsewhere} of {cache.engines} engines can't run here: {cache.reason}"
        return Need(
            name="engine cache", state=UNFIT, detail=detail, commands=commands.everywhere("leakrt build BUNDLE")
        )
    return Need(name="engine cache", state=READY, detail=f"{cache.engines} engines")


def _newer_driver(facts: MachineFacts) -> Commands:
    """Return the commands for a newer driver. A Jetson keeps its driver and installs its JetPack's toolkit instead."""
    return {**commands.get_driver(), JETSON: "sudo apt install nvidia-jetpack"}


def _major(version: str) -> int:
    return next(iter(version_numbers(version)), 0)

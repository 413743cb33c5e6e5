"""What running on an NVIDIA GPU takes, and which of it is there: facts judged, nothing looked at."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...engines.library.flavour import version_numbers
from . import commands
from .commands import DATACENTER, JETSON, Commands
from .facts import HIDING, MachineFacts
from .libraries import Library
from .toolkit import driver_too_old, kernels_misfit, listed

READY, MISSING, UNFIT, SPARE = "ready", "missing", "unfit", "not needed"
_SHUT_OUT, _MIXED = 100, 803  # CUDA's errors: no device; driver and library of two versions


@dataclass(frozen=True, kw_only=True)
class Need:
    """One thing: whether it is there and fits, and how to get it where it is not."""

    name: str
    state: str  # READY, MISSING, UNFIT (it is there and can't be used) or SPARE (not needed on this machine)
    detail: str  # its version, or what is wrong with it
    commands: Commands = field(default_factory=dict)  # kind of machine to the one command; empty where none is needed


def judge(facts: MachineFacts) -> tuple[Need, ...]:
    """Every need, in the order in which to see to them."""
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
    if driver.code == _SHUT_OUT and facts.hidden:
        told = f"{driver.problem}, and ${HIDING} is {facts.hidden!r}"
        return Need(name="driver", state=UNFIT, detail=told, commands=commands.everywhere(f"unset {HIDING}"))
    if driver.code == _MIXED:
        told = f"{driver.problem}: it was updated and not loaded anew"
        return Need(name="driver", state=UNFIT, detail=told, commands=commands.everywhere("sudo reboot"))
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
            return Need(name="CUDA toolkit", state=SPARE, detail="no nvcc; what it compiles is there")
        get = commands.get_toolkit(facts.distribution, facts.architecture, _major(cuda))
        return Need(
            name="CUDA toolkit", state=MISSING, detail="no nvcc; it compiles LeakRT's kernels and PyCUDA", commands=get
        )
    told = f"{toolkit.version or 'nvcc does not run'}, {toolkit.path}{'' if toolkit.on_path else ' (not on PATH)'}"
    if driver_too_old(cuda, toolkit.version):
        told = f"{told}: the driver supports CUDA up to {cuda}, so nothing that this toolkit compiles runs"
        return Need(name="CUDA toolkit", state=UNFIT, detail=told, commands=_newer_driver(facts))
    return Need(name="CUDA toolkit", state=READY if toolkit.version else UNFIT, detail=told)


def _kernels(facts: MachineFacts) -> Need:
    kernels, cuda = facts.kernels, facts.driver.cuda
    build = commands.build_kernels(facts.toolkit)
    if kernels.problem:
        return Need(name="kernels", state=MISSING, detail=kernels.problem, commands=build)
    told = f"leakrt._cuda, built with CUDA {kernels.toolkit} for {listed(kernels)}"
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
    return Need(name="kernels", state=READY, detail=told)


def _pycuda(facts: MachineFacts) -> Need:
    if facts.pycuda:
        return Need(name="PyCUDA", state=READY, detail=facts.pycuda)
    return Need(
        name="PyCUDA",
        state=MISSING,
        detail="not installed; it holds the GPU's memory and streams",
        commands=commands.build_pycuda(facts.toolkit),
    )


def _library(facts: MachineFacts, library: Library) -> Need:
    return _tensorrt(facts, library) if library.flavour == "tensorrt" else _rtx(facts, library)


def _tensorrt(facts: MachineFacts, library: Library) -> Need:
    get = commands.get_tensorrt(_major(facts.driver.cuda))
    if facts.jetson and facts.jetson.too_old:
        told = (
            f"JetPack {facts.jetson.jetpack}'s TensorRT is for its Python {facts.jetson.python}, and LeakRT needs 3.10 "
            "or newer: flash JetPack 6 or 7, as docs/jetson.md says; Xavier has none, and runs on its CPU"
        )
        return Need(name="TensorRT", state=UNFIT, detail=told)
    if library.usable:
        return _checked(facts, "TensorRT", library, get=get)
    unseen = _unseen_bindings(facts)
    if unseen and not library.problem:
        return Need(name="TensorRT", state=UNFIT, detail=unseen, commands=commands.see_tensorrt(facts.bindings[-1]))
    if library.problem:
        return Need(name="TensorRT", state=UNFIT, detail=library.problem, commands=get)
    return Need(name="TensorRT", state=MISSING, detail="not installed", commands=get)


def _unseen_bindings(facts: MachineFacts) -> str:
    """What keeps this Python from TensorRT's bindings that the system has; empty where it has none."""
    if not facts.bindings:
        return ""
    theirs = ", ".join(facts.bindings)
    if facts.python in facts.bindings or facts.bindings == ("3",):
        return "the system has it, and this environment does not see it: it was made without --system-site-packages"
    return f"the system has it for Python {theirs}, and this is {facts.python}"


def _rtx(facts: MachineFacts, library: Library) -> Need:
    kind = commands.machine_kind(facts.jetson, facts.gpus)
    if library.usable:
        return _checked(facts, "TensorRT-RTX", library, get=commands.get_rtx())
    if kind in (JETSON, DATACENTER):
        return Need(name="TensorRT-RTX", state=SPARE, detail="it is for RTX GPUs")
    state, told = (UNFIT, library.problem) if library.problem else (MISSING, "not installed")
    return Need(name="TensorRT-RTX", state=state, detail=told, commands=commands.get_rtx())


def _checked(facts: MachineFacts, name: str, library: Library, *, get: Commands) -> Need:
    """A library that imports: it may still be for a newer CUDA than the driver's."""
    cuda = facts.driver.cuda
    if cuda and library.cuda > _major(cuda):
        told = f"{library.version} is for CUDA {library.cuda}, and the driver supports CUDA up to {cuda}"
        return Need(name=name, state=UNFIT, detail=told, commands={**_newer_driver(facts), JETSON: get[JETSON]})
    return Need(name=name, state=READY, detail=library.version)


def _engines(facts: MachineFacts) -> Need:
    cache = facts.cache
    if cache.problem:
        return Need(name="engine cache", state=UNFIT, detail=cache.problem)
    if cache.broken:
        told = f"{cache.broken} of {cache.engines} engines are broken, and are never loaded"
        return Need(name="engine cache", state=UNFIT, detail=told, commands=commands.everywhere("leakrt engines prune"))
    if cache.elsewhere:
        told = f"{cache.elsewhere} of {cache.engines} engines can't run here: {cache.reason}"
        return Need(name="engine cache", state=UNFIT, detail=told, commands=commands.everywhere("leakrt build BUNDLE"))
    return Need(name="engine cache", state=READY, detail=f"{cache.engines} engines")


def _newer_driver(facts: MachineFacts) -> Commands:
    """A Jetson's driver stays what its JetPack brought: there the toolkit that fits comes with that JetPack."""
    return {**commands.get_driver(), JETSON: "sudo apt install nvidia-jetpack"}


def _major(version: str) -> int:
    return next(iter(version_numbers(version)), 0)

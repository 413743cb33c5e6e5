"""Stands in for TensorRT versions whose libraries can't run here: it has their names, records, and builds nothing.

A name that tests/engines/api_names.json does not list for the version raises AttributeError, as the real library would,
whether it is read, called or assigned.
"""

from __future__ import annotations

import enum
import json
from pathlib import Path
from types import SimpleNamespace

_DATA = json.loads((Path(__file__).parents[1] / "engines" / "api_names.json").read_text())
VERSIONS: list[str] = _DATA["versions"]
ENGINE = b"what the builder gives"


class _Enumeration(enum.IntEnum):
    __str__ = enum.Enum.__str__  # "BuilderFlag.FP16", as the bindings print them


class RecordingTensorRT:
    """The module. `config`, `profiles`, `network_flags` hold what the last build set; `cores` is its number of DLAs."""

    def __init__(self, version: str, *, cores: int = 0, fails: str = "") -> None:
        self.__version__ = version
        self.cores, self.fails = cores, fails
        self.profiles: list[dict] = []
        self.network_flags = 0
        self.config: _Recorded
        self._position = VERSIONS.index(version)

    def __getattr__(self, name: str):
        members = self.names(name)
        if not members:
            raise AttributeError(f"tensorrt {self.__version__} has no {name}")
        made = _CLASSES.get(name)
        if made is not None:
            return lambda *args: made(self, *args)
        if name in ("ILogger", "IProgressMonitor"):
            severity = enum.IntEnum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE", start=0)
            return type(name, (), {"Severity": severity} if name == "ILogger" else {})
        values = [m for m in members if m not in ("", "name", "value")]
        return _Enumeration(name, values, start=0)

    def names(self, kind: str) -> set[str]:
        """The members of a class in this version; "" is among them when the class itself exists."""
        return {m for m, versions in _DATA["classes"].get(kind, {}).items() if self._position in versions}


class _Recorded:
    """An object of one class; `set` holds what was assigned, `calls` what was called."""

    def __init__(self, trt: RecordingTensorRT, kind: str) -> None:
        self.__dict__.update(trt=trt, names=trt.names(kind), kind=kind, set={}, calls=[])

    def __setattr__(self, name: str, value: object) -> None:
        self._check(name)
        self.set[name] = value

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        self._check(name)
        if name in self.set:
            return self.set[name]
        return lambda *args: self.calls.append((name, *args))

    def _check(self, name: str) -> None:
        if name not in self.names:
            raise AttributeError(f"{self.kind}.{name} is not in tensorrt {self.trt.__version__}")

    def called(self, name: str) -> list[tuple]:
        """The arguments of every call of a method."""
        return [call[1:] for call in self.calls if call[0] == name]


class _Config(_Recorded):
    def __init__(self, trt: RecordingTensorRT) -> None:
        super().__init__(trt, "IBuilderConfig")

    def create_timing_cache(self, data: bytes) -> SimpleNamespace:
        self.calls.append(("create_timing_cache", data))
        return SimpleNamespace(serialize=lambda: data + b" and more")


class _Network(_Recorded):
    def __init__(self, trt: RecordingTensorRT) -> None:
        super().__init__(trt, "INetworkDefinition")
        self.__dict__.update(num_layers=0)

    def get_input(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(name="image", shape=(-1, 3, 40, 40))


class _Builder(_Recorded):
    def __init__(self, trt: RecordingTensorRT, logger: object) -> None:
        super().__init__(trt, "Builder")
        self.__dict__.update(num_DLA_cores=trt.cores, logger=logger)

    def create_network(self, flags: int) -> _Network:
        self.trt.network_flags = flags
        return _Network(self.trt)

    def create_builder_config(self) -> _Config:
        self.trt.config = _Config(self.trt)
        return self.trt.config

    def create_optimization_profile(self) -> SimpleNamespace:
        self.trt.profiles.append({})
        return SimpleNamespace(set_shape=lambda name, *shapes: self.trt.profiles[-1].update({name: shapes}))

    def build_serialized_network(self, network: object, config: _Config) -> bytes | None:
        if self.trt.fails:
            self.logger.log(1, self.trt.fails)
            return None
        if "progress_monitor" in config.set:
            monitor = config.set["progress_monitor"]
            monitor.phase_start("build", None, 2)
            assert monitor.step_complete("build", 0)
            monitor.phase_finish("build")
        return ENGINE


class _Parser(_Recorded):
    def __init__(self, trt: RecordingTensorRT, network: object, logger: object) -> None:
        super().__init__(trt, "OnnxParser")

    def parse(self, model: bytes) -> bool:
        return True


_CLASSES = {"Builder": _Builder, "OnnxParser": _Parser}


def set_flags(trt: RecordingTensorRT) -> set[str]:
    """Names of the builder flags that the last build set."""
    return {flag.name for (flag,) in trt.config.called("set_flag")}

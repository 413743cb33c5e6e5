"""`leakrt doctor`: what is installed, what can run, and how to install what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .console import coloured, printable, size, table
from .options import Json

if TYPE_CHECKING:
    from ..runtime.backends.base import Availability
    from ..runtime.doctor.needs import Need
    from ..runtime.doctor.report import Health, Nvidia

_BACKENDS = {  # title to whether `auto` may select them
    "backends that auto may select, in its order (the bundle must have passed its acceptance test there)": True,
    "backends to select by name": False,
}
_COLOURS = {"ready": "green", "missing": "yellow", "unfit": "red", "not needed": "dim"}


def doctor(json: Json = False) -> int:
    """Print what is installed, what can run and what is missing.

    Prints the command that installs each missing part. Exits with code 1 if this installation can't check images. A
    missing GPU is not an error.
    """
    import json as json_module

    from ..runtime.doctor.report import examine

    health = examine()
    if json:
        print(json_module.dumps(health.to_json(), ensure_ascii=False))
        return 1 if health.problems else 0
    print(table(_machine(health)))
    for title, among_auto in _BACKENDS.items():
        _section(title, [_backend(b) for b in health.backends if (b.backend in health.auto_order) is among_auto])
    _section("packages", [(p.name, p.version or "-", p.extra) for p in health.packages])
    _section(_place(health.nvidia), [*_gpus(health.nvidia), *map(_need, health.nvidia.needs)])
    _section("commands to install what is missing", list(_commands(health.nvidia)))
    for extra, names in health.missing_extras().items():
        print(f"\nextra {extra}: {', '.join(names)} not installed; run: pip install 'leakrt[{extra}]'")
    for problem in health.problems:
        print(f"\n{coloured('problem', 'red')}: {problem}")
    return 1 if health.problems else 0


def _section(title: str, rows: list[tuple[str, ...]]) -> None:
    if rows:
        print(f"\n{coloured(title, 'bold')}\n{table(rows)}")


def _machine(health: Health) -> list[tuple[str, ...]]:
    cache = health.nvidia.facts.cache
    engines = f"{cache.engines} engines, {size(cache.bytes)} of {size(cache.limit)}, in {cache.path}"
    return [
        ("leakrt", health.leakrt),
        ("Python", f"{health.python} on {health.system}"),
        ("native core", health.simd or "cannot be loaded"),
        ("CPU threads", str(health.threads)),
        ("cache", printable(health.cache)),
        *([("engine cache", printable(engines))] if cache.engines else []),
    ]


def _backend(backend: Availability) -> tuple[str, ...]:
    return backend.backend, backend.version or "-", "can run" if backend.runs else _refusal(backend)


def _refusal(backend: Availability) -> str:
    """Return why a backend can't run and how to install it, or "see below" where later sections say how."""
    return f"{backend.reason}; {'see below' if 'leakrt doctor' in backend.install else backend.install}"


def _place(nvidia: Nvidia) -> str:
    if nvidia.facts.jetson:
        return f"NVIDIA GPU of this {printable(str(nvidia.facts.jetson))}"
    return "NVIDIA GPU" if nvidia.kind else "NVIDIA GPU (none found; CPU backends need none)"


def _gpus(nvidia: Nvidia) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for gpu in nvidia.facts.gpus:
        kind = "shared with the CPU" if gpu.integrated else "of device memory"
        facts = f"compute capability {gpu.device.capability}, {size(gpu.memory)} {kind}"
        rows.append((f"GPU {gpu.index}", "found", f"{printable(gpu.device.name)}, {facts}"))
    return rows


def _need(need: Need) -> tuple[str, ...]:
    # Escape codes would break the alignment, so only the last column, which is not padded, is coloured.
    return need.name, need.state, coloured(printable(need.detail), _COLOURS[need.state])


def _commands(nvidia: Nvidia) -> Iterator[tuple[str, ...]]:
    """Yield one command per need for this kind of machine; for every kind if it is unknown."""
    from ..runtime.doctor.commands import KINDS

    for need in nvidia.needs:
        if nvidia.kind:
            if need.commands.get(nvidia.kind):
                yield need.name, need.commands[nvidia.kind]
            continue
        wanted = {kind: command for kind, command in need.commands.items() if command}
        if len(set(wanted.values())) == 1 and len(wanted) == len(KINDS):
            yield need.name, "any", next(iter(wanted.values()))
            continue
        for kind, command in wanted.items():
            yield need.name, KINDS[kind], command

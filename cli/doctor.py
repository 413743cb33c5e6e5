"""`leakrt doctor`: what is installed, what can run, and what each missing part needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .console import coloured, table

if TYPE_CHECKING:
    from ..runtime.doctor import Health


def doctor(json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> int:
    """Show what is installed and what can run.

    Exit code 1 when something keeps this installation from checking images.
    """
    import json as json_module

    from ..runtime.doctor import examine

    health = examine()
    if json:
        print(json_module.dumps(health.to_json(), ensure_ascii=False))
        return 1 if health.problems else 0
    print(table(_machine(health)))
    print(f"\n{coloured('backends, in the order of auto', 'bold')}\n{table(_backends(health))}")
    print(f"\n{coloured('packages', 'bold')}\n{table([(p.name, p.version or '-', p.extra) for p in health.packages])}")
    for extra, names in health.missing_extras().items():
        print(f"\n{extra} lacks {', '.join(names)}: pip install 'leakrt[{extra}]'")
    for problem in health.problems:
        print(f"\n{coloured('problem', 'red')}: {problem}")
    return 1 if health.problems else 0


def _machine(health: Health) -> list[tuple[str, ...]]:
    return [
        ("leakrt", health.leakrt),
        ("Python", f"{health.python} on {health.system}"),
        ("native core", health.simd or "does not load"),
        ("CPU threads", str(health.threads)),
        ("cache", health.cache),
    ]


def _backends(health: Health) -> list[tuple[str, ...]]:
    return [(b.backend, b.version or "-", "can run" if b.runs else f"{b.reason}; {b.install}") for b in health.backends]

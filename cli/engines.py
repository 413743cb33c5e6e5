"""`leakrt engines`: list, verify, prune and install cached engines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import ConsoleProgress, coloured, printable, size, table

if TYPE_CHECKING:
    from ..engines.cache.cache import CachedEngine

_ACTIONS = ("list", "prune", "verify", "add")
_OWNERS = {"--max-size": "prune", "--key": "add", "--unsigned": "add"}
_MOST_GIB = 1 << 20


def engines(
    action: Annotated[str, typer.Argument(metavar="list|prune|verify|add", help="What to do with the cache.")],
    *,
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="For add: folder that `leakrt build --out` wrote.")
    ] = None,
    max_size: Annotated[
        float | None,
        typer.Option(metavar="GIB", help="For prune: size limit. The least recently used engines are removed first."),
    ] = None,
    key: Annotated[str | None, typer.Option(metavar="HEX", help="For add: public key to trust, now and later.")] = None,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="For add: accept an unsigned folder.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON objects.")] = False,
) -> int:
    """Manage the engine cache.

    list prints the engines. verify hashes every engine and exits with code 1 if one is broken. prune removes broken
    engines, leftovers and engines over the size limit. add FOLDER verifies and installs a folder that
    `leakrt build --out` wrote on another machine.
    """
    _check_usage(action, folder, {"--max-size": max_size is not None, "--key": key is not None, "--unsigned": unsigned})
    if action == "add" and folder is not None:
        return _add(folder, key, unsigned, json=json)
    if action == "prune":
        return _prune(max_size, json)
    return _list(action == "verify", json)


def _check_usage(action: str, folder: Path | None, given: dict[str, bool]) -> None:
    from ..core.errors import UsageError

    if action not in _ACTIONS:
        raise UsageError(f"engines {action}: unknown action; choose one of: {', '.join(_ACTIONS)}")
    if (folder is not None) != (action == "add"):
        raise UsageError(f"engines {action}: " + ("FOLDER is missing" if action == "add" else "takes no FOLDER"))
    for option, owner in _OWNERS.items():
        if given[option] and action != owner:
            raise UsageError(f"engines {action}: {option} is only for {owner}")


def _list(verify: bool, json: bool) -> int:
    import json as json_module

    from ..engines.cache.cache import default_cache

    cache = default_cache()
    found = cache.verify() if verify else cache.engines()
    misfits = _misfits(found)
    if json:
        for engine in found:
            print(json_module.dumps(_as_json(engine, misfits), ensure_ascii=False))
    elif found:
        print(table([_HEADER, *(_row(engine, misfits) for engine in found)], indent=""))
    total = sum(engine.size for engine in found)
    where = printable(str(cache.root))
    print(f"leakrt: {len(found)} engines, {size(total)} of {size(cache.limit)}, in {where}", file=sys.stderr)
    return 1 if verify and any(engine.problem for engine in found) else 0


_HEADER = ("engine", "graph", "precision", "batch", "for", "with", "size", "state")


def _misfits(engines: list[CachedEngine]) -> dict[str, str]:
    """Map the digest of each intact engine that can't run on this machine to the reason."""
    from ..engines.build.build import reasons_unusable
    from ..engines.library.installed import installed_flavours

    flavours = installed_flavours() if engines else []  # the import takes a second
    whole = [(engine.digest, engine.record) for engine in engines if engine.record and not engine.problem]
    reasons = ((digest, next(reasons_unusable(record, flavours), "")) for digest, record in whole)
    return {digest: reason for digest, reason in reasons if reason}


def _state(engine: CachedEngine, misfits: dict[str, str]) -> str:
    if engine.problem:
        return coloured(printable(engine.problem), "red")
    if engine.digest in misfits:
        return coloured(f"not for this machine: {printable(misfits[engine.digest])}", "yellow")
    return coloured("ok", "green")


def _row(engine: CachedEngine, misfits: dict[str, str]) -> tuple[str, ...]:
    state = _state(engine, misfits)
    if engine.record is None:
        return (engine.digest[:8], "-", "-", "-", "-", "-", size(engine.size), state)
    key = engine.record.key
    batches = ",".join(map(str, key.batches))
    library = f"{key.flavour} {key.version}"
    cells = (engine.digest[:8], key.graph, key.precision, batches, key.place, library, size(engine.size))
    return (*map(printable, cells), state)


def _as_json(engine: CachedEngine, misfits: dict[str, str]) -> dict[str, Any]:
    return {
        "digest": engine.digest,
        "path": str(engine.path),
        "bytes": engine.size,
        "used": engine.used,
        "problem": engine.problem,
        "misfit": misfits.get(engine.digest, ""),
        "key": engine.record.key.to_json() if engine.record else None,
    }


def _prune(max_size: float | None, json: bool) -> int:
    import json as json_module
    from dataclasses import asdict

    from ..core.errors import UsageError
    from ..engines.cache.cache import default_cache

    cache = default_cache()
    if max_size is not None and not 0 <= max_size < _MOST_GIB:
        raise UsageError(f"--max-size {max_size:g}: not a size in GiB; give a number of 0 or more")
    pruned = cache.prune(cache.limit if max_size is None else int(max_size * 2**30))
    if json:
        print(json_module.dumps(asdict(pruned)))
        return 0
    busy = f"; kept {pruned.busy} that are being built" if pruned.busy else ""
    print(f"removed {pruned.engines} engines and {pruned.leftovers} leftovers, {size(pruned.freed)} freed{busy}")
    return 0


def _add(folder: Path, key: str | None, unsigned: bool, *, json: bool) -> int:
    import json as json_module

    from ..engines.cache.cache import default_cache
    from ..engines.cache.signing import check_public_key, trust, trusted_keys
    from ..engines.carry import add_engines, read_folder

    cache = default_cache()
    keys = trusted_keys()
    if key is not None:
        keys |= {check_public_key(key)}
    carried = read_folder(folder, keys, unsigned)
    with ConsoleProgress("engines") as progress:
        evicted = add_engines(carried, cache, progress)
    if key is not None:
        trust(key)  # only after its engines passed verification
    for name in evicted:
        print(f"leakrt: evicted from the cache: {printable(name)}", file=sys.stderr)
    for item in carried:
        path = cache.path(item.record)
        if json:
            print(json_module.dumps({"path": str(path), "key": item.record.key.to_json()}, ensure_ascii=False))
        else:
            print(f"{item.record.file}  {size(item.record.size)}  {printable(str(path))}")
    return 0

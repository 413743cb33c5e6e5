"""`leakrt build`: compile a bundle's graphs into engines."""

from __future__ import annotations

import math
import shlex
import sys
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import ConsoleProgress, coloured, duration, printable, size, table

if TYPE_CHECKING:
    from ..core.bundle import Bundle
    from ..engines.build.build import BuildOutcome, BuildRequest
    from ..engines.cache.signing import Signer
    from ..engines.library.flavour import Flavour
    from ..engines.verify import Verified


def build(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle: a folder or a zip file.")],
    *,
    precision: Annotated[
        str, typer.Option(help="Precision: fp16, int8 or fp32. The bundle must have this variant.")
    ] = "fp16",
    flavour: Annotated[
        str,
        typer.Option(
            help="tensorrt builds for this machine's GPU; tensorrt-rtx (experimental) for RTX GPUs, on any x86-64 CPU."
        ),
    ] = "tensorrt",
    batch: Annotated[
        str, typer.Option(metavar="N,N", help="Batch sizes. Each gets its own optimisation profile.")
    ] = "1",
    target: Annotated[
        str | None,
        typer.Option(
            metavar="N.N,N.N",
            help="Compute capabilities for tensorrt-rtx, or `current`; by default 8.0, 8.6, 8.9, and 12.0 and later.",
        ),
    ] = None,
    opt_level: Annotated[
        int, typer.Option(help="Optimisation level, 0 to 5. Higher levels build longer and give faster engines.")
    ] = 3,
    workspace: Annotated[
        int | None, typer.Option(metavar="MIB", help="Limit of device memory for tactics; by default all of it.")
    ] = None,
    dla: Annotated[
        int | None,
        typer.Option(metavar="CORE", help="Run the VAE encoder on this DLA core of a Jetson (experimental)."),
    ] = None,
    device: Annotated[int, typer.Option(help="GPU number to build on.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Also write the engines to this folder, signed, for another machine."),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Compare the engines with ONNX Runtime on the GPU.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per engine.")] = False,
) -> int:
    """Compile a bundle for TensorRT.

    Engines are stored in the engine cache and built once. Exits with code 1 if --verify finds an output that differs.

    Experimental: only fp32 engines of TensorRT 8.5.3 have run on a GPU. Engines of other versions or precisions, of
    TensorRT-RTX and for DLA have never run on their hardware.
    """
    from ..core.bundle import Bundle
    from ..engines.build.build import BuildRequest
    from ..engines.build.builder import BuildOptions
    from ..engines.carry import check_target
    from .options import numbers

    # What can be refused is refused before minutes of building.
    signer = None
    if out is not None:
        check_target(out)
        signer = _signer()
    options = BuildOptions(
        batches=numbers(batch, "--batch", "1,4,8"),
        level=opt_level,
        workspace=workspace,
        dla_core=dla,
        targets=_words(target or ""),
    )
    opened = Bundle(bundle)
    opened.require_precision(precision)
    request = BuildRequest(precision=precision, flavour=_flavour(flavour), options=options, device=device)
    outcomes, verified = _build(opened, request, verify)
    for outcome in outcomes:
        for note in outcome.notes:
            print(f"leakrt: {printable(note)}", file=sys.stderr)
    _print(outcomes, verified, json)
    if out is not None:
        _write(out, outcomes, signer)
    return _report(verified)


def _build(bundle: Bundle, request: BuildRequest, verify: bool) -> tuple[tuple[BuildOutcome, ...], list[Verified]]:
    """Build both engines; with `verify`, also compare each with ONNX Runtime."""
    from ..engines.build.build import build_bundle
    from ..engines.cache.cache import default_cache
    from ..engines.verify import check_verifiable, verify_bundle

    if verify:
        check_verifiable(request)
    cache = default_cache()
    with ConsoleProgress("%") as progress:
        outcomes = build_bundle(bundle, request, cache, progress=progress)
        return outcomes, verify_bundle(bundle, request, outcomes, cache=cache, progress=progress) if verify else []


def _flavour(name: str) -> Flavour:
    """Load a flavour. If only the other library is installed, the error names the option that selects it."""
    from ..core.errors import MissingExtraError
    from ..engines.library.installed import installed_flavours, load_flavour

    try:
        return load_flavour(name)
    except MissingExtraError as error:
        others = [f"--flavour {other.name} for {other}" for other in installed_flavours()]
        raise MissingExtraError(
            f"{error}; or build with {others[0]}, which is installed" if others else str(error)
        ) from error


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _print(outcomes: tuple[BuildOutcome, ...], verified: list[Verified], json: bool) -> None:
    import json as json_module

    rows: list[tuple[str, ...]] = []
    for outcome, seen in zip_longest(outcomes, verified):
        record = outcome.record
        if json:
            print(json_module.dumps({**_summary(outcome), "verify": _verify(seen)}, ensure_ascii=False))
            continue
        how = f"built in {duration(record.seconds)}" if outcome.built else "from the cache"
        rows.append((record.key.graph, record.key.precision, size(record.size), how, printable(str(outcome.path))))
    if rows:
        print(table(rows, indent=""))


def _summary(outcome: BuildOutcome) -> dict[str, Any]:
    record = outcome.record
    return {
        "graph": record.key.graph,
        "precision": record.key.precision,
        "path": str(outcome.path),
        "bytes": record.size,
        "seconds": record.seconds,
        "built": outcome.built,
        "key": record.key.to_json(),
        "parity": {p.output: p.error for p in record.parity},
        "notes": list(outcome.notes),
    }


def _verify(seen: Verified | None) -> list[dict[str, Any]] | None:
    """Return the comparisons of --verify for JSON; None without --verify. An error that is not finite is None."""
    if seen is None:
        return None
    return [
        {
            "output": c.output,
            "batch": c.batch,
            "error": c.error if math.isfinite(c.error) else None,
            "limit": c.limit,
            "agrees": c.agrees,
        }
        for c in seen.comparisons
    ]


def _write(out: Path, outcomes: tuple[BuildOutcome, ...], signer: Signer | None) -> None:
    from ..engines.cache.cache import default_cache
    from ..engines.carry import write_folder

    write_folder(out, [outcome.record for outcome in outcomes], default_cache(), signer=signer)
    if signer:
        command = f"leakrt engines add {shlex.quote(str(out))} --key {signer.public_key}"
        print(f"leakrt: signed {printable(str(out))}; on the other machine run: {printable(command)}", file=sys.stderr)


def _signer() -> Signer | None:
    from ..core.errors import MissingExtraError
    from ..engines.cache.signing import Signer

    try:
        return Signer.own()
    except MissingExtraError as error:
        print(f"leakrt: the engines are hashed but not signed: {error}", file=sys.stderr)
        return None


def _report(verified: list[Verified]) -> int:
    wrong = 0
    for one in verified:
        for c in one.comparisons:
            wrong += not c.agrees
            mark = (
                coloured("agrees", "green", stream=sys.stderr)
                if c.agrees
                else coloured("differs", "red", stream=sys.stderr)
            )
            where = f"{c.graph} {c.output}, batch {c.batch}"
            print(f"leakrt: {where}: {mark}, error {c.error:.2e} of its spread (limit {c.limit:.2e})", file=sys.stderr)
        if one.note:
            print(f"leakrt: {one.note}", file=sys.stderr)
        if one.bad_layer:
            bad = one.bad_layer
            print(
                f"leakrt: first wrong layer: {printable(bad.node)} ({bad.operator}), error {bad.error:.2e}, before it "
                f"{bad.before:.2e}, found in {bad.builds} builds; build another precision, or export the bundle again",
                file=sys.stderr,
            )
    return 1 if wrong else 0

"""`leakrt accept`: run the acceptance test of a precision on one more backend."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import ConsoleProgress, coloured, printable, table
from .options import Device, Json, Threads
from .refused import changes_text

if TYPE_CHECKING:
    from ..calibration.acceptance.on_backend import AcceptanceResult


def accept(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle. The result is stored in it.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Labelled images of the run.")],
    backend: Annotated[
        str, typer.Option(help="Backend to test, such as openvino, or tensorrt (experimental except 8.5.3 in fp32).")
    ],
    *,
    precision: Annotated[str, typer.Option(help="Precision: fp32, fp16 or int8. The bundle must have this variant.")],
    device: Device = 0,
    threads: Threads = 0,
    json: Json = False,
) -> int:
    """Run the acceptance test of a precision on a backend.

    The test compares its verdicts on validation images with those of fp32. Run it for engines, and for backends that
    were not installed where the variant was created. If the variant passes, `auto` may select it on that backend. Exits
    with code 1 if it fails.
    """
    import json as json_module

    from ..core.errors import require

    for module in ("torch", "onnx", "sklearn"):
        require(module, "train")
    from ..calibration.acceptance.on_backend import AcceptanceRequest, run_acceptance_test
    from ..runtime.threads import resolve_threads

    request = AcceptanceRequest(precision=precision, backend=backend, device=device, threads=resolve_threads(threads))
    with ConsoleProgress("images") as progress:
        result = run_acceptance_test(bundle, data, request, progress=progress)
    if json:
        from ..train.data import left_out_of

        found = {"precision": precision, "backend": backend, **result.to_json(), "failures": list(result.failures)}
        print(json_module.dumps({**found, "left_out": left_out_of(data)}))
    else:
        print(_text(result))
    for why in result.failures:
        print(f"leakrt: {printable(why)}", file=sys.stderr)
    return 1 if result.failures else 0


def _text(result: AcceptanceResult) -> str:
    found = result.found.comparison
    verdict = coloured("failed", "red") if result.failures else coloured("passed", "green")
    rows = [
        (f"{result.precision} on {result.backend}", verdict),
        ("validation images", str(found.images)),
        ("macro AUC", f"{found.macro_auc:.4f}, drop from fp32 {found.macro_auc_drop:+.5f}"),
        ("labels as fp32", f"{found.agreement:.2%}; confident half {found.agreement_confident:.2%}"),
        ("verdicts", changes_text(found)),
        (
            "false alarms",
            f"{found.false_alarms} of {found.real_faces}; the target rate allows {found.interval[1]}",
        ),
        ("speed", str(result.found.speedup)),
    ]
    return table(rows)

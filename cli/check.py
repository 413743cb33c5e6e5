"""`leakrt check`: classify images."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import ConsoleProgress, coloured, printable
from .options import Backend, Device, Threads

if TYPE_CHECKING:
    from ..core.verdict import Verdict
    from ..runtime.detector import Detector

_COLOURS = {"real": "green", "generator": "red", "unknown": "magenta", "abstain": "yellow", "error": "red"}
_KIND_WIDTH = max(map(len, _COLOURS))


def check(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle: a folder or a zip file.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE_OR_FOLDER", help="Image files, or folders to search.")],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    batch: Annotated[int, typer.Option(help="Images per batch.")] = 8,
    backend: Backend = "auto",
    precision: Annotated[
        str, typer.Option(help="Precision: auto, or fp32, fp16 or int8 if the bundle has this variant.")
    ] = "auto",
    threads: Threads = 0,
    device: Device = 0,
    faces: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="YuNet ONNX file. Classify each face instead of the whole image."),
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(metavar="PNG_OR_FOLDER", help="Write a picture that shows the evidence for each verdict."),
    ] = None,
    max_pixels: Annotated[
        int, typer.Option(help="Largest number of pixels of an image; larger images are errors.")
    ] = 64_000_000,
) -> int:
    """Classify faces as real or generated.

    Prints one verdict per image, or with --faces one per face: real, generator with its name, unknown generator, or
    abstain. Exits with code 1 if an image could not be read.
    """
    from ..core.images import FoundImages, left_out_note, search_images
    from ..runtime.detector import Detector
    from ..runtime.explain_files import explain_stream

    several = any(map(os.path.lexists, images))  # among existing files, a missing one is an error of its own
    found = [
        FoundImages((path,), ()) if several and not os.path.lexists(path) else search_images(path) for path in images
    ]
    paths = [image for one in found for image in one.images]
    rest = left_out_note(out for one in found for out in one.left_out)
    if rest:
        print(f"leakrt: note: {printable(rest)}", file=sys.stderr)
    begin = time.perf_counter()
    detector = Detector.load(
        bundle,
        backend=backend,
        precision=precision,
        threads=threads,
        faces=faces,
        max_pixels=max_pixels,
        device=device,
    )
    verdicts = explain_stream(detector, paths, explain) if explain else detector.check_stream(paths, batch=batch)
    counts, width = Counter[str](), max(map(len, detector.spec.class_names)) + 2
    for verdict in _with_progress(verdicts, len(paths), json):
        counts["error" if verdict.verdict is None else verdict.verdict] += 1
        print(verdict.to_json() if json else _line(verdict, width), flush=True)
    print(_summary(detector, counts, time.perf_counter() - begin), file=sys.stderr)
    return 1 if counts["error"] else 0


def _with_progress(verdicts: Iterator[Verdict], images: int, json: bool) -> Iterator[Verdict]:
    """Count images on stderr, unless stdout is a terminal, where the verdicts themselves show progress."""
    if sys.stdout.isatty() and not json:
        yield from verdicts
        return
    with ConsoleProgress("images") as progress:
        done = 0
        for verdict in verdicts:
            done += verdict.face is None or verdict.face.index == 0
            yield verdict
            progress("check", done, images)


def _line(verdict: Verdict, width: int) -> str:
    """Format one line: verdict, class (in brackets if only the likeliest), probability, path, reasons."""
    if verdict.verdict is None:
        return f"{_kind('error')}  {printable(verdict.error or '')}"
    decided = verdict.verdict in ("real", "generator")
    likeliest = max(verdict.scores, key=lambda name: verdict.scores[name], default="")
    label = verdict.label if decided else f"({likeliest})" if likeliest else ""
    share = f"{100 * verdict.probability:5.1f} %" if likeliest else ""
    reasons = "; ".join(verdict.reasons[1:] if decided else verdict.reasons)
    place = printable(verdict.path)
    if verdict.face is not None:
        x, y, w, h = verdict.face.box
        place += f"  face {verdict.face.index} at {x},{y} {w}x{h}"
    line = f"{_kind(verdict.verdict)}  {printable(label):{width}}  {share:7}  {place}"
    return f"{line}  {coloured(printable(reasons), 'dim')}" if reasons else line


def _kind(kind: str) -> str:
    return coloured(f"{kind:{_KIND_WIDTH}}", _COLOURS[kind])


def _summary(detector: Detector, counts: Counter[str], seconds: float) -> str:
    found = ", ".join(f"{counts[kind]} {kind}" for kind in _COLOURS if counts[kind])
    runs = detector.describe()
    return (
        f"{counts.total()} checked in {seconds:.1f} s: {found}{_finite_check(detector)}  "
        f"[{runs.backend} {runs.precision}, {runs.threads} threads, bundle {detector.bundle.identity}]"
    )


def _finite_check(detector: Detector) -> str:
    """Summarise the finite check; empty if it caught nothing."""
    count = detector.counters
    if not (count.caught or count.retried or count.rescued):
        return ""
    return f"; finite check: {count.caught} caught, {count.retried} retried, {count.rescued} rescued"

"""`leakrt profile`: measure the latency of each stage of a bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import ConsoleProgress, coloured, printable, size, table
from .options import Backend, Device, Json

if TYPE_CHECKING:
    from ..runtime.profiling.measure import BatchProfile
    from ..runtime.profiling.profile import Profile
    from ..runtime.profiling.summary import Summary

_COLUMNS = ("p50", "p90", "p95", "p99", "max", "jitter", "std")


def profile(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle: a folder or a zip file.")],
    *,
    backend: Backend = "auto",
    precision: Annotated[
        str, typer.Option(help="Precision: auto, or fp32, fp16 or int8 if the bundle has this variant.")
    ] = "auto",
    batch: Annotated[str, typer.Option(metavar="N,N", help="Batch sizes, measured one after another.")] = "1,4,16",
    streams: Annotated[int, typer.Option(help="Detectors that run in parallel, each in its own thread.")] = 1,
    seconds: Annotated[float, typer.Option(help="Seconds to measure each batch size.")] = 5.0,
    threads: Annotated[
        int, typer.Option(help="CPU threads per stream; 0: the physical cores divided by the streams.")
    ] = 0,
    device: Device = 0,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Image to classify; by default the bundle's golden image.")
    ] = None,
    cold_starts: Annotated[int, typer.Option(help="New processes that measure the cold start; 0: none.")] = 3,
    json: Json = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Write a plot of stage latency and throughput.")
    ] = None,
) -> None:
    """Measure latency, throughput, cold start and memory.

    Runs a bundle on this machine and prints the latency of each stage. Percentiles are nearest-rank; jitter is p99
    minus p50. Reading and decoding the image is not included.
    """
    import json as json_module

    from ..runtime.profiling.picture import write_picture
    from ..runtime.profiling.profile import Options, profile_bundle
    from .options import check_picture, numbers

    options = Options(
        backend=backend,
        precision=precision,
        batches=numbers(batch, "--batch", "1,4,16"),
        streams=streams,
        seconds=seconds,
        threads=threads,
        image=image,
        cold_starts=cold_starts,
        device=device,
    )
    if plot is not None:
        check_picture(plot, "--plot", "profile.png")
    with ConsoleProgress() as progress:
        found = profile_bundle(bundle, options, progress=progress)
    print(json_module.dumps(found.to_json(), ensure_ascii=False, allow_nan=False) if json else _text(found))
    for note in found.notes():
        print(f"leakrt: {printable(note)}", file=sys.stderr)
    if plot is not None:
        write_picture(plot, found)  # after the output, so that the results are printed even if the plot fails


def _text(found: Profile) -> str:
    runs, (width, height) = found.runs, found.image
    head = f"{runs.backend} {runs.version} {runs.precision} on {runs.device}"
    threads = f"{runs.threads} threads" + (f" in each of {found.streams} streams" if found.streams > 1 else "")
    parts = [f"{coloured(head, 'bold')}\n{threads}, image {width} x {height}, bundle {found.bundle}"]
    for batch in found.batches:
        title = f"batch {batch.batch}: {batch.end_to_end.samples} calls in {batch.seconds:.1f} s, milliseconds"
        parts.append(f"{coloured(title, 'bold')}\n{table(_stages(batch))}")
    parts.append(f"{coloured('throughput', 'bold')}\n{table(_throughput(found))}")
    parts.append(f"{coloured('this machine', 'bold')}\n{table(_machine(found))}")
    return "\n\n".join(parts)


def _stages(batch: BatchProfile) -> list[tuple[str, ...]]:
    rows = [("", *(f"{column:>8}" for column in _COLUMNS))]
    rows += [_row(name, summary) for name, summary in batch.stages.items()]
    return [*rows, _row("outside the stages", batch.outside), _row("end to end", batch.end_to_end)]


def _row(name: str, summary: Summary) -> tuple[str, ...]:
    values = summary.to_json()
    return (name, *(f"{values[column]:8.3f}" for column in _COLUMNS))


def _throughput(found: Profile) -> list[tuple[str, ...]]:
    shares = [(b, b.end_to_end.p50 / b.batch) for b in found.batches]
    rows = [(str(b.batch), f"{b.images_per_second:15.4g}", f"{share:15.3f}") for b, share in shares]
    return [("batch", "images/s", "p50 ms/image"), *rows]


def _machine(found: Profile) -> list[tuple[str, ...]]:
    machine, memory, cold = found.machine, found.memory, found.cold_start
    rows: list[tuple[str, ...]] = [
        ("CPU", f"{machine.cpu}, {machine.cores} cores"),
        ("load average", f"{_number(machine.load_before)} before, {_number(machine.load_after)} after"),
        ("CPU used by other processes", _share(machine.busy_elsewhere)),
        ("host memory", f"{_size(memory.host_resident)} now, peak {_size(memory.host_peak)}"),
        ("device memory", "none used" if memory.device is None else size(memory.device)),
    ]
    if cold is not None:
        parts = f"load {cold.load_ms:.0f} ms + first check {cold.first_check_ms:.0f} ms"
        rows += [
            ("load to first verdict", f"{cold.load_to_verdict_ms:.0f} ms ({parts}), median of {cold.runs} processes"),
            ("process to first verdict", f"{cold.process_ms:.0f} ms, including imports {cold.import_ms:.0f} ms"),
            ("peak memory of such a process", _size(cold.peak_bytes)),
        ]
    return rows


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.0f} %"


def _size(count: int | None) -> str:
    return "unknown" if count is None else size(count)

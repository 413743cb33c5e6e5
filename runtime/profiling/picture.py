"""Draw a profile as a PNG: the stages at every batch size, and throughput over batch size."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import require
from ...core.files import atomic_write
from .measure import BatchProfile
from .profile import Profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

END_TO_END, OUTSIDE = "end to end", "outside the stages"
_DPI = 120
_MIN_MS = 1e-3  # ms; lower end of the log axis


def write_picture(path: Path, profile: Profile) -> None:
    """Draw a profile and write it to `path`. Raises MissingExtraError without matplotlib, StorageError."""
    atomic_write(path, draw(profile))


def draw(profile: Profile) -> bytes:
    """Return the picture as PNG bytes."""
    require("matplotlib", "train")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = len(profile.batches[0].stages) + 2
    figure = Figure(figsize=(11.0, 2.2 + 0.16 * rows * (1 + len(profile.batches))), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(5, 3))
    _draw_stages(left, profile.batches)
    _draw_throughput(right, profile.batches)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=8, fontsize=8, frameon=False)
    runs, streams = profile.runs, f", {profile.streams} streams" if profile.streams > 1 else ""
    title = f"{runs.backend} {runs.version} {runs.precision} on {runs.device}, {runs.threads} threads{streams}"
    figure.suptitle("\n".join([title, *profile.notes()]), fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def _draw_stages(axes: Axes, batches: tuple[BatchProfile, ...]) -> None:
    """Draw, per stage and batch size, a bar to p50, a line from there to p99 and a tick at the maximum."""
    names = [*batches[0].stages, OUTSIDE, END_TO_END]
    height = 0.8 / len(batches)
    for position, batch in enumerate(batches):
        summaries = [*batch.stages.values(), batch.outside, batch.end_to_end]
        places = [row - 0.4 + (position + 0.5) * height for row in range(len(names))]
        colour = f"C{position % 10}"
        axes.barh(places, [max(_MIN_MS, s.p50) for s in summaries], 0.9 * height, color=colour, alpha=0.75,
                  label=f"batch {batch.batch}")  # fmt: skip
        for place, s in zip(places, summaries, strict=True):
            axes.plot([max(_MIN_MS, s.p50), max(_MIN_MS, s.p99)], [place, place], color="black", linewidth=1.0)
            axes.plot(max(_MIN_MS, s.max), place, "|", color="black", markersize=5)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="ms per batch", title="bar: p50, line: to p99, tick: maximum")
    axes.title.set_fontsize(9)
    axes.grid(axis="x", which="major", linewidth=0.4, alpha=0.6)


def _draw_throughput(axes: Axes, batches: tuple[BatchProfile, ...]) -> None:
    ordered = sorted(batches, key=lambda b: b.batch)
    sizes, rates = [b.batch for b in ordered], [b.images_per_second for b in ordered]
    axes.plot(sizes, rates, "o-", color="tab:green")
    for size, rate in zip(sizes, rates, strict=True):
        axes.annotate(f"{rate:.3g}", (size, rate), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8)
    axes.set(xlabel="batch size", ylabel="images per second", xscale="log", ylim=(0, 1.2 * max(rates)))
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_title("throughput", fontsize=9)
    axes.grid(linewidth=0.4, alpha=0.6)

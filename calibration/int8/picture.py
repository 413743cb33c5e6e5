"""The sensitivity picture: score error and time of each layer in int8."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np

from ...core.errors import require
from ...core.files import atomic_write
from .sensitivity import LayerSensitivity

_INT8, _FLOAT = "#2a6f97", "#d1495b"
_DPI = 120


def sensitivity_picture(
    path: Path,
    sensitivities: Sequence[LayerSensitivity],
    float_layers: Collection[str],
    *,
    fp32_ms: Mapping[str, float],
    int8_ms: Mapping[str, float],
) -> None:
    """Write a PNG with the score error of each layer quantised on its own, and its time in fp32 and in the variant.

    Layers are in the order of the graph. Those that returned to floating point have another colour. Raises
    MissingExtraError without matplotlib, StorageError.
    """
    require("matplotlib", "train")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [s.layer.name for s in sensitivities]
    places = np.arange(len(names))
    figure = Figure(figsize=(max(7.0, 0.45 * len(names) + 2.5), 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    error, time = figure.subplots(2, 1, sharex=True)
    colours = [_FLOAT if name in float_layers else _INT8 for name in names]
    error.bar(places, [s.score_error for s in sensitivities], 0.7, color=colours)
    error.set_ylabel("relative RMS score error\n(only this layer in int8)")
    error.set_title("Score error and time of each VAE encoder layer in int8")
    time.bar(places - 0.2, [fp32_ms.get(n, 0.0) for n in names], 0.4, color="#b0b7bf", label="fp32")
    time.bar(places + 0.2, [int8_ms.get(n, 0.0) for n in names], 0.4, color=colours, label="int8 variant")
    time.set_ylabel("time on ONNX Runtime (ms)")
    time.set_xticks(places, names, rotation=60, ha="right", fontsize=8)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=3, frameon=False)
    for axes in (error, time):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    buffer = BytesIO()
    figure.savefig(buffer, dpi=_DPI, format="png", metadata={"Software": None})
    atomic_write(path, buffer.getvalue())


def _legend() -> list[object]:
    from matplotlib.patches import Patch

    named = (("#b0b7bf", "fp32"), (_INT8, "int8"), (_FLOAT, "floating point"))
    return [Patch(color=colour, label=label) for colour, label in named]

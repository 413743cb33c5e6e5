"""Input patches of a convolution, for writing it as a matrix product (im2col)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...core.errors import ModelError, require

if TYPE_CHECKING:
    import onnx

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Window:
    """The window of a 2-D convolution with one group."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int] | None  # top, left, bottom, right; None for automatic padding
    upper: bool  # automatic padding puts the odd row or column at the end


def window_of(node: onnx.NodeProto, kernel: tuple[int, ...]) -> Window | None:
    """Return the window of a Conv node, or None if it is grouped or not 2-D."""
    onnx = require("onnx", "train")
    given: dict[str, Any] = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if len(kernel) != 2 or given.get("group", 1) != 1:
        return None
    auto = bytes(given.get("auto_pad", b"NOTSET"))
    pads = None if auto.startswith(b"SAME") else tuple(given.get("pads", (0, 0, 0, 0)))
    return Window(
        kernel=(kernel[0], kernel[1]),
        strides=tuple(given.get("strides", (1, 1))),
        dilations=tuple(given.get("dilations", (1, 1))),
        pads=(0, 0, 0, 0) if auto == b"VALID" else pads,
        upper=auto == b"SAME_UPPER",
    )


def patches(value: Array, window: Window, places: npt.NDArray[np.int64]) -> Array:
    """Return patches float32 [P, C * kh * kw] of an input [B, C, H, W], in the order of a weight's inner dimensions.

    `places`: flat indices [P] into the outputs [B, H', W']. Raises ModelError if one is out of range.
    """
    padded = np.pad(value, _padding(value.shape[2:], window))
    extent = [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
    views = np.lib.stride_tricks.sliding_window_view(padded, extent, axis=(2, 3))
    views = views[:, :, :: window.strides[0], :: window.strides[1], :: window.dilations[0], :: window.dilations[1]]
    batch, (height, width) = len(views), views.shape[2:4]
    if len(places) and int(places.max()) >= batch * height * width:
        raise ModelError(
            "the correction failed: a convolution has more outputs than its attributes allow; export the bundle again"
        )
    b, rest = np.divmod(places, height * width)
    y, x = np.divmod(rest, width)
    return np.ascontiguousarray(views[b, :, y, x]).reshape(len(places), -1)


def _padding(size: tuple[int, ...], window: Window) -> list[tuple[int, int]]:
    """Return the `pad_width` for numpy.pad. Automatic padding gives ceil(n / stride) outputs (ONNX Conv, auto_pad)."""
    if window.pads is not None:
        top, left, bottom, right = window.pads
        return [(0, 0), (0, 0), (top, bottom), (left, right)]
    found = [(0, 0), (0, 0)]
    for n, kernel, stride, dilation in zip(size, window.kernel, window.strides, window.dilations, strict=True):
        total = max(0, (-(-n // stride) - 1) * stride + (kernel - 1) * dilation + 1 - n)
        less, more = total // 2, total - total // 2
        found.append((less, more) if window.upper else (more, less))
    return found

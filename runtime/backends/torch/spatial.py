"""torch implementations of ONNX's image operators: convolutions, pools, norms, padding, resizing. See `operators`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ....core.errors import ModelError

Attributes = Mapping[str, Any]
Run = Callable[..., Any]
_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}


def _conv(attributes: Attributes) -> Run:
    strides, dilations = _pair(attributes, "strides"), _pair(attributes, "dilations")
    group = attributes.get("group", 1)
    pads = _pads(attributes, strides)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        top, left, bottom, right = pads(x, (weight.shape[2], weight.shape[3]), dilations)
        if (top, left) != (bottom, right):
            x = F.pad(x, (left, right, top, bottom))
            top = left = 0
        return F.conv2d(x, weight, bias, strides, (top, left), dilations, group)

    return run


def _average_pool(attributes: Attributes) -> Run:
    kernel, strides = tuple(attributes["kernel_shape"]), _pair(attributes, "strides")
    pads, counted = _pads(attributes, strides), bool(attributes.get("count_include_pad", 0))
    _refuse_ceiling(attributes, "AveragePool")

    def run(x: Tensor) -> Tensor:
        top, left, bottom, right = pads(x, kernel, (1, 1))
        if (top, left) == (bottom, right):
            return F.avg_pool2d(x, kernel, strides, (top, left), count_include_pad=counted)
        if not counted:
            raise ModelError("an AveragePool with uneven padding that does not count is not known to the torch backend")
        return F.avg_pool2d(F.pad(x, (left, right, top, bottom)), kernel, strides)

    return run


def _max_pool(attributes: Attributes) -> Run:
    kernel, strides, dilations = (
        tuple(attributes["kernel_shape"]), _pair(attributes, "strides"), _pair(attributes, "dilations"),
    )  # fmt: skip
    pads = _pads(attributes, strides)
    _refuse_ceiling(attributes, "MaxPool")

    def run(x: Tensor) -> Tensor:
        top, left, bottom, right = pads(x, kernel, dilations)
        if any((top, left, bottom, right)):
            x = F.pad(x, (left, right, top, bottom), value=-torch.inf)
        return F.max_pool2d(x, kernel, strides, 0, dilations)

    return run


def _refuse_ceiling(attributes: Attributes, operator: str) -> None:
    if attributes.get("ceil_mode", 0):
        raise ModelError(f"{operator} with ceil_mode is not known to the torch backend")


def _pair(attributes: Attributes, name: str) -> tuple[int, int]:
    values = tuple(attributes.get(name, (1, 1)))
    if len(values) != 2:
        raise ModelError(f"{name} {list(values)}: the torch backend knows operators on images only")
    return values


def _pads(attributes: Attributes, strides: tuple[int, int]) -> Callable[..., tuple[int, int, int, int]]:
    """Return a function from input, kernel and dilations to the padding (top, left, bottom, right)."""
    mode = attributes.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        stated = tuple(attributes.get("pads", (0, 0, 0, 0))) if mode == "NOTSET" else (0, 0, 0, 0)
        if len(stated) != 4:
            raise ModelError(f"pads {list(stated)}: the torch backend knows operators on images only")
        return lambda x, kernel, dilations: stated

    def same(x: Tensor, kernel: Sequence[int], dilations: Sequence[int]) -> tuple[int, int, int, int]:
        before, after = [], []
        for size, k, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
            total = max(0, (-(-size // stride) - 1) * stride + dilation * (k - 1) + 1 - size)
            small, large = total // 2, total - total // 2
            before.append(small if mode == "SAME_UPPER" else large)
            after.append(large if mode == "SAME_UPPER" else small)
        return before[0], before[1], after[0], after[1]

    return same


def _batch_norm(attributes: Attributes) -> Run:
    epsilon = attributes.get("epsilon", 1e-5)
    if attributes.get("training_mode", 0):
        raise ModelError("BatchNormalization in training mode is not known to the torch backend")
    return lambda x, scale, bias, mean, variance: F.batch_norm(x, mean, variance, scale, bias, eps=epsilon)


def _instance_norm(attributes: Attributes) -> Run:
    epsilon = attributes.get("epsilon", 1e-5)
    return lambda x, scale, bias: F.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


def _pad(attributes: Attributes) -> Run:
    mode = _PAD_MODES.get(attributes.get("mode", "constant"))
    if mode is None:
        raise ModelError(f"Pad in mode {attributes['mode']} is not known to the torch backend")

    def run(x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
        places = list(range(x.dim())) if axes is None else [a % x.dim() for a in axes.tolist()]
        sizes = pads.tolist()
        by_axis = dict(zip(places, zip(sizes[: len(places)], sizes[len(places) :], strict=True), strict=True))
        while by_axis and not any(by_axis[min(by_axis)]):
            del by_axis[min(by_axis)]  # torch pads from the last axis and reflects only the image axes
        if not by_axis:
            return x
        first = min(by_axis) if mode == "constant" else min(*by_axis, x.dim() - 2)
        flat = [n for axis in reversed(range(first, x.dim())) for n in by_axis.get(axis, (0, 0))]
        if mode == "constant":
            return F.pad(x, flat, value=0.0 if value is None else float(value))
        return F.pad(x, flat, mode)

    return run


def _resize(attributes: Attributes) -> Run:
    mode, rule = attributes.get("mode", "nearest"), attributes.get("coordinate_transformation_mode", "half_pixel")
    rounding = attributes.get("nearest_mode", "round_prefer_floor")
    nearest = mode == "nearest" and rule == "asymmetric" and rounding == "floor"
    corners = rule == "align_corners"
    if not nearest and not (mode == "linear" and (corners or rule in ("half_pixel", "pytorch_half_pixel"))):
        raise ModelError(f"Resize in mode {mode} with {rule} and {rounding} is not known to the torch backend")

    def run(x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None) -> Tensor:
        size = scale = None
        if sizes is not None:
            target = sizes.tolist()
            size = target[2:]
        else:
            assert scales is not None
            factors = scales.tolist()
            target = [int(n * s) for n, s in zip(x.shape, factors, strict=True)]
            scale = factors[2:]  # coordinates use the scale even if the size was rounded down
        if target[:2] != list(x.shape[:2]) or len(target) != 4:
            raise ModelError("a Resize of other axes than height and width is not known to the torch backend")
        if nearest:
            return F.interpolate(x, size, scale, "nearest")
        return F.interpolate(x, size, scale, "bilinear", align_corners=corners)

    return run


def _depth_to_space(attributes: Attributes) -> Run:
    side = attributes["blocksize"]
    if attributes.get("mode", "DCR") == "CRD":
        return lambda x: F.pixel_shuffle(x, side)

    def run(x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.reshape(b, side, side, c // side**2, h, w)
        return x.permute(0, 3, 4, 1, 5, 2).reshape(b, c // side**2, h * side, w * side)

    return run


def _space_to_depth(attributes: Attributes) -> Run:
    side = attributes["blocksize"]

    def run(x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.reshape(b, c, h // side, side, w // side, side)
        return x.permute(0, 3, 5, 1, 2, 4).reshape(b, c * side**2, h // side, w // side)

    return run


SPATIAL: dict[str, Callable[[Attributes], Run]] = {
    "Conv": _conv,
    "AveragePool": _average_pool,
    "MaxPool": _max_pool,
    "GlobalAveragePool": lambda a: lambda x: x.mean(tuple(range(2, x.dim())), keepdim=True),
    "GlobalMaxPool": lambda a: lambda x: x.amax(tuple(range(2, x.dim())), keepdim=True),
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "Pad": _pad,
    "Resize": _resize,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}

"""Group norm and SiLU as one operation. See `fusion` for where they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .fusion import GROUP_NORM, SILU

Run = Callable[..., Any]
# x [B, C, ...], groups, epsilon, whether SiLU follows, weight and bias float32 [C] or None
Norm = Callable[[Tensor, int, float, bool, Tensor | None, Tensor | None], Tensor]
_ROW_RANK = 3
_PROBE, _PROBE_GROUPS, _PROBE_ERROR = (2, 64, 37, 29), 32, 4e-3  # float16 rounds values up to 8 by so much


def torch_norm(
    x: Tensor, groups: int, epsilon: float, silu: bool, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    """x normalised over each of `groups`, then scaled and shifted by channel, then SiLU if asked for.

    Statistics are float32 whatever x is; the result has x's dtype and memory format.
    """
    found = F.group_norm(x, groups, _like(weight, x), _like(bias, x), epsilon)
    return F.silu(found, inplace=True) if silu else found


def find_norm(device: torch.device) -> Norm:
    """The norm to use on a device: Triton's kernels on a GPU where they give what torch gives, else torch's own.

    Triton compiles for the GPU that is there, with a compiler of its own: that may be missing or fail.
    """
    if device.type != "cuda":
        return torch_norm
    try:
        from .norm_kernels import group_norm_silu, takes
    except ImportError:
        return torch_norm
    norm = with_kernels(takes, group_norm_silu)
    return norm if _agrees(norm, device) else torch_norm


def with_kernels(takes: Callable[[Tensor, int], bool], kernels: Norm) -> Norm:
    """The norm that runs `kernels` on what it `takes`, which are images, and torch's own on the rest.

    An attention norms the pixels of an image in a row, [B, C, H x W]: they are an image of width 1.
    """

    def norm(x: Tensor, groups: int, epsilon: float, silu: bool, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        image = x.unsqueeze(-1) if x.dim() == _ROW_RANK else x
        if not takes(image, groups):
            return torch_norm(x, groups, epsilon, silu, weight, bias)
        return kernels(image, groups, epsilon, silu, weight, bias).reshape(x.shape)

    return norm


def _agrees(norm: Norm, device: torch.device) -> bool:
    """Whether a norm gives on float16 what torch gives in float64."""
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(shape, generator=generator) for shape in (_PROBE, (_PROBE[1],), (_PROBE[1],)))
    half = (3.0 * x + 5.0).to(device, torch.float16).contiguous(memory_format=torch.channels_last)
    on_device = weight.to(device), bias.to(device)
    try:
        found = norm(half, _PROBE_GROUPS, 1e-6, True, *on_device)
    except Exception:  # a compiler, a driver and a cache folder are at work: whatever it is, torch's own norm is left
        return False
    doubles = (w.double() for w in on_device)
    wanted = torch_norm(half.double(), _PROBE_GROUPS, 1e-6, True, *doubles)
    return bool((found.double() - wanted).abs().max() <= _PROBE_ERROR)


def fused(norm: Norm) -> dict[str, Callable[[Mapping[str, Any]], Run]]:
    """The fused operators by name, as in `operators.OPERATORS`."""
    return {GROUP_NORM: lambda attributes: _group_norm(attributes, norm), SILU: lambda attributes: F.silu}


def _group_norm(attributes: Mapping[str, Any], norm: Norm) -> Run:
    groups, epsilon, silu = int(attributes["groups"]), float(attributes["epsilon"]), bool(attributes["silu"])

    def run(x: Tensor, shape: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        weight = None if weight is None else weight.reshape(-1)
        bias = None if bias is None else bias.reshape(-1)
        sizes = [x.shape[i] if n == 0 else n for i, n in enumerate(shape.tolist())]
        plain = weight is None and bias is None
        whole = weight is not None and bias is not None and sizes[1] == x.shape[1]
        if x.shape[1] % groups or not (plain or whole):
            return _as_written(x, groups, epsilon, silu, sizes, weight, bias)
        return norm(x, groups, epsilon, silu, weight, bias).reshape(sizes)

    return run


def _like(weight: Tensor | None, x: Tensor) -> Tensor | None:
    return None if weight is None else weight.to(x.dtype)


def _as_written(
    x: Tensor,
    groups: int,
    epsilon: float,
    silu: bool,
    sizes: list[int],
    weight: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """The five operators as they stood, for groups that cut through channels, or half of an affine part."""
    split = x.reshape(x.shape[0], groups, -1).float()
    variance, mean = torch.var_mean(split, -1, correction=0, keepdim=True)
    found = ((split - mean) * torch.rsqrt(variance + epsilon)).reshape(sizes)
    by_channel = (-1, *(1,) * (len(sizes) - 2))
    found = found if weight is None else found * weight.reshape(by_channel)
    found = found if bias is None else found + bias.reshape(by_channel)
    return (F.silu(found) if silu else found).to(x.dtype)

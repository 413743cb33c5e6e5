"""Group norm and SiLU as one operation. See `fusion` for where they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .fusion import GROUP_NORM, SILU

Run = Callable[..., Any]


def _group_norm(attributes: Mapping[str, Any]) -> Run:
    groups, epsilon, silu = int(attributes["groups"]), float(attributes["epsilon"]), bool(attributes["silu"])

    def run(x: Tensor, shape: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        weight = None if weight is None else weight.reshape(-1)
        bias = None if bias is None else bias.reshape(-1)
        sizes = [x.shape[i] if n == 0 else n for i, n in enumerate(shape.tolist())]
        if x.shape[1] % groups or (sizes[1] != x.shape[1] and not (weight is None and bias is None)):
            return _as_written(x, groups, epsilon, silu, sizes, weight, bias)
        return group_norm(x, groups, epsilon, silu, weight, bias).reshape(sizes)

    return run


def group_norm(
    x: Tensor, groups: int, epsilon: float, silu: bool, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    """x [B, C, ...] normalised over each of `groups`, then scaled and shifted by channel, then SiLU if asked for.

    Statistics are float32 whatever x is; the result has x's dtype and memory format. weight and bias: float32 [C].
    """
    found = F.group_norm(x, groups, _like(weight, x), _like(bias, x), epsilon)
    return F.silu(found, inplace=True) if silu else found


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
    """The five operators as they stood, for groups that cut through channels."""
    split = x.reshape(x.shape[0], groups, -1).float()
    variance, mean = torch.var_mean(split, -1, correction=0, keepdim=True)
    found = ((split - mean) * torch.rsqrt(variance + epsilon)).reshape(sizes)
    by_channel = (-1, *(1,) * (len(sizes) - 2))
    found = found if weight is None else found * weight.reshape(by_channel)
    found = found if bias is None else found + bias.reshape(by_channel)
    return (F.silu(found) if silu else found).to(x.dtype)


FUSED: dict[str, Callable[[Mapping[str, Any]], Run]] = {
    GROUP_NORM: _group_norm,
    SILU: lambda attributes: F.silu,
}

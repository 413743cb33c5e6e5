"""Fused addition, group norm and SiLU; see `fusion` for the operators they replace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .fusion import GROUP_NORM, NOTHING, SILU, SUM, PreNormSum

Run = Callable[..., Any]
# x [B, C, ...], groups, epsilon, whether SiLU follows, weight and bias float32 [C] or None, addends of x. Returns the
# normed image and the sum; the sum is undefined unless `PreNormSum.keep` is set.
Norm = Callable[[Tensor, int, float, bool, Tensor | None, Tensor | None, PreNormSum], tuple[Tensor, Tensor]]
# x [B, C, H, W], `other` of the same shape or None, shift float32 [C] or None, zero padding (below, right) of the sum
Add = Callable[[Tensor, Tensor | None, Tensor | None, tuple[int, int]], Tensor]
_ROW_RANK = 3
# The error is twice the rounding error of float16 for values up to 8.
_PROBE, _PROBE_GROUPS, _PROBE_ERROR = (2, 64, 37, 29), 32, 8e-3


def torch_add(x: Tensor, other: Tensor | None, shift: Tensor | None, pads: tuple[int, int] = (0, 0)) -> Tensor:
    """Return x + other + shift, summed in float32, rounded once to x's dtype, zero-padded by `pads` (below, right)."""
    found = x.float() if other is None else x.float() + other.float()
    if shift is not None:
        found = found + shift.reshape(-1, *(1,) * (x.dim() - 2))
    found = found.to(x.dtype)
    return F.pad(found, (0, pads[1], 0, pads[0])) if any(pads) else found


def torch_norm(
    x: Tensor, groups: int, epsilon: float, silu: bool, weight: Tensor | None, bias: Tensor | None,
    added: PreNormSum = NOTHING,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the normed sum, with weight, bias and, if `silu`, SiLU applied, and the sum x + other + shift.

    Statistics are float32 for every dtype of x; the results have x's dtype and memory format.
    """
    if added.other is not None or added.shift is not None:
        x = torch_add(x, added.other, added.shift)
    found = F.group_norm(x, groups, _like(weight, x), _like(bias, x), epsilon)
    return F.silu(found, inplace=True) if silu else found, x


@dataclass(frozen=True)
class NormKernels:
    """Implementations of norms and sums.

    `biases`: move convolution biases into them, which is faster where a bias is a separate pass over the image, as in
    torch on a GPU.
    """

    norm: Norm = torch_norm
    add: Add = torch_add
    biases: bool = False


TORCH = NormKernels()


def find_norm_kernels(device: torch.device) -> NormKernels:
    """Return Triton's kernels on a GPU where their results agree with torch's, else torch's implementations.

    Triton compiles for the current GPU; its compiler may be missing or fail.
    """
    if device.type != "cuda":
        return TORCH
    try:
        from .norm_kernels import add, group_norm_silu, takes
    except ImportError:
        return TORCH
    found = with_kernels(takes, group_norm_silu, add)
    return found if _agrees(found, device) else TORCH


def with_kernels(takes: Callable[..., bool], norm_kernel: Norm, add_kernel: Add) -> NormKernels:
    """Return implementations that use the kernels for inputs that `takes` accepts, else torch.

    An attention norms pixels as [B, C, H x W]; these run as images of width 1.
    """

    def norm(
        x: Tensor, groups: int, epsilon: float, silu: bool, weight: Tensor | None, bias: Tensor | None,
        added: PreNormSum = NOTHING,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        image = x.unsqueeze(-1) if x.dim() == _ROW_RANK and added.other is None else x
        if not takes(image, groups, added.other):
            return torch_norm(x, groups, epsilon, silu, weight, bias, added)
        y, summed = norm_kernel(image, groups, epsilon, silu, weight, bias, added)
        return _shaped(y, x.shape), _shaped(summed, x.shape)

    def add(x: Tensor, other: Tensor | None, shift: Tensor | None, pads: tuple[int, int] = (0, 0)) -> Tensor:
        return (add_kernel if takes(x, 1, other) else torch_add)(x, other, shift, pads)

    return NormKernels(norm, add, biases=True)


def _agrees(kernels: NormKernels, device: torch.device) -> bool:
    """Return whether the kernels in float16 agree with torch in float64, with and without addends."""
    generator = torch.Generator().manual_seed(0)
    channels = _PROBE[1]
    x, other, weight, bias, shift = (
        torch.randn(shape, generator=generator) for shape in (_PROBE, _PROBE, (channels,), (channels,), (channels,))
    )
    half, added = (
        t.to(device, torch.float16).contiguous(memory_format=torch.channels_last) for t in (3.0 * x + 5.0, other)
    )
    affine, moved = (weight.to(device), bias.to(device)), shift.to(device)

    def wrong(found: Tensor, wanted: Tensor) -> bool:
        return not bool((found.double() - wanted).abs().max() <= _PROBE_ERROR)

    try:
        for case in (NOTHING, PreNormSum(shift=moved), PreNormSum(added, moved, keep=True)):
            y, summed = kernels.norm(half, _PROBE_GROUPS, 1e-6, True, *affine, case)
            exact = _sum_in_double(half, case)
            # Compare the norm with that of the rounded sum, because a norm amplifies rounding errors.
            if wrong(y, _norm_in_double(summed.double() if case.keep else exact, affine)):
                return False
            if case.keep and wrong(summed, exact):
                return False
        return not wrong(kernels.add(half, added, moved, (1, 2)), F.pad(exact, (0, 2, 0, 1)))
    except Exception:  # compiler, driver and cache folder can all fail: use torch then
        return False


def _sum_in_double(x: Tensor, added: PreNormSum) -> Tensor:
    found = x.double() if added.other is None else x.double() + added.other.double()
    return found if added.shift is None else found + added.shift.double().reshape(-1, 1, 1)


def _norm_in_double(x: Tensor, affine: tuple[Tensor, Tensor]) -> Tensor:
    weight, bias = affine
    return F.silu(F.group_norm(x, _PROBE_GROUPS, weight.double(), bias.double(), 1e-6))


def fused(kernels: NormKernels) -> dict[str, Callable[[Mapping[str, Any]], Run]]:
    """Return the fused operators by name, as in `operators.OPERATORS`."""
    return {
        GROUP_NORM: lambda attributes: _group_norm(attributes, kernels.norm),
        SUM: lambda attributes: _sum(attributes, kernels.add),
        SILU: lambda attributes: F.silu,
    }


def _sum(attributes: Mapping[str, Any], add: Add) -> Run:
    pads = (int(attributes["below"]), int(attributes["right"]))
    return lambda x, other=None, shift=None: add(x, other, shift, pads)


def _group_norm(attributes: Mapping[str, Any], norm: Norm) -> Run:
    groups, epsilon, silu = int(attributes["groups"]), float(attributes["epsilon"]), bool(attributes["silu"])
    keep = attributes["outputs"] > 1

    def run(
        x: Tensor, shape: Tensor, weight: Tensor | None = None, bias: Tensor | None = None,
        other: Tensor | None = None, shift: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:  # fmt: skip
        weight = None if weight is None else weight.reshape(-1)
        bias = None if bias is None else bias.reshape(-1)
        sizes = [x.shape[i] if n == 0 else n for i, n in enumerate(shape.tolist())]
        plain = weight is None and bias is None
        whole = weight is not None and bias is not None and sizes[1] == x.shape[1]
        if x.shape[1] % groups or not (plain or whole):
            summed = torch_add(x, other, shift)
            y = _as_written(summed, groups, epsilon, silu, sizes, weight, bias)
        else:
            y, summed = norm(x, groups, epsilon, silu, weight, bias, PreNormSum(other, shift, keep))
        y = _shaped(y, sizes)
        return (y, summed) if keep else y

    return run


def _shaped(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Reshape x only if needed: a no-op reshape of a batch of one changes its first stride.

    cuDNN then treats a channels-last image as contiguous.
    """
    return x if tuple(x.shape) == tuple(sizes) else x.reshape(tuple(sizes))


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
    """Run the unfused operators, for groups that do not divide the channels or an incomplete affine part."""
    split = x.reshape(x.shape[0], groups, -1).float()
    variance, mean = torch.var_mean(split, -1, correction=0, keepdim=True)
    found = ((split - mean) * torch.rsqrt(variance + epsilon)).reshape(sizes)
    by_channel = (-1, *(1,) * (len(sizes) - 2))
    found = found if weight is None else found * weight.reshape(by_channel)
    found = found if bias is None else found + bias.reshape(by_channel)
    return (F.silu(found) if silu else found).to(x.dtype)

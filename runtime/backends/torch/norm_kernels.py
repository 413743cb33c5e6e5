"""Triton kernels for sums and group norms with SiLU of channels-last images.

A group norm is three launches, with two reads and one write of the image:

    1. statistics  each of at most 256 programs reads every n-th tile of rows (pixels) with all channels and writes, per
                   group, the mean and the sum of squared deviations of its tiles, float32
    2. affine      one program per image merges them (Chan, Golub and LeVeque 1979) and writes, per channel, the factor
                   and the summand of the normalization
    3. apply       y = silu(factor x + summand), tile by tile

Addends of x (another image, a shift per channel) are added in the same launches. The first launch writes the sum if it
is needed; a shift alone is free.

There are no atomic additions, so equal images give equal bits. torch's own group norm first copies a channels-last
image to another layout. `group_norm` compares these kernels with torch before it uses them.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .fusion import NOTHING, PreNormSum

_TILE = 8192  # elements of a tile: 64 pixels of 128 channels
_PROGRAMS = 256  # of the statistics of one image; a power of two
_MAX_CHANNELS = 4096


@triton.jit  # type: ignore[untyped-decorator]
def _statistics(
    x: tl.tensor, other: tl.tensor, shift: tl.tensor, kept: tl.tensor, counts: tl.tensor, means: tl.tensor,
    deviations: tl.tensor, pixels: tl.tensor,
    C: tl.constexpr, G: tl.constexpr, ROWS: tl.constexpr, OTHER: tl.constexpr, SHIFT: tl.constexpr, KEEP: tl.constexpr,
) -> None:  # fmt: skip
    program, image, programs = tl.program_id(0), tl.program_id(1), tl.num_programs(0)
    channels = tl.arange(0, C)
    count = tl.zeros((G,), tl.float32)
    mean = tl.zeros((G,), tl.float32)
    squares = tl.zeros((G,), tl.float32)
    for begin in range(program * ROWS, pixels, programs * ROWS):
        rows = begin + tl.arange(0, ROWS)
        inside = (rows < pixels)[:, None]
        places = (image * pixels + rows)[:, None].to(tl.int64) * C + channels[None, :]
        values = tl.load(x + places, mask=inside, other=0.0).to(tl.float32)
        if OTHER:
            values += tl.load(other + places, mask=inside, other=0.0).to(tl.float32)
        if SHIFT:
            values += tl.load(shift + channels)[None, :]
        if KEEP:
            rounded = values.to(kept.dtype.element_ty)
            tl.store(kept + places, rounded, mask=inside)
            values = rounded.to(tl.float32)
        values = tl.where(inside, values, 0.0)
        added = (tl.minimum(ROWS, pixels - begin) * (C // G)).to(tl.float32)
        here = tl.sum(tl.reshape(tl.sum(values, 0), (G, C // G)), 1) / added
        centre = tl.reshape(tl.broadcast_to(here[:, None], (G, C // G)), (C,))
        off = tl.where(inside, values - centre[None, :], 0.0)
        spread = tl.sum(tl.reshape(tl.sum(off * off, 0), (G, C // G)), 1)
        total = count + added
        difference = here - mean
        squares += spread + difference * difference * (count * added / total)
        mean += difference * (added / total)
        count = total
    out = (image * programs + program) * G + tl.arange(0, G)
    tl.store(counts + out, count)
    tl.store(means + out, mean)
    tl.store(deviations + out, squares)


@triton.jit  # type: ignore[untyped-decorator]
def _affine(
    counts: tl.tensor, means: tl.tensor, deviations: tl.tensor, weight: tl.tensor, bias: tl.tensor, shift: tl.tensor,
    factors: tl.tensor, summands: tl.tensor, programs: tl.tensor, epsilon: tl.tensor,
    C: tl.constexpr, G: tl.constexpr, P: tl.constexpr, AFFINE: tl.constexpr, SHIFT: tl.constexpr,
) -> None:  # fmt: skip
    image = tl.program_id(0)
    who = tl.arange(0, P)[:, None]
    places, there = (image * programs + who) * G + tl.arange(0, G)[None, :], who < programs
    count = tl.load(counts + places, mask=there, other=0.0)
    mean = tl.load(means + places, mask=there, other=0.0)
    total = tl.sum(count, 0)
    centre = tl.sum(count * mean, 0) / total
    off = mean - centre[None, :]
    squares = tl.sum(tl.load(deviations + places, mask=there, other=0.0) + count * off * off, 0)
    scale = 1.0 / tl.sqrt(squares / total + epsilon)
    channels = tl.arange(0, C)
    factor = tl.reshape(tl.broadcast_to(scale[:, None], (G, C // G)), (C,))
    summand = -tl.reshape(tl.broadcast_to(centre[:, None], (G, C // G)), (C,)) * factor
    if AFFINE:
        w = tl.load(weight + channels)
        summand = summand * w + tl.load(bias + channels)
        factor = factor * w
    if SHIFT:  # not included in the stored image
        summand += factor * tl.load(shift + channels)
    tl.store(factors + image * C + channels, factor)
    tl.store(summands + image * C + channels, summand)


@triton.jit  # type: ignore[untyped-decorator]
def _apply(
    x: tl.tensor, factors: tl.tensor, summands: tl.tensor, y: tl.tensor, pixels: tl.tensor,
    C: tl.constexpr, ROWS: tl.constexpr, SILU: tl.constexpr,
) -> None:  # fmt: skip
    tile, image = tl.program_id(0), tl.program_id(1)
    rows, channels = tile * ROWS + tl.arange(0, ROWS), tl.arange(0, C)
    inside = (rows < pixels)[:, None]
    places = (image * pixels + rows)[:, None].to(tl.int64) * C + channels[None, :]
    factor, summand = tl.load(factors + image * C + channels), tl.load(summands + image * C + channels)
    values = tl.load(x + places, mask=inside, other=0.0).to(tl.float32) * factor[None, :] + summand[None, :]
    if SILU:
        values = values / (1.0 + tl.exp(-values))
    tl.store(y + places, values.to(y.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _add(
    x: tl.tensor, other: tl.tensor, shift: tl.tensor, out: tl.tensor, height: tl.tensor, width: tl.tensor,
    pixels: tl.tensor, row: tl.tensor, C: tl.constexpr, ROWS: tl.constexpr, OTHER: tl.constexpr, SHIFT: tl.constexpr,
) -> None:  # fmt: skip
    tile, image = tl.program_id(0), tl.program_id(1)
    places, channels = tile * ROWS + tl.arange(0, ROWS), tl.arange(0, C)
    down, right = places // row, places % row
    inside = ((down < height) & (right < width))[:, None]
    source = ((image * height + down) * width + right)[:, None].to(tl.int64) * C + channels[None, :]
    values = tl.load(x + source, mask=inside, other=0.0).to(tl.float32)
    if OTHER:
        values += tl.load(other + source, mask=inside, other=0.0).to(tl.float32)
    if SHIFT:
        values += tl.load(shift + channels)[None, :]
    values = tl.where(inside, values, 0.0)
    target = (image * pixels + places)[:, None].to(tl.int64) * C + channels[None, :]
    tl.store(out + target, values.to(out.dtype.element_ty), mask=(places < pixels)[:, None])


def takes(x: Tensor, groups: int, other: Tensor | None = None) -> bool:
    """Return whether the kernels support x and `other`.

    x must be a channels-last image [B, C, H, W] with C and groups powers of two; `other` must match x.
    """
    if x.dim() != 4 or not x.is_contiguous(memory_format=torch.channels_last):
        return False
    # Do not compare strides: for a batch of one they are arbitrary.
    if other is not None and not (
        (other.shape, other.dtype) == (x.shape, x.dtype) and other.is_contiguous(memory_format=torch.channels_last)
    ):
        return False
    channels = x.shape[1]
    return channels <= _MAX_CHANNELS and _is_power(channels) and _is_power(groups) and channels % groups == 0


def group_norm_silu(
    x: Tensor, groups: int, epsilon: float, silu: bool, weight: Tensor | None, bias: Tensor | None,
    added: PreNormSum = NOTHING,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Compute `group_norm.torch_norm` for an x that `takes` accepts. weight, bias: float32 [C], both or neither."""
    batch, channels, height, width = x.shape
    pixels = height * width
    rows = max(1, _TILE // channels)
    tiles = -(-pixels // rows)
    programs = min(tiles, _PROGRAMS)
    partial = x.new_empty((3, batch, programs, groups), dtype=torch.float32)
    affine = x.new_empty((2, batch, channels), dtype=torch.float32)
    y, keep, shifted = torch.empty_like(x), added.keep or added.other is not None, added.shift is not None
    summed = torch.empty_like(x) if keep else x
    _statistics[(programs, batch)](
        x, added.other, added.shift, summed, *partial, pixels,
        C=channels, G=groups, ROWS=rows, OTHER=added.other is not None, SHIFT=shifted, KEEP=keep,
    )  # fmt: skip
    _affine[(batch,)](
        *partial, weight, bias, added.shift, *affine, programs, epsilon,
        C=channels, G=groups, P=triton.next_power_of_2(programs), AFFINE=weight is not None,
        SHIFT=shifted and not keep,
    )  # fmt: skip
    _apply[(tiles, batch)](summed, *affine, y, pixels, C=channels, ROWS=rows, SILU=silu)
    return y, summed


def add(x: Tensor, other: Tensor | None, shift: Tensor | None, pads: tuple[int, int] = (0, 0)) -> Tensor:
    """Compute `group_norm.torch_add` in one launch, for an x that `takes` accepts."""
    batch, channels, height, width = x.shape
    down, right = height + pads[0], width + pads[1]
    out = x.new_empty((batch, down, right, channels)).permute(0, 3, 1, 2)  # channels last
    rows = max(1, _TILE // channels)
    _add[(-(-down * right // rows), batch)](
        x, other, shift, out, height, width, down * right, right,
        C=channels, ROWS=rows, OTHER=other is not None, SHIFT=shift is not None,
    )  # fmt: skip
    return out


def _is_power(n: int) -> bool:
    return n > 0 and n & (n - 1) == 0

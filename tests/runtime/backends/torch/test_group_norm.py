"""Group norm with SiLU: torch's implementation, selection of kernels, and norms that run unfused."""

from __future__ import annotations

import sys

import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from leakrt.runtime.backends.torch import group_norm
from leakrt.runtime.backends.torch.fusion import GROUP_NORM, NOTHING, SILU, SUM, PreNormSum
from leakrt.runtime.backends.torch.group_norm import (
    TORCH,
    NormKernels,
    find_norm_kernels,
    fused,
    torch_add,
    torch_norm,
    with_kernels,
)

CPU = torch.device("cpu")
EPSILON = 1e-5


def drawn(*shape: int, seed: int = 0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_definition(x, groups, epsilon, silu, weight=None, bias=None):
    """Compute the definition in float64."""
    split = x.double().reshape(x.shape[0], groups, -1)
    mean, variance = split.mean(-1, keepdim=True), split.var(-1, correction=0, keepdim=True)
    found = ((split - mean) / (variance + epsilon).sqrt()).reshape(x.shape)
    by_channel = (-1, *(1,) * (x.dim() - 2))
    found = found if weight is None else found * weight.double().reshape(by_channel)
    found = found if bias is None else found + bias.double().reshape(by_channel)
    return found / (1 + (-found).exp()) if silu else found


def assert_near(found, wanted, tolerance=2e-5):
    assert found.shape == wanted.shape
    assert ((found.double() - wanted).abs() / wanted.abs().clamp(min=1)).max() <= tolerance


@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(1, 6, 1, 3), (3, 12, 21, 13), (2, 6, 35)])
def test_it_follows_the_definition_at_any_size(shape, affine, silu):
    x = 3 * drawn(*shape) + 7
    weight, bias = (drawn(shape[1], seed=s) if affine else None for s in (1, 2))
    before = x.clone()
    assert_near(torch_norm(x, 3, EPSILON, silu, weight, bias)[0], by_definition(x, 3, EPSILON, silu, weight, bias))
    assert torch.equal(x, before)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_float16_images_keep_dtype_and_layout_and_have_float32_statistics(memory_format):
    x = (50 * drawn(2, 8, 21, 13) + 300).half().contiguous(memory_format=memory_format)  # the squares overflow float16
    weight, bias = drawn(8, seed=1), drawn(8, seed=2)
    found, _ = torch_norm(x, 4, EPSILON, True, weight, bias)
    assert found.dtype == torch.float16
    assert found.is_contiguous(memory_format=memory_format)
    assert_near(found, by_definition(x, 4, EPSILON, True, weight, bias), 3e-3)


def test_kernels_run_inputs_that_they_accept_and_torch_the_rest():
    asked = []

    def takes(x, groups, other=None):
        asked.append((tuple(x.shape), groups))
        return groups == 2

    norm = with_kernels(takes, lambda x, *rest: (torch.full_like(x, 5.0), x), torch_add).norm
    image, row = drawn(2, 4, 3, 5), drawn(2, 4, 15)
    assert (norm(image, 2, EPSILON, False, None, None)[0] == 5).all()
    found, _ = norm(row, 2, EPSILON, False, None, None)  # pixels as [B, C, H x W] run as an image of width 1
    assert (found == 5).all()
    assert found.shape == row.shape
    for x in (image, row):
        assert_near(norm(x, 1, EPSILON, True, None, None)[0], by_definition(x, 1, EPSILON, True))
    assert asked == [((2, 4, 3, 5), 2), ((2, 4, 15, 1), 2), ((2, 4, 3, 5), 1), ((2, 4, 15, 1), 1)]


def test_the_cpu_uses_torchs_norm():
    assert find_norm_kernels(CPU) is TORCH


def test_without_triton_a_gpu_uses_torchs_norm(monkeypatch):
    monkeypatch.setitem(sys.modules, "leakrt.runtime.backends.torch.norm_kernels", None)
    assert find_norm_kernels(torch.device("cuda")) is TORCH


@pytest.mark.parametrize("agrees", [True, False])
def test_kernels_are_used_on_a_gpu_only_if_they_agree_with_torch(monkeypatch, agrees):
    pytest.importorskip("leakrt.runtime.backends.torch.norm_kernels", reason="needs triton")
    tried = []
    monkeypatch.setattr(group_norm, "_agrees", lambda norm, device: tried.append(device.type) or agrees)
    found = find_norm_kernels(torch.device("cuda"))
    assert (found is not TORCH) is agrees
    assert found.biases is agrees
    assert tried == ["cuda"]


def wide(x, groups, epsilon, silu, weight, bias, added=NOTHING):
    """Norm the rounded sum in float32, like the kernels."""
    summed = torch_add(x, added.other, added.shift) if added.keep else x.float()
    rest = NOTHING if added.keep else added
    y, _ = torch_norm(summed.float(), groups, epsilon, silu, weight, bias, rest)
    return y.to(x.dtype), summed


def off(x, *rest):
    y, summed = wide(x, *rest)
    return y + 0.02, summed


def off_in_the_sum(x, *rest):
    y, summed = wide(x, *rest)
    return y, summed + 0.1


def broken(x, *rest):
    raise OSError("no compiler")


@pytest.mark.parametrize(
    ("norm", "add", "agrees"),
    [
        (wide, torch_add, True),
        (off, torch_add, False),
        (off_in_the_sum, torch_add, False),
        (lambda x, g, e, silu, *rest: wide(x, g, e, False, *rest), torch_add, False),
        (lambda x, g, *rest: wide(x, g // 2, *rest), torch_add, False),
        (lambda x, g, e, silu, w, bias, added: wide(x, g, e, silu, w, None, added), torch_add, False),
        (lambda x, g, e, silu, w, bias, added: wide(x, g, e, silu, w, bias, NOTHING), torch_add, False),
        (lambda x, *rest: tuple(t * torch.nan for t in wide(x, *rest)), torch_add, False),
        (broken, torch_add, False),
        (wide, lambda x, *rest: torch_add(x, *rest) + 0.02, False),
        (wide, lambda x, other, shift, pads: torch_add(x, other, None, pads), False),
        (wide, lambda x, other, shift, pads: torch_add(x, other, shift, pads[::-1]), False),
        (wide, broken, False),
    ],
    ids=["right", "off", "sum off", "no silu", "other groups", "no bias", "nothing added", "nan", "no compiler",
         "add off", "no shift", "other pads", "no add"],
)  # fmt: skip
def test_kernels_that_are_inaccurate_or_fail_do_not_agree(norm, add, agrees):
    assert group_norm._agrees(NormKernels(norm, add), CPU) is agrees


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_sum_is_normed_and_returned(dtype):
    x, other, shift = drawn(2, 6, 5, 3).to(dtype), drawn(2, 6, 5, 3, seed=1).to(dtype), drawn(6, seed=2)
    y, summed = torch_norm(x, 3, EPSILON, True, None, None, PreNormSum(other, shift, True))
    wanted = x.double() + other.double() + shift.double().reshape(-1, 1, 1)
    assert summed.dtype == dtype
    assert_near(summed, wanted, 1e-6 if dtype == torch.float32 else 1e-3)
    assert_near(y, by_definition(summed, 3, EPSILON, True), 2e-5 if dtype == torch.float32 else 3e-3)


def test_a_sum_is_rounded_once_and_padded_below_and_to_the_right():
    x, other, shift = (torch.full((1, 1, 2, 3), v).half() for v in (2048.0, 1.0, 1.0))
    found = fused(TORCH)[SUM]({"below": 1, "right": 2, "outputs": 1})(x, other, shift[0, :, 0, 0].float())
    assert found.shape == (1, 1, 3, 5)
    assert (found[:, :, :2, :3] == 2050).all()  # 2048 + 1 without the rest rounds to 2048
    assert found.sum() == 6 * 2050


def run_fused(x, shape, weight=None, bias=None, groups=4, silu=True, norm=torch_norm):
    run = fused(NormKernels(norm))[GROUP_NORM]({"groups": groups, "epsilon": EPSILON, "silu": silu, "outputs": 1})
    return run(x, torch.tensor(shape), weight, bias)


@pytest.mark.parametrize("shape", [(0, 12, 5, 7), (0, 0, 5, 7), (3, 12, -1), (-1, 12, 35)])
def test_the_fused_operator_returns_the_shape_of_its_reshape(shape):
    x, weight, bias = drawn(3, 12, 5, 7), drawn(12, 1, 1, seed=1), drawn(12, 1, 1, seed=2)
    found = run_fused(x, shape, weight, bias)
    sizes = [x.shape[i] if n == 0 else n for i, n in enumerate(shape)]
    assert_near(found, by_definition(x, 4, EPSILON, True, weight.flatten(), bias.flatten()).reshape(sizes))


@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize(("groups", "which"), [(5, "both"), (5, "none"), (4, "weight"), (4, "bias"), (5, "bias")])
def test_uneven_groups_and_incomplete_affine_parts_run_unfused(groups, which, silu):
    x = drawn(3, 12, 5, 7)
    weight = drawn(12, 1, 1, seed=1) if which in ("both", "weight") else None
    bias = drawn(12, 1, 1, seed=2) if which in ("both", "bias") else None

    def never(*_):
        raise AssertionError("the norm is for whole channels, with both parts or none")

    found = run_fused(x, (0, 12, 5, 7), weight, bias, groups, silu, never)
    flat = [None if t is None else t.flatten() for t in (weight, bias)]
    assert_near(found, by_definition(x, groups, EPSILON, silu, *flat))


def test_unfused_float16_norms_have_float32_statistics():
    x = (50 * drawn(2, 12, 5, 7) + 300).half()
    assert_near(run_fused(x, (0, 12, 5, 7), groups=5), by_definition(x, 5, EPSILON, True), 3e-3)


@pytest.mark.parametrize("keep", [False, True])
def test_a_batch_of_one_keeps_the_strides_of_its_layout(keep):
    """A batch of one may have any first stride, from which cuDNN derives the layout."""
    x = drawn(1, 5, 7, 12).permute(0, 3, 1, 2)
    norm = with_kernels(lambda *_: True, lambda x, *rest: (x.clone(), x.clone()), torch_add).norm
    run = fused(NormKernels(norm))[GROUP_NORM]({"groups": 4, "epsilon": EPSILON, "silu": True, "outputs": 1 + keep})
    found = run(x, torch.tensor((0, 12, 5, 7)), None, None, None, torch.zeros(12))
    assert [t.stride() for t in (found if keep else (found,))] == [x.stride()] * (1 + keep)


def test_channels_that_a_reshape_moves_are_scaled_after_it():
    x, weight, bias = drawn(2, 12, 5, 7), drawn(6, 1, 1, seed=1), drawn(6, 1, 1, seed=2)
    found = run_fused(x, (0, 6, 10, 7), weight, bias, 3, False)
    plain = by_definition(x, 3, EPSILON, False).reshape(2, 6, 10, 7)
    assert_near(found, plain * weight.double() + bias.double())


def test_silu_is_x_times_its_sigmoid():
    x = drawn(2, 3, 5)
    assert_near(fused(TORCH)[SILU]({})(x), x.double() / (1 + (-x.double()).exp()))

"""The Triton kernels: run by Triton's interpreter, compiled for several GPUs, and run on a GPU if there is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("triton", reason="needs triton, which torch brings for CUDA")

CASES = [  # batch, channels, height, width, groups, dtype, affine, silu
    (2, 32, 9, 7, 8, "float32", True, True),
    (1, 128, 33, 21, 32, "float16", True, True),
    (3, 16, 5, 5, 4, "float32", False, False),
    (1, 64, 70, 3, 32, "float16", True, False),
    (1, 512, 1, 1, 32, "float32", True, True),
    (1, 1024, 101, 43, 1, "float32", False, True),
]

_SCRIPT = """
import json, sys
import torch
import torch.nn.functional as F
from leakrt.runtime.backends.torch import norm_kernels
from leakrt.runtime.backends.torch.fusion import PreNormSum
from leakrt.runtime.backends.torch.norm_kernels import add, group_norm_silu, takes

device = sys.argv[2]
for b, c, h, w, groups, dtype, affine, silu in json.loads(sys.argv[1]):
    torch.manual_seed(0)
    x = (torch.randn(b, c, h, w) * 3 + 20).to(device, getattr(torch, dtype))
    x = x.contiguous(memory_format=torch.channels_last)
    weight, bias = (torch.randn(c, device=device) for _ in range(2)) if affine else (None, None)
    assert takes(x, groups)
    other, shift = torch.randn_like(x), torch.randn(c, device=device)
    doubles = [None if t is None else t.double() for t in (weight, bias)]

    def error(found, wanted):
        return float(((found.double() - wanted).abs() / wanted.abs().clamp(min=1)).max())

    worst, plain = 0.0, x.double() + shift.double().reshape(-1, 1, 1)
    cases = [(PreNormSum(), x.double()), (PreNormSum(shift=shift), plain), (PreNormSum(shift=shift, keep=True), plain)]
    both = x.double() + other.double()
    cases += [(PreNormSum(other, shift, True), plain + other.double()), (PreNormSum(other), both)]
    for added, summed in cases:
        y, kept = group_norm_silu(x, groups, 1e-6, silu, weight, bias, added)
        assert y.dtype == x.dtype and y.is_contiguous(memory_format=torch.channels_last)
        normed = summed if added.other is None and not added.keep else kept.double()  # rounded, which a norm magnifies
        wanted = F.group_norm(normed, groups, *doubles, 1e-6)
        worst = max(worst, error(y, F.silu(wanted) if silu else wanted))
        if added.keep:
            worst = max(worst, error(kept, summed))
    for pads in ((0, 0), (1, 1), (0, 3)):
        for one, two in ((other, shift), (None, shift), (other, None), (None, None)):
            found = add(x, one, two, pads)
            summed = x.double() + (0 if one is None else one) + (0 if two is None else two.reshape(-1, 1, 1))
            wanted = F.pad(summed, (0, pads[1], 0, pads[0]))
            assert found.shape == wanted.shape and found.is_contiguous(memory_format=torch.channels_last)
            worst = max(worst, error(found, wanted))
    print(json.dumps(worst))
"""

_COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
import triton
from leakrt.runtime.backends.torch import norm_kernels as kernels

floats = ("counts", "means", "deviations", "weight", "bias", "factors", "summands")
for architecture in (75, 80, 90):
    for channels, groups in ((128, 32), (512, 32)):
        rows = kernels._TILE // channels
        one = {"C": channels, "G": groups, "ROWS": rows, "OTHER": True, "SHIFT": True, "KEEP": True}
        images = {"x": "*fp16", "other": "*fp16", "shift": "*fp32"}
        sources = [
            (kernels._statistics, {**images, "kept": "*fp16", **dict.fromkeys(floats[:3], "*fp32"), "pixels": "i32"},
             one),
            (kernels._affine, {**dict.fromkeys(floats, "*fp32"), "shift": "*fp32", "programs": "i32",
                               "epsilon": "fp32"},
             {"C": channels, "G": groups, "P": 256, "AFFINE": True, "SHIFT": True}),
            (kernels._add, {**images, "out": "*fp16", **dict.fromkeys(("height", "width", "pixels", "row"), "i32")},
             {"C": channels, "ROWS": rows, "OTHER": True, "SHIFT": True}),
            (kernels._apply, {"x": "*fp16", "factors": "*fp32", "summands": "*fp32", "y": "*fp16", "pixels": "i32"},
             {"C": channels, "ROWS": rows, "SILU": True}),
        ]
        for function, signature, constants in sources:
            source = ASTSource(function, signature, constexprs=constants)
            made = triton.compile(source, target=GPUTarget("cuda", architecture, 32))
            assert made.asm["cubin"], function
            print(function.__name__, ".local" in made.asm["ptx"])
"""


def run(code: str, *arguments: str, **environment: str) -> list[str]:
    """Return the lines that a subprocess prints: Triton selects its interpreter at import."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env={**os.environ, **environment}
    )
    if "only 0-dimensional arrays can be converted" in done.stderr:
        pytest.skip("this Triton's interpreter needs an older NumPy")
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def check(errors: list[str]) -> None:
    for case, error in zip(CASES, errors, strict=True):
        assert json.loads(error) <= (2e-5 if "float32" in case else 1e-3), case


def test_they_match_torch_in_float64():
    check(run(_SCRIPT, json.dumps(CASES), "cpu", TRITON_INTERPRET="1"))


@pytest.mark.slow
def test_they_compile_for_gpus_without_spilling(tmp_path):
    lines = run(_COMPILE, TRITON_CACHE_DIR=str(tmp_path))
    assert len(lines) == 24
    assert {line.split()[1] for line in lines} == {"False"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_they_match_torch_on_a_gpu():
    check(run(_SCRIPT, json.dumps(CASES), "cuda"))


def test_other_shapes_and_layouts_run_in_torch():
    from leakrt.runtime.backends.torch.norm_kernels import takes

    x = torch.zeros(1, 64, 4, 4).contiguous(memory_format=torch.channels_last)
    assert takes(x, 32)
    assert takes(x, 32, x.as_strided(x.shape, (7, *x.stride()[1:])))  # one image: the first stride is arbitrary
    assert not takes(x, 32, x.half())
    assert not takes(x, 32, x[:, :, :, :2])
    assert not takes(x, 32, x.contiguous())
    assert not takes(x.contiguous(), 32)
    assert not takes(x, 3)
    assert not takes(torch.zeros(1, 96, 4, 4).contiguous(memory_format=torch.channels_last), 32)
    assert not takes(x[0], 32)

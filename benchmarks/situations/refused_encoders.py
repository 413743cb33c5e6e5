"""ONNX encoders that are refused, each with a part of the message."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from .encoder_graphs import (
    FLOAT,
    HALF,
    SIZE,
    Case,
    body,
    branches,
    constant,
    custom,
    encoder,
    function,
    linked_out,
    loop,
    misplaced,
    node,
    saved,
    two_outputs,
    typed,
)

_NOISE = {
    "RandomNormal": [node("RandomNormal", "c", "n", shape=[1])],
    "RandomNormalLike": [node("RandomNormalLike", "c", "n", scale=1e-6)],
    "RandomUniform": [],
    "RandomUniformLike": [node("RandomUniformLike", "c", "n", high=1e-6)],
    "Bernoulli": [node("Sigmoid", "c", "s"), node("Bernoulli", "s", "n")],
    "Multinomial": [
        node("Flatten", "c", "f"),
        node("Multinomial", "f", "i", sample_size=1),
        node("Cast", "i", "i2", to=FLOAT),
        node("ReduceMean", "i2", "n", keepdims=0),
    ],
}
for _kind in ("RandomNormal", "RandomUniform"):
    _NOISE[_kind] = [helper.make_node(_kind, [], ["n"], shape=[1])]
_SAMPLE = "output the posterior mean, not a sample"

RANDOM = (
    *(
        Case(name=kind, refused=_SAMPLE, write=saved(lambda n=nodes: encoder([*n, node("Add", "c,n", "y")])))
        for kind, nodes in _NOISE.items()
    ),
    *(
        Case(
            name=f"{kind} in a branch that is not taken",
            refused=_SAMPLE,
            write=saved(lambda n=nodes: branches([*n, node("Add", "c,n", "z")], [node("Neg", "c", "z")])),
        )
        for kind, nodes in _NOISE.items()
    ),
    Case(
        name="RandomNormalLike in a Loop",
        refused=_SAMPLE,
        write=saved(lambda: loop([node("RandomNormalLike", "state", "n"), node("Add", "n,c", "next")])),
    ),
    Case(
        name="RandomNormalLike in a function",
        refused=_SAMPLE,
        write=saved(lambda: function([node("RandomNormalLike", "a", "t", scale=1e-6), node("Add", "a,t", "r")])),
    ),
    Case(
        name="Dropout that is on",
        refused=_SAMPLE,
        write=saved(
            lambda: encoder(
                [node("Dropout", "c,ratio,on", "y")],
                weights=[constant(np.float32(0.0), "ratio"), constant(np.array(True), "on")],
            )
        ),
    ),
    Case(
        name="Dropout whose mode is computed",
        refused=_SAMPLE,
        write=saved(
            lambda: encoder(
                [
                    node("ReduceMean", "c", "m", keepdims=0),
                    node("Greater", "m,big", "on"),
                    node("Dropout", "c,ratio,on", "y"),
                ],
                weights=[constant(np.float32(0.5), "ratio"), constant(np.float32(1e6), "big")],
            )
        ),
    ),
)

_DEAD = [constant(np.float32(0), "nought"), constant(np.float32(1), "one")]


def _blind(starts: Sequence[int], pads: Sequence[int], axis: int) -> onnx.ModelProto:
    """Replaces a slice of the image by zeros before the convolution."""
    ends = [2**31] if starts[0] >= 0 else [starts[0]]
    begin = starts if starts[0] >= 0 else [0]
    weights = [constant(np.int64(v), n) for v, n in ((begin, "from"), (ends, "to"), ([axis], "axis"), (pads, "pads"))]
    nodes = [
        node("Slice", "x,from,to,axis", "part"),
        node("Pad", "part,pads", "whole"),
        node("Conv", "whole,w", "y", strides=[8, 8]),
    ]
    return encoder(last=nodes, weights=weights)


REFUSED = (
    Case(
        name="8 channels",
        refused="export the first four, the mean",
        write=saved(lambda: encoder([node("Relu", "c", "y")], channels=8)),
    ),
    Case(
        name="16 channels", refused="SD3 and FLUX", write=saved(lambda: encoder([node("Relu", "c", "y")], channels=16))
    ),
    Case(
        name="3 channels",
        refused="3 channels instead of 4",
        write=saved(lambda: encoder([node("Relu", "c", "y")], channels=3)),
    ),
    Case(
        name="a factor of 16",
        refused="downsamples by 16",
        write=saved(lambda: encoder([node("Relu", "c", "y")], stride=16)),
    ),
    Case(
        name="a factor of 4",
        refused="downsamples by 4",
        write=saved(lambda: encoder([node("Relu", "c", "y")], stride=4)),
    ),
    Case(
        name="channels last",
        refused="its channels come last",
        write=saved(lambda: encoder([node("Transpose", "c", "y", perm=[0, 2, 3, 1])])),
    ),
    Case(
        name="NaN",
        refused="gives NaN",
        write=saved(lambda: encoder([node("Sub", "c,c", "n"), node("Div", "n,n", "y")])),
    ),
    Case(
        name="infinity",
        refused="gives infinity",
        write=saved(lambda: encoder([node("Abs", "c", "n"), node("Sub", "c,c", "o"), node("Div", "n,o", "y")])),
    ),
    Case(
        name="constant",
        refused="the same latent for every image",
        write=saved(lambda: encoder([node("Mul", "c,nought", "n"), node("Add", "n,one", "y")], weights=_DEAD)),
    ),
    Case(
        name="blind to the left",
        refused="ignores the left edge",
        write=saved(lambda: _blind([8], [0, 0, 0, 8, 0, 0, 0, 0], 3)),
    ),
    Case(
        name="blind to the bottom",
        refused="ignores the bottom",
        write=saved(lambda: _blind([-8], [0, 0, 0, 0, 0, 0, 8, 0], 2)),
    ),
    Case(
        name="blind to red",
        refused="ignores the red channel",
        write=saved(lambda: _blind([1], [0, 1, 0, 0, 0, 0, 0, 0], 1)),
    ),
    Case(
        name="latents that depend on the batch",
        refused="latents that depend on the rest of the batch",
        write=saved(lambda: encoder([node("ReduceMean", "c", "m", axes=[0]), node("Add", "c,m", "y")])),
    ),
    Case(
        name="latents that depend on the place in the batch",
        refused="latents that depend on the rest of the batch",
        write=saved(lambda: encoder([node("CumSum", "c,axis", "y")], weights=[constant(np.int32(0), "axis")])),
    ),
    Case(
        name="an If on the pixels, far from the probes",
        refused="has control flow that depends on pixel values (If)",
        write=saved(
            lambda: encoder(
                [
                    node("ReduceMean", "x", "m", keepdims=0),
                    node("Greater", "m,limit", "k"),
                    node(
                        "If",
                        "k",
                        "y",
                        then_branch=body([node("Exp", "c", "z")], "z"),
                        else_branch=body([node("Neg", "c", "z")], "z"),
                    ),
                ],
                weights=[constant(np.float32(0.9), "limit")],
            )
        ),
    ),
    Case(
        name="a Loop that ends by the pixels",
        refused="has control flow that depends on pixel values (Loop)",
        write=saved(
            lambda: loop(
                [
                    node("Add", "state,c", "next"),
                    node("ReduceMax", "next", "most", keepdims=0),
                    node("Less", "most,limit", "again"),
                ],
                limit=1e6,
            )
        ),
    ),
    Case(
        name="a batch of 1 inside",
        refused="runs on one image only: its batch is fixed",
        write=saved(lambda: encoder([node("Reshape", "c,s", "y")], weights=[constant(np.int64([1, 4, 6, 6]), "s")])),
    ),
    Case(
        name="a batch of 4",
        refused="batch is fixed at 4",
        write=saved(lambda: encoder([node("Relu", "c", "y")], shape=(4, 3, SIZE, SIZE))),
    ),
    Case(
        name="another size",
        refused="64 x 64 only, but --image-size is 48",
        write=saved(lambda: encoder([node("Relu", "c", "y")], shape=("b", 3, 64, 64))),
    ),
    Case(
        name="two outputs",
        refused="outputs a, b; choose",
        write=saved(lambda: two_outputs("a", "b")),
    ),
    Case(
        name="latent and mean",
        refused="with --vae-output",
        write=saved(lambda: two_outputs("latent", "mean")),
    ),
    Case(name="a wrong --vae-output", refused="it has a, b", output="c", write=saved(lambda: two_outputs("a", "b"))),
    Case(name="float16 output", refused="append a Cast", write=saved(lambda: typed(HALF))),
    Case(
        name="a custom domain",
        refused="own:Mine",
        write=saved(custom),
    ),
    Case(
        name="an operator without an older version",
        refused="No Previous Version of Mish",
        write=saved(lambda: encoder([node("Mish", "c", "y")], opset=20)),
    ),
    Case(
        name="a ReduceSum with axes",
        refused="encoder.onnx: ReduceSum",
        write=saved(
            lambda: encoder(
                [node("ReduceSum", "c,a", "s"), node("Add", "c,s", "y")], weights=[constant(np.int64([1]), "a")]
            )
        ),
    ),
    Case(name="weights above", refused="not a path below", write=misplaced(location="../weights.bin")),
    Case(name="weights at an absolute path", refused="not a path below", write=misplaced(location="/etc/passwd")),
    Case(name="weights behind a link out", refused="a link out of", write=linked_out),
    Case(name="weights that are gone", refused="not beside the file", write=misplaced(location="gone.bin")),
    Case(name="weights past the end", refused="which has", write=misplaced(offset="4096", length="3072")),
    Case(name="weights before the start", refused="should be bytes", write=misplaced(offset="-4")),
    Case(name="weights of another length", refused="need 3072 bytes", write=misplaced(length="3068")),
)

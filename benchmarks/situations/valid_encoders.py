"""ONNX encoders that are accepted."""

from __future__ import annotations

import numpy as np
from onnx import helper

from .encoder_graphs import (
    SIZE,
    Case,
    branches,
    constant,
    encoder,
    function,
    half,
    linked_model,
    listed,
    loop,
    names_within,
    node,
    recurrent,
    same_names,
    saved,
    scan,
    two_outputs,
    unsorted,
    unused_domain,
    weights_beside,
)

VALID = (
    Case(name="plain", write=saved(lambda: encoder([node("Relu", "c", "y")]))),
    *(
        Case(
            name=f"opset {n}",
            write=saved(lambda n=n: encoder([node("Relu", "c", "r"), node("Softmax", "r", "y")], opset=n)),
        )
        for n in (7, 9, 11, 12, 13, 15, 16, 18, 19, 20, 21, 22, 23, 24)
    ),
    Case(name="nodes out of order", write=saved(unsorted)),
    Case(name="float16 inside, casts last", write=saved(half)),
    Case(name="our names", write=saved(same_names)),
    Case(name="our names in a branch", write=saved(names_within)),
    Case(name="input called latent", write=saved(lambda: encoder([node("Relu", "c", "y")], given="latent"))),
    Case(name="output called image", write=saved(lambda: encoder([node("Relu", "c", "image")], outputs=("image",)))),
    Case(
        name="If that reads the input",
        write=saved(
            lambda: branches(
                [node("Conv", "x,w", "t", strides=[8, 8]), node("Relu", "t", "z")], [node("Neg", "c", "z")]
            )
        ),
    ),
    Case(
        name="If out of order within",
        write=saved(lambda: branches([node("Neg", "t", "z"), node("Exp", "c", "t")], [node("Neg", "c", "z")])),
    ),
    Case(name="Loop that reads an outer tensor", write=saved(lambda: loop([node("Add", "state,c", "next")]))),
    Case(
        name="Loop that reads the input",
        write=saved(lambda: loop([node("Conv", "x,w", "t", strides=[8, 8]), node("Add", "state,t", "next")])),
    ),
    Case(name="Scan that reads an outer tensor", write=saved(scan)),
    Case(name="weights beside the file", write=weights_beside),
    Case(name="weights in a folder below", write=lambda folder: weights_beside(folder, below=True)),
    Case(name="links to file and weights", write=linked_model),
    Case(name="weights among the inputs", write=saved(listed)),
    Case(
        name="optional outputs left out",
        write=saved(lambda: encoder([helper.make_node("Dropout", ["c"], ["d", ""]), node("Relu", "d", "y")])),
    ),
    Case(
        name="optional output left out in the middle",
        write=saved(recurrent),
    ),
    Case(
        name="constants in attributes",
        write=saved(
            lambda: encoder(
                [helper.make_node("Constant", [], ["k"], value=constant(np.float32(2), "v")), node("Mul", "c,k", "y")]
            )
        ),
    ),
    Case(name="functions", write=saved(lambda: function([node("Relu", "a", "t"), node("Neg", "t", "r")]))),
    Case(name="a domain that no node uses", write=saved(unused_domain)),
    Case(
        name="free height and width", write=saved(lambda: encoder([node("Relu", "c", "y")], shape=("b", 3, "h", "w")))
    ),
    Case(
        name="declared for a batch of 1",
        write=saved(lambda: encoder([node("Relu", "c", "y")], shape=(1, 3, SIZE, SIZE))),
    ),
    Case(
        name="Dropout that is off",
        write=saved(
            lambda: encoder(
                [node("Dropout", "c,ratio,off", "y")],
                weights=[constant(np.float32(0.5), "ratio"), constant(np.array(False), "off")],
            )
        ),
    ),
    Case(name="mean and log-variance", write=saved(lambda: two_outputs("mean", "logvar"))),
    Case(name="second output by its name", write=saved(lambda: two_outputs("a", "b")), output="b"),
    Case(
        name="a random output beside the mean",
        write=saved(
            lambda: encoder(
                [node("Relu", "c", "mean"), node("RandomNormalLike", "c", "r"), node("Add", "mean,r", "sample")],
                outputs=("sample", "mean"),
            )
        ),
    ),
)

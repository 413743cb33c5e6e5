"""The process in which ModelOpt runs: python -m leakrt.calibration.modelopt_process SOURCE TARGET EXCLUDED

SOURCE is an ONNX graph with one input, EXCLUDED a JSON list of nodes that stay in floating point. TARGET gets the
graph with pairs; its ranges come from noise and mean nothing.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx


def main(source: str, target: str, excluded: str) -> None:
    """Raises whatever ModelOpt does: the caller reads the last line of stderr."""
    from modelopt.onnx.quantization import quantize

    value = onnx.load(source).graph.input[0]
    shape = [1, *(dimension.dim_value for dimension in value.type.tensor_type.shape.dim[1:])]
    noise = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    quantize(
        source,
        "int8",
        calibration_data={value.name: noise},
        calibration_method="max",
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        nodes_to_exclude=[f"{re.escape(name)}$" for name in json.loads(Path(excluded).read_text())],
        output_path=target,
        log_level="ERROR",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The process of ModelOpt, from a file to a file."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest
from bundles import TINY_SPEC, vae_encoder

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
from leakrt.calibration.modelopt import NEEDED
from leakrt.export.graph_io import parse_graph

INSTALLED = all(importlib.util.find_spec(module) for module in NEEDED)


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="ModelOpt is not installed: pip install 'leakrt[modelopt]'")
def test_excluded_nodes_get_no_pair_and_the_source_stays_as_it_was(tmp_path):
    source, target, told = (tmp_path / name for name in ("graph.onnx", "placed.onnx", "excluded.json"))
    named = parse_graph(vae_encoder(TINY_SPEC, 3, (16, 24)), "vae_encoder")  # it leaves narrow convolutions alone
    source.write_bytes(named.SerializeToString())
    before = source.read_bytes()
    names = [node.name for node in named.graph.node if node.op_type == "Conv"]
    told.write_text(json.dumps(names[1:]))
    command = [sys.executable, "-m", "leakrt.calibration.modelopt_process", *map(str, (source, target, told))]
    subprocess.run(command, check=True, capture_output=True)
    placed = onnx.load(target).graph
    back = {node.output[0] for node in placed.node if node.op_type == "DequantizeLinear"}
    assert [n.name for n in placed.node if n.op_type == "Conv" and n.input[1] in back] == names[:1]
    assert source.read_bytes() == before

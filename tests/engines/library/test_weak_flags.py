"""Builder flags where networks are not strongly typed."""

from __future__ import annotations

import pytest
from recording_tensorrt import RecordingTensorRT

from leakrt.engines.library.tensorrt8 import weak_flags


@pytest.mark.parametrize("version", ["8.5.3.1", "10.3.0", "10.16.1.11"])
def test_a_precision_allows_what_its_graph_holds_and_nothing_more(version):
    trt = RecordingTensorRT(version)
    found = {p: [flag.name for flag in weak_flags(trt, p)] for p in ("fp32", "fp16", "int8")}
    assert found == {"fp32": [], "fp16": ["FP16"], "int8": ["FP16", "INT8"]}


def test_11_has_no_such_flags_so_nothing_of_it_may_ask():
    with pytest.raises(AttributeError):
        weak_flags(RecordingTensorRT("11.4.0.106"), "fp16")

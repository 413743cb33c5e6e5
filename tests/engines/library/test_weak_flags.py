"""Builder flags of networks that are not strongly typed."""

from __future__ import annotations

import pytest
from recording_tensorrt import RecordingTensorRT

from leakrt.engines.library.tensorrt8 import weak_flags


@pytest.mark.parametrize("version", ["8.5.3.1", "10.3.0", "10.16.1.11"])
def test_each_precision_sets_only_the_flags_of_its_types(version):
    trt = RecordingTensorRT(version)
    found = {p: [flag.name for flag in weak_flags(trt, p)] for p in ("fp32", "fp16", "int8")}
    assert found == {"fp32": [], "fp16": ["FP16"], "int8": ["FP16", "INT8"]}


def test_version_11_has_no_precision_flags():
    with pytest.raises(AttributeError):
        weak_flags(RecordingTensorRT("11.4.0.106"), "fp16")

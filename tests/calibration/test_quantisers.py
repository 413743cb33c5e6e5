"""Quantisers by name."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
from leakrt.calibration import modelopt, qdq
from leakrt.calibration.quantisers import MODELOPT, ONNXRUNTIME, quantiser
from leakrt.core.errors import MissingExtraError, UsageError


def test_each_name_means_its_own(monkeypatch):
    monkeypatch.setattr(modelopt, "NEEDED", ())
    assert quantiser(ONNXRUNTIME).quantise is qdq.quantise
    assert quantiser(MODELOPT).quantise is modelopt.modelopt_quantise


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(UsageError, match="no quantizer 'best'; choose one of: onnxruntime, modelopt"):
        quantiser("best")


def test_modelopt_without_its_extra_names_the_command(monkeypatch):
    monkeypatch.setattr(modelopt, "NEEDED", ("nowhere_to_be_found",))
    with pytest.raises(MissingExtraError, match=r"pip install 'leakrt\[modelopt\]'"):
        quantiser(MODELOPT)

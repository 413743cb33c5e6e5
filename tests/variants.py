"""A tiny bundle with all three precisions, by ONNX Runtime's converter and quantiser. Needs onnx."""

from __future__ import annotations

import atexit
import functools
import json
import logging
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from bundles import TINY_SPEC, bundle_files, leak_encoder, vae_encoder

from leakrt.core.bundle import density_name, graph_name, write_bundle


def halve(model: bytes) -> bytes:
    """Float16 inside, float32 at inputs and outputs."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.ERROR)
    blocked = ["ReduceLogSumExp", "ReduceMean", "Softmax", "InstanceNormalization"]
    half = convert_float_to_float16(onnx.load_model_from_string(model), keep_io_types=True, op_block_list=blocked)
    OnnxModel.graph_topological_sort(half.graph)
    return half.SerializeToString()


def quantise(model: bytes, shape: tuple[int, ...], name: str) -> bytes:
    """Q/DQ around float32 on every convolution, ranges from noise, as TensorRT wants it."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Noise(CalibrationDataReader):
        def __init__(self) -> None:
            rng = np.random.default_rng(5)
            self._rows = iter([{name: rng.uniform(-1, 1, (2, *shape)).astype(np.float32)} for _ in range(3)])

        def get_next(self):
            return next(self._rows, None)

    extra = {
        "ActivationSymmetric": True, "WeightSymmetric": True, "AddQDQPairToWeight": True,
        "DedicatedQDQPair": True, "QuantizeBias": False,
    }  # fmt: skip
    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "a.onnx", Path(folder) / "b.onnx"
            source.write_bytes(model)
            quantize_static(
                source, target, Noise(), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
                op_types_to_quantize=["Conv"], extra_options=extra,
            )  # fmt: skip
            return target.read_bytes()
    finally:
        logging.disable(logging.NOTSET)


def variant_bundle(path: Path) -> Path:
    """Write the bundle; int8 has a quantised VAE encoder and leaves its leak encoder in float32, as calibration may."""
    spec = TINY_SPEC
    shape = (len(spec.class_names), spec.prototypes_per_class, spec.embedding_dim)
    prototypes = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    vae, leak = vae_encoder(spec, 0), leak_encoder(spec, prototypes, 1)
    files = bundle_files(spec, vae, leak, prototypes)
    graphs = {
        "fp16": (halve(vae), halve(leak)),
        "int8": (quantise(vae, (3, spec.image_size, spec.image_size), "image"), leak),
    }
    for precision, (image, noised) in graphs.items():
        files[graph_name("vae_encoder", precision)] = image
        files[graph_name("leak_encoder", precision)] = noised
        files[density_name(precision)] = files[density_name("fp32")]
    decision = json.loads(files["decision.json"])["fp32"]
    files["decision.json"] = json.dumps(dict.fromkeys(("fp32", "fp16", "int8"), decision)).encode()
    write_bundle(path, spec, files, {"trained_on": "nothing: random weights"})
    return path


@functools.cache
def shared_variants() -> Path:
    """The bundle, made once for all tests; not to be written to."""
    root = Path(tempfile.mkdtemp(prefix="leakrt-variants-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return variant_bundle(root / "bundle")


def require_rtx() -> None:
    """Skip where TensorRT-RTX, which builds on any CPU, or what it needs is not installed."""
    for name in ("onnx", "filelock", "tensorrt_rtx"):
        pytest.importorskip(name, reason=f"building needs {name} (extra rtx)")


def build_rtx(leakrt, tmp_path: Path, monkeypatch, precision: str, *options: object) -> list[dict]:
    """`leakrt build` of the bundle for 8.6 and 12.0, into a cache below `tmp_path`: what it prints of each engine."""
    require_rtx()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    where = ("--flavour", "tensorrt-rtx", "--target", "8.6,12.0")
    done = leakrt("build", shared_variants(), "--precision", precision, *where, "--json", *options)
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.lines]

"""An engine's key and record, for tests that need no engine."""

from __future__ import annotations

from leakrt.core.files import sha256_bytes
from leakrt.engines.build.derive import RECIPE
from leakrt.engines.cache.key import EngineKey
from leakrt.engines.cache.record import EngineRecord, OutputParity
from leakrt.engines.library.device import TargetDevice

GPU = TargetDevice(name="NVIDIA A", capability="8.9", multiprocessors=128, driver="550.1")
KEY = EngineKey(
    graph="vae_encoder", precision="fp16", source="a" * 64, onnx="b" * 64, tensors=("float16 image [B, 3, 40, 40]",),
    batches=(1, 4), flavour="tensorrt", version="10.3.0", flags=("STRONGLY_TYPED",), level=3, workspace=0, dla_core=-1,
    device=GPU, targets=(), recipe=RECIPE,
)  # fmt: skip


def record_of(data: bytes, *, key: EngineKey = KEY, created: str = "2026-01-01") -> EngineRecord:
    parity = (OutputParity("latent", 1e-4, 0.02),)
    return EngineRecord(
        key=key,
        sha256=sha256_bytes(data),
        size=len(data),
        created=created,
        seconds=1.5,
        leakrt="0.1.0",
        bundle="abc",
        memory={},
        layers=(),
        compiled=(),
        warnings=("w",),
        parity=parity,
    )

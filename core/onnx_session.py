"""ONNX Runtime sessions on the CPU, opened from bytes, without log output or telemetry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_FATAL = 4  # log level: ONNX Runtime also raises its errors, so logging them to stderr would duplicate them


def open_onnx_session(
    model: bytes, *, threads: int | None = None, configure: Callable[[Any], None] | None = None, **options: Any
) -> Any:
    """Open an `onnxruntime.InferenceSession` with `threads` threads, by default one per core.

    `configure` may change the SessionOptions; `options` are passed to the session. Raises ImportError and the
    exceptions of ONNX Runtime, which share no base class.
    """
    import onnxruntime as ort

    ort.disable_telemetry_events()
    settings = ort.SessionOptions()
    if threads is not None:
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
    settings.log_severity_level = _FATAL
    if configure is not None:
        configure(settings)
    return ort.InferenceSession(model, settings, providers=["CPUExecutionProvider"], **options)

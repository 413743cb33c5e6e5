"""How LeakRT opens an ONNX Runtime session: on the CPU, from bytes, quiet, without telemetry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_FATAL = 4  # the log level: what fails is raised as well, and a kiosk's stderr stays readable


def open_onnx_session(
    model: bytes, *, threads: int | None = None, configure: Callable[[Any], None] | None = None, **options: Any
) -> Any:
    """An `onnxruntime.InferenceSession` on `threads` threads, by default one for each core.

    `configure` may change the SessionOptions; `options` go to the session. Raises ImportError and what ONNX Runtime
    raises, whose exceptions share no base of their own.
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

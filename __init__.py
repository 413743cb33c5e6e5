"""LeakRT: attribute a face image to the generator that made it, from training to a camera."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

# ONNX Runtime reads this while it is imported; without it a number for this machine is kept in the cache folder, and
# its telemetry has begun before it can be switched off.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["Detector", "LeakRTError", "Verdict", "__version__"]

if TYPE_CHECKING:
    from .core.errors import LeakRTError
    from .core.verdict import Verdict
    from .runtime.detector import Detector


def __getattr__(name: str) -> object:
    """Import the public names on first use, so that `import leakrt` costs nothing."""
    if name == "Detector":
        from .runtime.detector import Detector

        return Detector
    if name == "Verdict":
        from .core.verdict import Verdict

        return Verdict
    if name == "LeakRTError":
        from .core.errors import LeakRTError

        return LeakRTError
    raise AttributeError(f"module 'leakrt' has no attribute {name!r}")

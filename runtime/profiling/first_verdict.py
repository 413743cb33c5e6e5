"""The program of a new process that times its first verdict. Only the standard library is imported before it starts.

`run` reads its request from argv as JSON and prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def run() -> None:
    """Load the bundle, check one image and print the seconds of each part, or {"error": text}."""
    request: dict[str, Any] = json.loads(sys.argv[1])
    from ...core.errors import LeakRTError

    try:
        print(json.dumps(_time(request)), flush=True)
    except LeakRTError as error:
        print(json.dumps({"error": str(error)}), flush=True)


def _time(request: dict[str, Any]) -> dict[str, Any]:
    begin = time.perf_counter()
    from ..detector import Detector

    imported = time.perf_counter()
    options = {name: request[name] for name in ("backend", "precision", "threads", "device")}
    detector = Detector.load(request["bundle"], **options)
    loaded = time.perf_counter()
    frame = _frame(detector, request["image"])
    ready = time.perf_counter()
    detector.check(frame)
    end = time.perf_counter()
    from ..machine import host_memory

    return {
        "import": imported - begin,
        "load": loaded - imported,
        "first_check": end - ready,
        "reading": ready - loaded,  # of the image; not part of the cold start
        "peak": host_memory().peak,
    }


def _frame(detector: Any, image: str) -> Any:
    from ...core.images import read_image

    return read_image(image).pixels if image else detector.bundle.golden().image

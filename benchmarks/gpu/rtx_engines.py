"""Does TensorRT-RTX take this GPU? Engines for its default capabilities, and for the GPU that is here; both answers.

An engine is built (for the default on the CPU alone), read back, and given an execution context, which is where
TensorRT-RTX compiles for the device.
"""

from __future__ import annotations

import time
from typing import Any

from part import NO_GPU, Part, one_line

from leakrt.core.bundle import Bundle
from leakrt.core.errors import LeakRTError, MissingExtraError
from leakrt.core.progress import silent
from leakrt.engines.build.build import BuildOutcome, BuildRequest, build_bundle
from leakrt.engines.build.builder import BuildOptions
from leakrt.engines.cache.cache import EngineCache
from leakrt.engines.library.device import find_driver, use_device
from leakrt.engines.library.flavour import Flavour
from leakrt.engines.library.installed import load_flavour
from leakrt.engines.library.logger import Messages, explain, listening
from leakrt.engines.library.rtx import CURRENT, PORTABLE

_PRECISION = "fp16"


def main() -> None:
    """Try both."""
    part = Part(__doc__)
    try:
        flavour = load_flavour("tensorrt-rtx")
    except (LeakRTError, MissingExtraError) as error:
        part.skip(str(error))
    path = part.work / "bundle"
    if not path.exists():
        part.skip("there is no bundle: the part before failed")
    part.set("version", str(flavour))
    bundle, cache = Bundle(path), EngineCache(part.work / "rtx", 8 << 30)
    for target in (PORTABLE, CURRENT):
        part.set(f"{target} capabilities", attempt(bundle, flavour, target, cache))
    part.end()


def attempt(bundle: Bundle, flavour: Flavour, target: str, cache: EngineCache) -> dict[str, Any]:
    """What each step answered; an answer of no is a result, no failure."""
    found: dict[str, Any] = {}
    begin = time.perf_counter()
    try:
        request = BuildRequest(precision=_PRECISION, flavour=flavour, options=BuildOptions(targets=(target,)))
        outcomes = build_bundle(bundle, request, cache, progress=silent)
    except Exception as error:
        return {"built": False, "why": one_line(error)}
    found = {"built": True, "build_s": time.perf_counter() - begin}
    for outcome in outcomes:
        found[outcome.record.key.graph] = _read_back(flavour, cache, outcome)
    return found


def _read_back(flavour: Flavour, cache: EngineCache, outcome: BuildOutcome) -> dict[str, Any]:
    found: dict[str, Any] = {"bytes": outcome.record.size, "layers": len(outcome.record.compiled)}
    if find_driver().library is None:
        return found | {"read": f"skipped: {NO_GPU}"}
    messages, begin = Messages(), time.perf_counter()
    try:
        with use_device(0), listening(messages):
            engine = flavour.deserialize(cache.read(outcome.record))
            if engine is None:
                return found | {"read": False, "why": explain([*messages.errors, *messages.warnings])}
            found |= {"read": True, "read_s": time.perf_counter() - begin}
            begin = time.perf_counter()
            context = engine.create_execution_context()
            found |= {"context": context is not None, "context_s": time.perf_counter() - begin}
            if context is None:
                found["why"] = explain([*messages.errors, *messages.warnings])
            del context, engine
    except Exception as error:
        found["why"] = one_line(error)
    return found


if __name__ == "__main__":
    main()

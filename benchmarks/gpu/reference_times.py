"""The reference method in eager PyTorch, FP16 on the GPU: from frames in the host's memory to scores in it."""

from __future__ import annotations

import time

import networks
import numpy as np
import torch
from part import Part, clocks, summary
from reference import SD_VAE, ReferenceMethod

_ROUNDS = {1: 300, 16: 60}
_SECONDS = 15.0  # at most, for each batch


def main() -> None:
    """Warm up, time, write."""
    part = Part(__doc__)
    part.needs_torch()
    spec, _, _ = networks.read()
    device = torch.device("cpu" if part.rehearse else "cuda")
    half = torch.float32 if part.rehearse else torch.float16
    torch.manual_seed(0)
    widths = (32, 32, 32, 32) if part.rehearse else SD_VAE["block_out_channels"]
    method = ReferenceMethod(spec, widths).eval().to(device, half)
    for batch, rounds in ({1: 3} if part.rehearse else _ROUNDS).items():
        frames = np.random.default_rng(0).integers(0, 256, (batch, 256, 256, 3), np.uint8)
        with part.trying(f"batch {batch}"):
            times = _times(method, frames, device, rounds)
            part.set(f"batch {batch}", {"wall_ms": summary(times), "clocks": clocks()})
    part.end()


def _times(method: ReferenceMethod, frames: np.ndarray, device: torch.device, rounds: int) -> list[float]:
    """Milliseconds by the host's clock; the copy of the scores waits for the device."""

    def run() -> np.ndarray:
        with torch.inference_mode():
            return method(torch.from_numpy(frames).to(device)).float().cpu().numpy()

    for _ in range(1 if device.type == "cpu" else 10):
        scores = run()
    if not np.isfinite(scores).all():
        raise ValueError("the reference gives scores that are not finite")
    found, end = [], time.perf_counter() + _SECONDS
    while len(found) < rounds and time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        found.append(1e3 * (time.perf_counter() - begin))
    return found


if __name__ == "__main__":
    main()

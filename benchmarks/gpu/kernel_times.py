"""The kernels' times beside the device's measured ceilings: copy bandwidth and the FP16 matrix rate.

Device events; the cache is flushed before each sample unless "warm" is said; bytes are what must be moved at least
once. Fresh noise is held against its arithmetic: 60 operations a normal over all lanes at the clock found right after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from part import Part, clocks, summary
from place import Place

_STEPS, _ELEMENTS = 8, 4 * 32 * 32  # of a latent at 256 px
_OPERATIONS = 60  # of a fresh normal: ten rounds of Philox are a quarter of a counter's four normals, Box-Muller
_LANES = 128  # float32 operations of a multiprocessor in a clock
_SIZES = {"float32": 4, "float16": 2}


@dataclass(frozen=True)
class Bench:
    """The place with how much of everything."""

    part: Part
    place: Place
    rounds: int
    batches: tuple[int, ...]

    def record(self, name: str, work: Callable[[], object], bytes_moved: int = 0, flush: bool = True) -> float:
        """Time `work` and keep it; the median in microseconds."""
        times = summary(self.place.samples(work, self.rounds, flush=flush))
        entry: dict[str, Any] = {"us": times, "clocks": clocks()}
        if bytes_moved:
            entry |= {"bytes": bytes_moved, "gb_per_s": bytes_moved / times["p50"] / 1e3}
            bandwidth = self.part.results.get("copy", {}).get("gb_per_s")
            if bandwidth:
                entry["share_of_copy"] = entry["gb_per_s"] / bandwidth
        self.part.set(name, entry)
        return times["p50"]


def main() -> None:
    """Measure ceilings, then kernels."""
    part = Part(__doc__)
    part.needs_torch()
    place = Place(gpu=not part.rehearse)
    bench = Bench(part, place, 5 if part.rehearse else 100, (1, 2) if part.rehearse else (1, 16, 4096))
    steps: tuple[tuple[str, Callable[[Bench], None]], ...] = (
        ("ceilings", ceilings),
        ("noise from a bank", bank_noise),
        ("fresh noise", fresh_noise),
        ("normals", normals),
        ("preprocess", preprocess),
        ("log-density", log_density),
    )
    part.set("clocks before", clocks())
    for name, measure in steps:
        with part.trying(name):
            measure(bench)
    part.set("clocks after", clocks())
    part.end()


def ceilings(bench: Bench) -> None:
    """The copy's bandwidth (read and written), a product of FP16 matrices, and what no work at all takes."""
    place, gpu = bench.place, bench.place.gpu
    if gpu:
        found = place.properties
        bench.part.set("device", {"name": found.name, "multiprocessors": found.multi_processor_count,
                                  "memory": found.total_memory, "l2": found.L2_cache_size})  # fmt: skip
    size = 1 << (30 if gpu else 20)
    copied = torch.randint(0, 255, (2, size), dtype=torch.uint8, device=place.device)
    bench.record("copy", lambda: copied[0].copy_(copied[1]), 2 * size)
    side, half = 8192 if gpu else 64, torch.float16 if gpu else torch.float32
    a, b = (torch.randn((side, side), device=place.device).to(half) for _ in range(2))
    out = torch.empty_like(a)
    taken = bench.record("matrix product", lambda: torch.matmul(a, b, out=out), flush=False)
    bench.part.set("fp16 tflops", 2 * side**3 / taken / 1e6)
    bench.record("nothing", lambda: None, flush=False)


def bank_noise(bench: Bench) -> None:
    """All noised steps from the bank; at batch 1 also as one launch finds it in a chain, with a warm cache."""
    kernels, place = bench.place.kernels, bench.place
    bank = place.given(_normal((1, _STEPS, _ELEMENTS)))
    for batch, (z_type, u_type) in _cases(bench):
        z = place.given(_normal((batch, _ELEMENTS)).astype(z_type))
        u = place.result((batch, _STEPS, _ELEMENTS), u_type)
        call = (z.address, z_type, bank.address, _COEFFICIENTS, u.address, u_type, batch, 1, _ELEMENTS, place.stream)
        name = f"noise from a bank, {z_type} to {u_type}, batch {batch}"
        bench.record(name, lambda call=call: kernels.noise_steps(*call), z.size + u.size)
        if batch == 1:
            bench.record(f"{name}, warm", lambda call=call: kernels.noise_steps(*call), flush=False)


def fresh_noise(bench: Bench) -> None:
    """The same with noise of its own for each latent."""
    kernels, place = bench.place.kernels, bench.place
    for batch, (z_type, u_type) in _cases(bench):
        z, own = place.given(_normal((batch, _ELEMENTS)).astype(z_type)), place.given(np.arange(batch, dtype=np.uint32))
        u = place.result((batch, _STEPS, _ELEMENTS), u_type)
        call = (z.address, z_type, _COEFFICIENTS, u.address, u_type, batch, 1, _ELEMENTS, 7, own.address, place.stream)
        name = f"fresh noise, {z_type} to {u_type}, batch {batch}"
        taken = bench.record(name, lambda call=call: kernels.noise_steps_fresh(*call), z.size + u.size)
        _beside_arithmetic(bench, name, taken, batch * _STEPS * _ELEMENTS)


def normals(bench: Bench) -> None:
    """A bank of normals."""
    place, draws = bench.place, 2 if bench.part.rehearse else 2048
    out = place.result((draws, _STEPS, _ELEMENTS), "float32")
    call = (out.address, draws, _STEPS, _ELEMENTS, 7, 0, place.stream)
    name = f"normals, {draws} draws"
    taken = bench.record(name, lambda: place.kernels.fill_normals(*call), out.size)
    _beside_arithmetic(bench, name, taken, draws * _STEPS * _ELEMENTS)


def preprocess(bench: Bench) -> None:
    """Full-HD frames and faces as they are cropped, to 256 px in float16. Bytes: the square that is kept, and out."""
    place = bench.place
    batches = (1,) if bench.part.rehearse else (1, 16)
    for height, width in ((1080, 1920), (300, 260), (256, 256)):
        frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        for batch in batches:
            placed = [place.given(frame) for _ in range(batch)]
            where = [(p.address, height, width, 3 * width) for p in placed]
            out = place.result((batch, 3, 256, 256), "float16")
            call = (where, 256, out.address, "float16", place.stream)
            moved = batch * 3 * min(height, width) ** 2 + out.size
            name = f"preprocess {width} x {height}, batch {batch}"
            bench.record(name, lambda call=call: place.kernels.preprocess(*call), moved)


def log_density(bench: Bench) -> None:
    """One embedding and sixteen over five thousand points of 128 dimensions, in float64."""
    place, points, dimension = bench.place, 100 if bench.part.rehearse else 5000, 128
    centres = place.given(_normal((points, dimension)))
    for batch in (1, 16):
        x, out = place.given(_normal((batch, dimension))), place.result((batch,), "float64")
        workspace = place.result((place.kernels.density_workspace(batch, points),), "uint8")
        call = (x.address, batch, centres.address, points, dimension, 0.5, workspace.address, out.address, place.stream)
        name = f"log-density, {points} points, batch {batch}"
        bench.record(name, lambda call=call: place.kernels.kde_log_density(*call), centres.size)


def _cases(bench: Bench) -> list[tuple[int, tuple[str, str]]]:
    """Batch and types, what the chain uses first."""
    types = (("float16", "float16"), ("float32", "float16"), ("float32", "float32"))
    return [(batch, pair) for batch in bench.batches for pair in types]


def _beside_arithmetic(bench: Bench, name: str, microseconds: float, count: int) -> None:
    entry = bench.part.results[name]
    clock = entry["clocks"].get("clocks.sm", "").split()
    if not bench.place.gpu or not clock:
        return
    rate = bench.place.properties.multi_processor_count * _LANES * float(clock[0])  # operations a microsecond
    floor = _OPERATIONS * count / rate
    bench.part.set(name, {**entry, "arithmetic_floor_us": floor, "share_of_arithmetic": floor / microseconds})


def _normal(shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


_COEFFICIENTS = np.random.default_rng(1).uniform(0.1, 30, (_STEPS, 2)).astype(np.float32)


if __name__ == "__main__":
    main()

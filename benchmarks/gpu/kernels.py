"""Every kernel against its CPU twin, on random odd sizes, results poisoned before and guarded on both sides.

Noise and normals have to be the bits that `leakrt._core` gives, a float16 result those bits rounded once; preprocess
may differ from `core.preprocess` by 2e-6 (by 4e-6 for large frames, 2e-5 where over a hundred rows make one), the
log-density from `core.density` by 1e-11. In a rehearsal `leakrt._grid`, the kernels' host twin, runs instead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from part import Part, one_line
from place import Guarded, Place

from leakrt import _core
from leakrt.core.density import log_density_reference
from leakrt.core.preprocess import preprocess_reference
from leakrt.runtime.backends.device_memory import Frame, FrameAt
from leakrt.runtime.backends.staging import frames_size, lay_frames, place_frames

_TYPES = ("float32", "float16")
_DENSITY_ERROR = 1e-11
_SMALL, _MANY_TAPS = 300, 100  # pixels of a side; pixels that make one


def main() -> None:
    """Compare and write."""
    part = Part(__doc__)
    part.needs_torch()
    place = Place(gpu=not part.rehearse)
    cases = 8 if part.rehearse else 60
    checks: dict[str, Callable[[Place, np.random.Generator], tuple[str, float]]] = {
        "noise from a bank": noise_from_a_bank,
        "fresh noise": fresh_noise,
        "normals": normals,
        "preprocess": preprocess,
        "log-density": log_density,
    }
    for name, check in checks.items():
        part.set(name, _run(part, name, check, place, cases))
    with part.trying("noise kernel info"):
        part.set("noise kernels", [] if part.rehearse else place.kernels.noise_kernel_info())
    part.end()


def _run(
    part: Part, name: str, check: Callable[[Place, np.random.Generator], tuple[str, float]], place: Place, cases: int
) -> dict[str, Any]:
    """`check` gives a description of its case and its largest error over what is allowed."""
    worst, wrong, exact = 0.0, [], 0
    for case in range(cases):
        try:
            described, error = check(place, np.random.default_rng([case, len(name)]))
        except Exception as problem:
            wrong.append(f"case {case}: {one_line(problem)}")
            if len(wrong) > 3:  # an error of CUDA's stays: every further case would repeat it
                break
            continue
        worst, exact = max(worst, error), exact + (error == 0)
        if not error <= 1:
            wrong.append(f"case {case}, {described}: {error:.3g} times what is allowed")
    if wrong:
        part.fail(f"{name}: {len(wrong)} of {cases} cases are wrong; {wrong[0]}")
    return {"cases": cases, "wrong": wrong, "exact": exact, "worst": worst}


def _sizes(rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Batch, draws, steps, elements: every third time whole units of eight."""
    batch, draws, steps, elements = (int(rng.integers(1, top)) for top in (10, 4, 10, 1100))
    return batch, draws, steps, elements if rng.integers(3) else 8 * (elements // 8 + 1)


def _shift(rng: np.random.Generator, *types: str) -> int:
    """Bytes off alignment that every type allows; half of the time none."""
    size = max(np.dtype(t).itemsize for t in types)
    return int(size * rng.integers(1, 5) * rng.integers(2))


def _same_bits(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> float:
    """0 for equal bits, else more than 1: how many values are not the same."""
    different = np.count_nonzero(found.view(np.uint8) != wanted.view(np.uint8))
    return 1.0 + float(different) if different else 0.0


def noise_from_a_bank(place: Place, rng: np.random.Generator) -> tuple[str, float]:
    """`noise_steps`."""
    batch, draws, steps, elements = _sizes(rng)
    z_type, u_type = (str(rng.choice(_TYPES)) for _ in range(2))
    latents = rng.standard_normal((batch, 1, 1, elements), np.float32).astype(z_type)
    bank = rng.standard_normal((draws, steps, 1, 1, elements), np.float32)
    coefficients = rng.uniform(0.1, 30, (steps, 2)).astype(np.float32)
    shift = _shift(rng, "float32")
    z, eps = place.given(latents, shift), place.given(bank, shift)
    u = place.result((batch * draws, steps, 1, 1, elements), u_type, shift)
    u.poison()
    place.kernels.noise_steps(
        z.address, z_type, eps.address, coefficients, u.address, u_type, batch, draws, elements, place.stream
    )
    wanted = _core.noise_steps(latents.astype(np.float32), bank, coefficients)
    described = f"{batch} x {draws} x {steps} x {elements}, {z_type} to {u_type}, {shift} bytes off"
    return described, _same_bits(u.read(), wanted.astype(u_type))


def fresh_noise(place: Place, rng: np.random.Generator) -> tuple[str, float]:
    """`noise_steps_fresh`."""
    batch, draws, steps, elements = _sizes(rng)
    z_type, u_type = (str(rng.choice(_TYPES)) for _ in range(2))
    latents = rng.standard_normal((batch, 1, 1, elements), np.float32).astype(z_type)
    coefficients = rng.uniform(0.1, 30, (steps, 2)).astype(np.float32)
    samples, seed = rng.integers(0, 2**32, batch, np.uint32), int(rng.integers(0, 2**63))
    shift = _shift(rng, "float32")
    z, own = place.given(latents, shift), place.given(samples)
    u = place.result((batch * draws, steps, 1, 1, elements), u_type, shift)
    u.poison()
    place.kernels.noise_steps_fresh(
        z.address, z_type, coefficients, u.address, u_type, batch, draws, elements, seed, own.address, place.stream
    )
    wanted = _core.noise_steps_fresh(latents.astype(np.float32), coefficients, seed, samples, draws)
    described = f"{batch} x {draws} x {steps} x {elements}, {z_type} to {u_type}, {shift} bytes off"
    return described, _same_bits(u.read(), wanted.astype(u_type))


def normals(place: Place, rng: np.random.Generator) -> tuple[str, float]:
    """`fill_normals`."""
    _, draws, steps, elements = _sizes(rng)
    seed, sample, shift = int(rng.integers(0, 2**63)), int(rng.integers(0, 2**32)), _shift(rng, "float32")
    out = place.result((draws, steps, elements), "float32", shift)
    out.poison()
    place.kernels.fill_normals(out.address, draws, steps, elements, seed, sample, place.stream)
    wanted = np.empty((draws, steps, elements), np.float32)
    _core.fill_normals(seed, sample, wanted)
    return f"{draws} x {steps} x {elements}, {shift} bytes off", _same_bits(out.read(), wanted)


def preprocess(place: Place, rng: np.random.Generator) -> tuple[str, float]:
    """`preprocess`, several frames of different sizes in one call: now and then large ones, or more than one launch
    takes."""
    kind = int(rng.integers(8))
    top = 2200 if kind < 2 and place.gpu else _SMALL
    count, size = 35 if kind == 2 else int(rng.integers(1, 5)), int(rng.integers(1, 140))
    shapes = [(int(rng.integers(1, top)), int(rng.integers(1, top)), 3) for _ in range(count)]
    frames = [rng.integers(0, 256, shape, np.uint8) for shape in shapes]
    laid = bool(rng.integers(2))
    _kept, where = _laid(place, frames, size) if laid else _whole(place, frames, rng)
    u_type = str(rng.choice(_TYPES))
    out = place.result((count, 3, size, size), u_type)
    out.poison()
    place.kernels.preprocess(where, size, out.address, u_type, place.stream)
    errors = []
    for image, frame in zip(out.read(), frames, strict=True):
        allowed = 2e-6 if max(frame.shape) <= _SMALL else 4e-6
        allowed = allowed if max(frame.shape) < _MANY_TAPS * size else 2e-5
        allowed += 0.0 if u_type == "float32" else 2.0**-11  # half a unit in the last place, up to 1
        errors.append(np.abs(image.astype(np.float32) - preprocess_reference(frame, size)).max() / allowed)
    described = f"{count} frames{', what is seen of them,' if laid else ''} to {size} in {u_type}"
    return described, float(np.max(errors))  # not max(): it would lose a NaN


def _whole(place: Place, frames: list[Frame], rng: np.random.Generator) -> tuple[list[Guarded], list[FrameAt]]:
    """Each frame by itself, at an odd address: the memory, which has to be kept, and where they lie."""
    placed = [place.given(frame, int(rng.integers(0, 7))) for frame in frames]
    return placed, [(at.address, *frame.shape[:2], frame.strides[0]) for at, frame in zip(placed, frames, strict=True)]


def _laid(place: Place, frames: list[Frame], size: int) -> tuple[list[Guarded], list[FrameAt]]:
    """As the runtime lays them, likewise."""
    room = np.full(frames_size(frames, size), 0xA5, np.uint8)
    deque(lay_frames(frames, size, room), maxlen=0)
    placed = place.given(room)
    return [placed], place_frames(frames, size, placed.address)


def log_density(place: Place, rng: np.random.Generator) -> tuple[str, float]:
    """`kde_log_density`."""
    batch, points, dimension = (int(rng.integers(1, top)) for top in (9, 3000 if place.gpu else 400, 140))
    scale, bandwidth = float(rng.uniform(0.05, 20)), float(rng.uniform(0.05, 5))
    x = rng.normal(scale=scale, size=(batch, dimension)).astype(np.float32)
    support = rng.normal(scale=scale, size=(points, dimension)).astype(np.float32)
    given, centres = place.given(x), place.given(support)
    workspace = place.result((place.kernels.density_workspace(batch, points),), "uint8")
    out = place.result((batch,), "float64")
    workspace.poison()
    out.poison()
    place.kernels.kde_log_density(
        given.address, batch, centres.address, points, dimension, bandwidth, workspace.address, out.address,
        place.stream,
    )  # fmt: skip
    found, wanted = out.read(), log_density_reference(x, support, bandwidth)
    workspace.read()
    error = np.abs(found - wanted) / np.maximum(np.abs(wanted), 1.0)
    return f"{batch} of {points} x {dimension}, bandwidth {bandwidth:.3g}", float(error.max()) / _DENSITY_ERROR


if __name__ == "__main__":
    main()

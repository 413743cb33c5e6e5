"""All-steps noising against eager torch and against NumPy, as ratios taken side by side in one run.

    python benchmarks/noising.py [--repeats 300] [--threads 1]

Every contender works once in each repeat, in turn, so that a busy machine slows all of them alike. Printed are the
median and the spread (5 % to 95 %) of each, the ratio of the medians, and how far the results lie apart. T = 8,
latents 4 x 32 x 32. Needs the train extra (torch).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

from leakrt import _core
from leakrt.core import noise
from leakrt.core.schedule import alphas_sigmas, step_coefficients

TIMESTEPS = (0, 20, 60, 100, 150, 250, 400, 700)
SHAPE = (4, 32, 32)
SEED = 7


class Contenders:
    """The same job in every form: latents float32 [B, 4, 32, 32] to noised float32 [B, T, 4, 32, 32]."""

    def __init__(self, batch: int, threads: int) -> None:
        self.threads = threads
        self.latents = np.random.default_rng(0).normal(size=(batch, *SHAPE)).astype(np.float32)
        self.bank = noise.normals(SEED, 0, 1, steps=len(TIMESTEPS), shape=SHAPE)
        self.coefficients = step_coefficients("scaled_linear", TIMESTEPS, True)
        self.samples = np.arange(batch, dtype=np.uint32)
        self.out = np.empty((batch, len(TIMESTEPS), *SHAPE), np.float32)
        self.numpy_out = np.empty_like(self.out)
        alphas, sigmas = alphas_sigmas("scaled_linear")
        self.pairs = [(float(alphas[t]), float(sigmas[t])) for t in TIMESTEPS]
        self.z0, self.eps = torch.from_numpy(self.latents), torch.from_numpy(self.bank[0])
        self.scale = self.coefficients[:, 0].reshape(-1, 1, 1, 1)

    def native_kept(self) -> np.ndarray:
        return _core.noise_steps(self.latents, self.bank, self.coefficients, self.out, self.threads)

    def native_fresh(self) -> np.ndarray:
        return _core.noise_steps_fresh(self.latents, self.coefficients, SEED, self.samples, 1, self.out, self.threads)

    def numpy_two_lines(self) -> np.ndarray:
        np.multiply(self.scale, self.latents[:, None], out=self.numpy_out)
        return np.add(self.numpy_out, self.bank, out=self.numpy_out)

    def torch_kept(self) -> torch.Tensor:
        steps = [(a * self.z0 + s * self.eps[t]) / s for t, (a, s) in enumerate(self.pairs)]
        return torch.stack(steps, dim=1)

    def torch_fresh(self) -> torch.Tensor:
        steps = [(a * self.z0 + s * torch.randn(self.z0.shape)) / s for a, s in self.pairs]
        return torch.stack(steps, dim=1)


def interleaved(jobs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, np.ndarray]:
    """Microseconds of each job, float64 [repeats], one of each in turn after ten unmeasured rounds."""
    times = {name: np.empty(repeats) for name in jobs}
    for repeat in range(-10, repeats):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if repeat >= 0:
                times[name][repeat] = (time.perf_counter() - start) * 1e6
    return times


def report(batch: int, times: Mapping[str, np.ndarray]) -> None:
    """Print the times of one batch size and the three ratios that count."""
    median = {name: float(np.median(values)) for name, values in times.items()}
    for name, values in times.items():
        low, high = np.percentile(values, [5, 95])
        print(f"B={batch:<3} {name:16} {median[name]:9.1f} us   {low:9.1f} to {high:9.1f}")
    for slow, fast, goal in (
        ("torch_kept", "native_kept", 10.0),
        ("numpy_two_lines", "native_kept", 1.0),
        ("torch_fresh", "native_fresh", 4.0),
    ):
        ratio = median[slow] / median[fast]
        print(f"B={batch:<3} {slow} / {fast} = {ratio:.1f}   (goal {goal:g}: {'met' if ratio >= goal else 'MISSED'})")


def deviations(contenders: Contenders) -> None:
    """Print how far the native results lie from the references."""
    expected = noise.noise_steps(contenders.latents, contenders.bank, contenders.coefficients)
    kept = float(np.abs(contenders.native_kept() - expected).max())
    against_torch = float(np.abs(contenders.native_kept() - contenders.torch_kept().numpy()).max())
    normals = np.empty((1, 8, 131_075), np.float32)
    _core.fill_normals(SEED, 3, normals)
    normal = float(np.abs(normals - noise.normals(SEED, 3, 1, steps=8, shape=(131_075,))).max())
    print(f"largest deviation: kept noise {kept:.2g} from the reference, {against_torch:.2g} from torch;")
    print(f"                   normals {normal:.2g} from the reference over {normals.size} (bound 2e-6)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--threads", type=int, default=0, help="of each contender; 0: one a core")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(f"instruction set {_core.simd()}, torch {torch.__version__} on {torch.get_num_threads()} threads")
    for batch in (1, 16):
        contenders = Contenders(batch, arguments.threads)
        names = ("native_kept", "numpy_two_lines", "torch_kept", "native_fresh", "torch_fresh")
        report(batch, interleaved({name: getattr(contenders, name) for name in names}, arguments.repeats))
        deviations(contenders)


if __name__ == "__main__":
    main()

"""NumPy reference of the log-density: an isotropic Gaussian kernel density estimate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def log_density_reference(
    x: npt.NDArray[np.float32], support: npt.NDArray[np.float32], bandwidth: float
) -> npt.NDArray[np.float64]:
    """Return log p(x), float64 [B], for `x` float32 [B, D] and `support` float32 [N, D].

    p(x) = (1 / N) sum_n (2 pi h^2)^(-D / 2) exp(-|x - s_n|^2 / (2 h^2)), where h is the bandwidth. Memory grows with
    B x N x D. Raises ValueError if the support is empty or the bandwidth is not positive.
    """
    if support.shape[0] == 0 or not bandwidth > 0.0:
        raise ValueError(f"support {support.shape} must not be empty, and bandwidth {bandwidth} must be positive")
    difference = x[:, None, :].astype(np.float64) - support[None].astype(np.float64)
    exponents = -0.5 * np.square(difference).sum(axis=-1) / bandwidth**2
    peak = exponents.max(axis=1)
    log_sum = peak + np.log(np.exp(exponents - peak[:, None]).sum(axis=1))
    count, dimension = support.shape
    return np.asarray(log_sum - np.log(count) - dimension * (0.5 * np.log(2.0 * np.pi) + np.log(bandwidth)))

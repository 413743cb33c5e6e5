"""The log-density of LeakRT, as a NumPy reference: an isotropic Gaussian kernel density estimate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def log_density_reference(
    x: npt.NDArray[np.float32], support: npt.NDArray[np.float32], bandwidth: float
) -> npt.NDArray[np.float64]:
    """float64 [B]: log p(x) = log (1 / N) sum_n (2 pi h^2)^(-D / 2) exp(-|x - s_n|^2 / (2 h^2)), h the bandwidth.

    `x` float32 [B, D], `support` float32 [N, D]. Memory grows with B x N x D. Raises ValueError for no support or a
    bandwidth that is not positive.
    """
    if support.shape[0] == 0 or not bandwidth > 0.0:
        raise ValueError(f"support {support.shape} and bandwidth {bandwidth}: both have to be more than nothing")
    difference = x[:, None, :].astype(np.float64) - support[None].astype(np.float64)
    exponents = -0.5 * np.square(difference).sum(axis=-1) / bandwidth**2
    peak = exponents.max(axis=1)
    log_sum = peak + np.log(np.exp(exponents - peak[:, None]).sum(axis=1))
    count, dimension = support.shape
    return np.asarray(log_sum - np.log(count) - dimension * (0.5 * np.log(2.0 * np.pi) + np.log(bandwidth)))

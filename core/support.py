"""The fitted geometry of the embeddings: density support and prototypes (`density.PRECISION.safetensors`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from .errors import BundleError

Array = npt.NDArray[np.float32]
_FIELDS = ("mean", "projection", "points", "bandwidth", "prototypes")


@dataclass(frozen=True, kw_only=True)
class Support:
    """The parameters of the kernel density and the prototypes, float32. Raises BundleError for invalid ones.

    An embedding h [D] is projected to (h - mean) @ projection [P]. Its log-density is that of a uniform mixture of N
    isotropic Gaussians of standard deviation `bandwidth` around `points`.
    """

    mean: Array  # [D]
    projection: Array  # [D, P]
    points: Array  # [N, P]
    bandwidth: float
    prototypes: Array  # [K, M, D]

    def __post_init__(self) -> None:
        d, p = self.projection.shape if self.projection.ndim == 2 else (-1, -1)
        good = (
            self.mean.shape == (d,)
            and self.points.ndim == 2
            and self.points.shape[1] == p
            and len(self.points) > 0
            and self.prototypes.ndim == 3
            and self.prototypes.shape[2] == d
            and 0 < self.bandwidth < np.inf
        )
        finite = all(np.isfinite(a).all() for a in (self.mean, self.projection, self.points, self.prototypes))
        if not good or not finite:
            raise BundleError("the density support has the wrong shapes or values; export the bundle again")

    def project(self, embedding: Array) -> Array:
        """Project embeddings, float32 [B, D], to the space of the density, float32 [B, P].

        Rows are projected one by one: the rounding of a matrix product may depend on the batch, and a score must not.
        """
        rows = [np.einsum("d,dp->p", row, self.projection) for row in embedding - self.mean]
        return np.stack(rows) if rows else np.empty((0, self.projection.shape[1]), np.float32)

    def prototype_distances(self, embedding: Array, gates: Array, *, branches: int) -> npt.NDArray[np.float64]:
        """Return the gated distances of one image to the prototypes of each branch: float64 [branches, K, M].

        d_km = sum_i w_i (h_i - p_kmi)^2 over the branch's equal share of the D dimensions.
        """
        difference = embedding.astype(np.float64) - self.prototypes
        terms = gates * difference**2
        return np.stack([part.sum(axis=-1) for part in np.split(terms, branches, axis=-1)])

    def to_bytes(self) -> bytes:
        """Return the bytes of the safetensors file."""
        tensors = {
            "mean": self.mean,
            "projection": self.projection,
            "points": self.points,
            "bandwidth": np.array([self.bandwidth], np.float32),
            "prototypes": self.prototypes,
        }
        return bytes(save({k: np.ascontiguousarray(v, np.float32) for k, v in tensors.items()}))

    @classmethod
    def from_bytes(cls, data: bytes) -> Support:
        """Read the bytes that `to_bytes` returned. Raises BundleError."""
        try:
            tensors = load(data)
        except (SafetensorError, ValueError, KeyError) as error:
            raise BundleError(f"the density support can't be read ({error}); export the bundle again") from error
        if set(tensors) != set(_FIELDS) or any(t.dtype != np.float32 for t in tensors.values()):
            raise BundleError(f"the density support must hold float32 {', '.join(_FIELDS)}; export the bundle again")
        if tensors["bandwidth"].shape != (1,):
            raise BundleError("the density support's bandwidth is not one number; export the bundle again")
        return cls(
            mean=tensors["mean"],
            projection=tensors["projection"],
            points=tensors["points"],
            bandwidth=float(tensors["bandwidth"][0]),
            prototypes=tensors["prototypes"],
        )

"""Density, temperature, thresholds and bounds of an FP16 variant, fitted on validation images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ...core.bounds import observe
from ...core.bundle import Bundle
from ...core.outputs import LeakOutputs
from ...train.density import fit_bandwidth
from ..acceptance.doubt import fit_with_doubt
from ..acceptance.variant_files import NewVariant

PRECISION = "fp16"


@dataclass(frozen=True, kw_only=True)
class HalfOutputs:
    """What the graphs return for N validation images."""

    exact: LeakOutputs  # of fp32
    found: Sequence[LeakOutputs]  # of fp16: on ONNX Runtime, then in strict float16
    latents: npt.NDArray[np.float32]  # of fp16 on ONNX Runtime: [N, 4, S/8, S/8]
    labels: npt.NDArray[np.int64]  # [N]


def fit_half(bundle: Bundle, graphs: tuple[bytes, bytes], outputs: HalfOutputs) -> NewVariant:
    """Return the variant of two graphs (VAE encoder, leak encoder) with everything that is fitted for it.

    The density keeps the points of fp32. Raises DataError for outputs that are not finite.
    """
    exact, found = bundle.support("fp32"), outputs.found[0]
    support = replace(exact, bandwidth=fit_bandwidth(exact.points, exact.project(found.embedding)))
    decision = fit_with_doubt(
        outputs.exact,
        outputs.found,
        bundle.spec,
        support=support,
        labels=outputs.labels,
        rate=bundle.decisions["fp32"].false_alarm_rate,
    )
    return NewVariant(
        precision=PRECISION,
        vae_encoder=graphs[0],
        leak_encoder=graphs[1],
        support=support,
        decision=replace(decision, bounds=observe(outputs.latents, found)),
        report={},
    )

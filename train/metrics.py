"""Metrics from confidences: ROC areas, separation of open from closed images, OSCR, calibration."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score, roc_curve

ECE_BINS = 15

Doubles = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def class_auc(labels: Labels, shares: Doubles, class_index: int) -> float | None:
    """Return the area under the ROC curve of one class against the rest, or None if either has no image.

    `labels` is [N], `shares` (class probabilities) is [N, K].
    """
    positive = labels == class_index
    if positive.all() or not positive.any():
        return None
    return float(roc_auc_score(positive, shares[:, class_index]))


def macro_auc(labels: Labels, shares: Doubles) -> float | None:
    """Return the mean of `class_auc` over the K classes, or None if one of them is None."""
    areas = [area for k in range(shares.shape[1]) if (area := class_auc(labels, shares, k)) is not None]
    return float(np.mean(areas)) if len(areas) == shares.shape[1] else None


def separation(closed: Doubles, unseen: Doubles) -> tuple[float, float]:
    """Return AUROC and FPR at 95 % TPR of separating closed images (positive, higher scores) from open ones.

    FPR at 95 % as in Liang et al. (ICLR 2018): the share of open images accepted when 95 % of closed ones are.
    """
    is_closed = np.concatenate([np.ones(len(closed), bool), np.zeros(len(unseen), bool)])
    scores = np.concatenate([closed, unseen])
    false_positive, true_positive, _ = roc_curve(is_closed, scores, drop_intermediate=False)
    return float(roc_auc_score(is_closed, scores)), float(false_positive[true_positive >= 0.95][0])


def open_set_classification_rate(right: Doubles, unseen: Doubles, closed_images: int) -> float:
    """Return OSCR (Dhamija et al., NeurIPS 2018): area under correct classification over acceptance of open images.

    `right` holds the confidences of correctly classified closed images, `unseen` of open images. The area is the
    probability that a closed image is classified correctly and with more confidence than an open one; ties count half.
    """
    ascending = np.sort(right)
    at_least = len(right) - np.searchsorted(ascending, unseen, side="left")
    above = len(right) - np.searchsorted(ascending, unseen, side="right")
    return float((at_least + above).mean() / 2.0 / closed_images)


def expected_calibration_error(confidence: Doubles, right: npt.NDArray[np.bool_], *, bins: int = ECE_BINS) -> float:
    """Return mean |accuracy - confidence| over bins of equal width, weighted by images (Guo et al., ICML 2017)."""
    counts, mean_confidence, accuracy = calibration_bins(confidence, right, bins=bins)
    filled = counts > 0
    return float(np.abs(accuracy - mean_confidence)[filled] @ counts[filled] / len(confidence))


def calibration_bins(
    confidence: Doubles, right: npt.NDArray[np.bool_], *, bins: int = ECE_BINS
) -> tuple[npt.NDArray[np.int64], Doubles, Doubles]:
    """Return images, mean confidence and accuracy of each bin (i / bins, (i + 1) / bins]; 0 for an empty bin."""
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    filled = np.maximum(counts, 1)
    mean_confidence = np.bincount(index, weights=confidence, minlength=bins) / filled
    return counts, mean_confidence, np.bincount(index, weights=right, minlength=bins) / filled

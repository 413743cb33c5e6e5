"""The labelled images of a run in the splits of its training. Calibration and acceptance tests use no test image."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.bundle import Bundle
from ..core.errors import DataError
from ..train.data import Listing, list_data
from ..train.layout import Split

_log = logging.getLogger(__name__)


def labelled(data: Path, bundle: Bundle) -> Listing:
    """Return the labelled data of a bundle's run. Logs skipped files. Raises DataError if the classes differ."""
    spec = bundle.spec
    listing = list_data(data)
    for note in listing.notes:
        _log.warning("leakrt: note: %s", note)
    if listing.classes != tuple(sorted(spec.class_names)):
        raise DataError(
            f"{data}: the folder has the classes {', '.join(listing.classes)}, "
            f"but the bundle has {', '.join(spec.class_names)}; give the data that the run was trained on"
        )
    if listing.classes != spec.class_names:
        raise DataError(f"{data}: the classes are not in the order of the bundle; export the run again")
    return listing


def paths_of(listing: Listing, split: Split) -> list[Path]:
    """Return the image paths of one split."""
    return [item.path for item in listing.items if item.split == split]


def labels_of(listing: Listing, split: Split) -> npt.NDArray[np.int64]:
    """Return the class indices of one split, int64 [N], in the order of `paths_of`."""
    return np.array([item.class_index for item in listing.items if item.split == split], np.int64)

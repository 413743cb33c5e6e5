"""Where a picture may go."""

from __future__ import annotations

import os
from pathlib import Path

from ..core.errors import UsageError, require


def check_picture(path: Path, option: str, example: str) -> None:
    """Asked before anything runs, so that an hour's work is not lost for its picture.

    Raises UsageError for a path that can't be written, MissingExtraError without matplotlib.
    """
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        place = "a folder that is there and can be written to"
        raise UsageError(f"{option} {path} is no file in {place}; name one such as {example}")
    require("matplotlib", "train")

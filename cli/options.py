"""Options shared by several verbs: types, help texts and checks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import UsageError, require

Backend = Annotated[
    str,
    typer.Option(
        help="Backend: auto, fastest, or a name from `leakrt doctor`. "
        "tensorrt (except 8.5.3 in fp32) and tensorrt_rtx are experimental."
    ),
]
Device = Annotated[int, typer.Option(help="GPU number, for backends that run on a GPU.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Threads = Annotated[int, typer.Option(help="CPU threads; 0: one per physical core.")]


def numbers(text: str, option: str, example: str) -> tuple[int, ...]:
    """Parse comma-separated integers. Raises UsageError, which names `option` and shows `example`."""
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"{option} {text}: not a list of integers; separate integers with commas, such as {example}"
        ) from error


def check_picture(path: Path, option: str, example: str) -> None:
    """Check that a plot can be written, before any long computation starts.

    Raises UsageError if the path can't be written, MissingExtraError if matplotlib is not installed.
    """
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"{option} {path}: cannot write there; give a file in a writable folder, such as {example}")
    require("matplotlib", "train")

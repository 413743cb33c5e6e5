"""Options that several verbs have: their types, their help and their checks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import UsageError, require

Backend = Annotated[str, typer.Option(help="Backend that runs the bundle; `leakrt doctor` lists them.")]
Device = Annotated[int, typer.Option(help="GPU number, for a backend that runs on a GPU.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Threads = Annotated[int, typer.Option(help="CPU threads; 0: one per physical core.")]


def numbers(text: str, option: str, example: str) -> tuple[int, ...]:
    """The whole numbers between commas. Raises UsageError that names `option` and shows `example`."""
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} {text}: whole numbers with commas between are needed, such as {example}") from error


def check_picture(path: Path, option: str, example: str) -> None:
    """Asked before anything runs, so that an hour's work is not lost for its picture.

    Raises UsageError for a path that can't be written, MissingExtraError without matplotlib.
    """
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        place = "a folder that is there and can be written to"
        raise UsageError(f"{option} {path} is no file in {place}; name one such as {example}")
    require("matplotlib", "train")

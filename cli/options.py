"""Options that several verbs have, written once: their types and their help."""

from __future__ import annotations

from typing import Annotated

import typer

Backend = Annotated[str, typer.Option(help="What runs a bundle; see `leakrt doctor`.")]
Device = Annotated[int, typer.Option(help="Number of the GPU, for a backend that runs on one.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Threads = Annotated[int, typer.Option(help="CPU threads; 0: one for each core.")]

"""The Typer application. Each verb is a function in the module of the same name."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Annotated, Any

import typer

from .guard import guarded

VERBS = (
    "quickstart",
    "train",
    "evaluate",
    "export",
    "calibrate",
    "accept",
    "build",
    "engines",
    "check",
    "profile",
    "inspect",
    "doctor",
)
_WIDTH = 120  # columns of help; Click's default of 80 truncates the summaries of the verbs


def build_app() -> typer.Typer:
    """Return the application with all verbs."""
    app = typer.Typer(
        help="Detect generated face images and name the generator: train, export, calibrate, compile and check.",
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _WIDTH},
    )
    app.callback(invoke_without_command=True)(_root)
    for verb in VERBS:
        function = _find_verb(verb)
        if function is not None:
            app.command(verb)(_as_command(function))
    return app


def _as_command(function: Callable[..., int | None]) -> Callable[..., None]:
    """Wrap a verb for Typer: `guarded` sees its errors before Typer does, and its exit code is raised."""

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> None:
        raise typer.Exit(guarded(lambda: function(*args, **kwargs) or 0))

    return command


def _find_verb(verb: str) -> Callable[..., int | None] | None:
    module = f"{__package__}.{verb}"
    try:
        found: Callable[..., int | None] = getattr(importlib.import_module(module), verb)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return None
    return found


def _root(
    ctx: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    from .. import __version__

    if version:
        print(f"leakrt {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())
        raise typer.Exit(2)

"""`python -m leakrt`, where the `leakrt` command is not on the path."""

from .cli.main import run

run()

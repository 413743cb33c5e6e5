"""The `torch` backend: a bundle's networks run by torch. Only kind.py may be imported without torch."""

from __future__ import annotations

from .kind import KIND as KIND

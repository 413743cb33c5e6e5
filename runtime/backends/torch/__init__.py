"""The `torch` backend: runs a bundle's networks with torch. Only kind.py can be imported without torch."""

from __future__ import annotations

from .kind import KIND as KIND

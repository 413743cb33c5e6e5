"""Backends that run a bundle's two graphs. `base` defines the interfaces, `registry` lists and orders the backends."""

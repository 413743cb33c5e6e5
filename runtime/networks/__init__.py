"""A bundle's networks run by torch, for the `torch` backend. Only that backend imports these modules, and lazily."""

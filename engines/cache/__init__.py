"""Engines on disk: their keys, records, index and signatures."""

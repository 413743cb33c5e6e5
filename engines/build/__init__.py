"""Derive, compile and check the engines of a variant."""

"""Situations in which a tool may judge something else than what it was given. One module for each kind."""

"""Command-line interface: one module per verb. It parses options and prints; other packages compute."""

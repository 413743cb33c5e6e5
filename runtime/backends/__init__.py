"""What runs a bundle's two graphs. `base` says what a backend is, `registry` which there are and in what order."""

"""The stages of `leakrt quickstart`: a rendered data set, a small VAE trained on it, and the report."""

"""A data set rendered on this machine, a small VAE trained on it, and the report: what `leakrt quickstart` runs."""

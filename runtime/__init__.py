"""Run a bundle: detector, backends, preprocessing and the native core."""

"""Training: data sets, the latent cache, the leak encoder, its training loop and its evaluation."""

"""From labelled images to a trained run: data, latents, the leak encoder, its training and its evaluation."""

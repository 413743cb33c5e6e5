"""Engines: variants compiled for one device by TensorRT 8.5 to 11 or TensorRT-RTX, their cache and their inspection."""

"""Adapters for the installed TensorRT and TensorRT-RTX versions, and their log output."""

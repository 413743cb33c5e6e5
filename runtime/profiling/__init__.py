"""Measure a bundle's latency, throughput, cold start and memory on this machine. The entry point is `profile`."""

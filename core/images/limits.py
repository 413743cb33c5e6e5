"""Limits on image files, and the message for damaged ones."""

MAX_PIXELS = 64_000_000
MAX_FILE_BYTES = 256 << 20
MIN_SIDE = 32
READER_VERSION = 2  # increment it when any file decodes to different pixels: cached latents depend on it

DAMAGED = "the image is damaged or truncated"

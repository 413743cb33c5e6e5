"""What a file may be at most, and the words for one that is damaged."""

MAX_PIXELS = 64_000_000
MAX_FILE_BYTES = 256 << 20
MIN_SIDE = 32
READER_VERSION = 2  # another one gives other pixels for some files, so latents are cached by it

DAMAGED = "the image is damaged or cut short"

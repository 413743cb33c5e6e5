"""Write preprocess.npz beside this file: what torchvision makes of synthetic frames. Run once, by hand.

    pip install torch==2.14.1 torchvision==0.29.1 numpy && python make_preprocess.py

Frames are uint8 BGR, made by `frame` from their sizes alone, so that only the results are stored. Where S > 64,
every fifth pixel of each axis is kept.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

CASES = [
    (21, 12, 32),
    (12, 21, 32),
    (55, 33, 32),
    (1, 1, 32),
    (3, 40, 32),
    (32, 47, 32),
    (301, 457, 32),
    (55, 33, 64),
    (64, 65, 64),
    (301, 457, 64),
    (457, 301, 64),
    (640, 480, 64),
    (21, 12, 256),
    (301, 457, 256),
    (480, 640, 256),
    (640, 480, 256),
    (256, 300, 256),
    (1080, 1920, 256),
]
STRIDE = {32: 1, 64: 1, 256: 5}


def frame(height: int, width: int) -> np.ndarray:
    """uint8 [height, width, 3]: noise under gradients and a checkerboard, the same on every machine."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    mixed = (y * 7919 + x * 104729 + c * 1299709 + y * x * 31 + (y * y + 3 * x * x) * 17) % 251
    return ((mixed + 2 * y + 3 * x * (c + 1) + 120 * ((y // 5 + x // 3) % 2)) % 256).astype(np.uint8)


def torchvision_preprocess(bgr: np.ndarray, size: int) -> np.ndarray:
    """float32 [3, size, size]."""
    import torch
    from torchvision.transforms.v2 import functional

    image = torch.from_numpy(np.ascontiguousarray(bgr[..., ::-1])).permute(2, 0, 1).float()
    image = functional.resize(image, [size], antialias=True)
    return (functional.center_crop(image, [size, size]) / 127.5 - 1.0).numpy()


def main() -> None:
    arrays = {}
    for height, width, size in CASES:
        step = STRIDE[size]
        arrays[f"{height}x{width}_{size}"] = torchvision_preprocess(frame(height, width), size)[:, ::step, ::step]
    np.savez_compressed(Path(__file__).with_name("preprocess.npz"), **arrays)


if __name__ == "__main__":
    main()

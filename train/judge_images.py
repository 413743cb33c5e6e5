"""Verdicts of a training run on image files, through the latent cache and torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .. import _core
from ..core.errors import ImageError
from ..core.images import read_image
from ..core.outputs import LeakOutputs
from ..core.progress import Progress, silent
from ..core.verdict import Verdict
from .data import hash_image
from .fit import FittedRun
from .image_latents import encode_images, with_pixel_channels
from .latents import LatentCache
from .predict import predict, verdicts
from .record_cache import ImageRequest
from .run import open_cache

Frame = npt.NDArray[np.uint8]
_BATCH = 32


def judge_images(
    fitted: FittedRun, paths: Sequence[Path], *, outputs: list[LeakOutputs] | None = None, progress: Progress = silent
) -> list[Verdict]:
    """Return one verdict per image file, in order. An unreadable file gives a verdict with `error` set.

    The outputs of the readable files are appended to `outputs`, if it is given.

    Latents are read from the run's cache and added to it. Raises ModelError if the VAE was moved or changed,
    StorageError.
    """
    run, origin = fitted.run, fitted.judge.origin
    cache = open_cache(Path(run.info.cache), run.info.vae)
    checked = _check(cache, paths, run.info.config.threads, progress=progress)
    readable = [(path, digest) for path, digest in zip(paths, checked, strict=True) if isinstance(digest, str)]
    missing = cache.missing(ImageRequest(path, digest, (0,)) for path, digest in readable)
    if missing:
        cache.fill(run.vae(), missing, run.info.config.threads, progress=progress)
    plain = cache.read([digest for _, digest in readable], [0])[:, 0]
    wanted = [ImageRequest(path, digest, (0,)) for path, digest in readable]
    threads = run.info.config.threads
    latents = with_pixel_channels(plain, fitted.encoder, wanted, spec=run.spec, threads=threads, progress=progress)
    rows = predict(fitted.encoder, run.spec, latents, progress=progress)
    if outputs is not None:
        outputs.append(rows)
    found = iter(verdicts(fitted.judge, [str(path) for path, _ in readable], rows))
    return [
        next(found)
        if isinstance(result, str)
        else Verdict.failed(str(path), str(result), origin.backend, precision=origin.precision, bundle=origin.bundle)
        for path, result in zip(paths, checked, strict=True)
    ]


def judge_frames(fitted: FittedRun, frames: Iterable[Frame]) -> Iterator[Verdict]:
    """Yield one verdict per frame uint8 [H, W, 3] BGR, without the latent cache. Raises ModelError."""
    run, vae = fitted.run, fitted.run.vae()
    for batch in _batches(frames):
        images = np.empty((len(batch), 3, run.spec.image_size, run.spec.image_size), np.float32)
        for image, frame in zip(images, batch, strict=True):
            _core.preprocess(np.ascontiguousarray(frame), image, threads=run.info.config.threads)
        outputs = predict(fitted.encoder, run.spec, encode_images(vae, fitted.encoder, images))
        yield from verdicts(fitted.judge, [""] * len(batch), outputs)


def _batches(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    remaining = iter(frames)
    while batch := list(islice(remaining, _BATCH)):
        yield batch


def _check(cache: LatentCache, paths: Sequence[Path], threads: int, *, progress: Progress) -> list[str | ImageError]:
    """Return the hash of each file, or the error if it is unreadable."""

    def check(path: Path) -> str | ImageError:
        try:
            digest = hash_image(path)
            if not cache.has_image(digest):
                read_image(path)
            return digest
        except ImageError as error:
            return error

    results = []
    with ThreadPoolExecutor(threads) as pool:
        for done, result in enumerate(pool.map(check, paths), 1):
            results.append(result)
            progress("reading images", done, len(paths))
    return results

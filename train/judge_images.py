"""Verdicts of a training run on image files, through the latent cache and torch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..core.errors import ImageError
from ..core.images import read_image
from ..core.outputs import LeakOutputs
from ..core.progress import Progress, silent
from ..core.verdict import Verdict
from .data import hash_image
from .fit import FittedRun
from .image_latents import with_pixel_channels
from .latents import LatentCache
from .predict import predict, verdicts
from .record_cache import ImageRequest
from .run import open_cache


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

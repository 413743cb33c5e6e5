"""Training and encoding in processes of their own, killed at a chosen moment. Needs torch and onnx."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

from runs import SPEC, train_run

from leakrt.core.images import find_images
from leakrt.train.data import hash_image
from leakrt.train.latents import LatentCache
from leakrt.train.record_cache import ImageRequest
from leakrt.train.vae import Array, open_vae


@functools.cache
def forking() -> ForkServerContext:
    """Children of a server that has imported torch once: each costs milliseconds, and no thread is copied."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["leakrt.train.session", "sklearn.metrics", "torch._inductor"])
    return context


def run_in_child(work: Callable[..., None], *arguments: object) -> int:
    """The exit code of `work(*arguments)` in a process of its own; -9 when it was killed."""
    child = forking().Process(target=work, args=arguments)
    child.start()
    child.join()
    code = child.exitcode
    child.close()
    assert code is not None
    return code


def train_killed(moment: int, root: Path, data: Path, changes: dict[str, object]) -> None:
    """`runs.train_run`, killed (SIGKILL) just before the disk is asked for the `moment`-th time to keep something.

    Those are all calls of os.fsync and os.replace, counted from 0: between two of them nothing that lasts is changed
    but a half-written temporary file or record. Exits with 0 when there was no such moment.
    """
    left = moment

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def instead(*arguments: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments)

        return instead

    os.replace, os.fsync = counted(os.replace), counted(os.fsync)  # type: ignore[assignment]
    train_run(root, data, **changes)


def fill_cache(root: Path, encoder: Path, images: Path, results: Connection) -> None:
    """Fill the latent cache at `root` with two views of each image, 20 ms each; sends how many latents it encoded."""
    vae, encoded = open_vae(f"onnx:{encoder}", 0.5, SPEC.image_size), 0

    class Slow:
        description = vae.description

        def encode(self, batch: Array) -> Array:
            nonlocal encoded
            encoded += len(batch)
            time.sleep(0.02 * len(batch))
            return vae.encode(batch)

    wanted = [ImageRequest(path, hash_image(path), (0, 1)) for path in find_images(images)]
    LatentCache(root, vae.description.fingerprint, SPEC.latent_shape).fill(Slow(), wanted, 1)
    results.send(encoded)

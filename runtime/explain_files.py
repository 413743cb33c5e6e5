"""Write an explanation picture for each verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..core.errors import UsageError
from ..core.files import atomic_write, storage_error
from ..core.verdict import Verdict
from .detector import Detector
from .explain import explain
from .explain_picture import draw_png


def explain_stream(detector: Detector, images: Sequence[Path], out: Path) -> Iterator[Verdict]:
    """Yield verdicts like `Detector.check_stream`, and write each one's picture before yielding it.

    `out`: a PNG file for one image (pictures of further faces get numbered names beside it), or a folder. Raises
    UsageError, StorageError, ModelError.
    """
    single = out.suffix.lower() == ".png"
    if single and len(images) > 1:
        raise UsageError(f"--explain {out} is a single PNG file, but there are {len(images)} images; name a folder")
    targets = [out] if single else [_target(out, number, image) for number, image in enumerate(images)]
    sources = {image.resolve() for image in images}
    for target in targets:
        if target.resolve() in sources:
            raise UsageError(f"--explain {out} would overwrite the image {target}; name another location")
    try:
        (out.parent if single else out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(out, error) from error
    return _explain_all(detector, images, out, single=single)


def _explain_all(detector: Detector, images: Sequence[Path], out: Path, *, single: bool) -> Iterator[Verdict]:
    for number, image in enumerate(images):
        for index, analysis in enumerate(detector.analyse(image)):
            if analysis.evidence is not None:
                name = out if single else _target(out, number, image)
                path = name if index == 0 else name.with_stem(f"{name.stem}-face{index}")
                atomic_write(path, draw_png(explain(detector, analysis)))
            yield analysis.verdict


def _target(folder: Path, number: int, image: Path) -> Path:
    return folder / f"{number:05d}-{image.stem}.png"

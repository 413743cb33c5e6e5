"""Pixels: whether a file's pixels are what it says, by a second decoder, and whether damage is ever silent."""

from __future__ import annotations

import io
import os
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import cv2
import imagecodecs
import numpy as np
import numpy.typing as npt
import simplejpeg
import tifffile
from PIL import Image, ImageOps

from leakrt.core.errors import ImageError
from leakrt.core.images import decode_image
from situations.row import Inputs, Row

sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))
from image_files import GREY, PALETTE, RGB, RGBA, chunk, encoded, on_white, png, scaled

Pixels = npt.NDArray[np.float64]
Case = tuple[bytes, Pixels | None]  # a file, and the RGB that a second decoder or a formula gives; None: to be refused
_RNG = np.random.default_rng(0)
_H, _W = 45, 61
_CLOSE = 1.2  # levels: rounding of alpha and of colour tables


def measure(inputs: Inputs) -> list[Row]:
    """Every situation of the image reader."""
    pictures = list(_pictures(inputs))
    damaged = 100 if inputs.quick else 1000
    rows = [
        _row("orientation x format x compression", _oriented(pictures[0])),
        _row("TIFF: bits x order x compression x layout x alpha (tifffile)", _tiffs()),
        _row("PNG: bits x colour x transparency x interlacing (formulas)", _pngs()),
        _row("colour spaces: Adobe RGB, ProPhoto, linear, Display P3 (formulas)", _colours()),
        _row("PNG with text of 4 MiB, compressed", [_with_text(pictures[0])]),
        _damage("PNG", damaged, pictures, partial(encoded, kind="PNG"), lambda _: True),
        _damage("JPEG", damaged, pictures, partial(encoded, kind="JPEG", quality=90), _jpeg_warns),
        _damage("JPEG, 512 bytes zeroed", damaged, pictures, partial(encoded, kind="JPEG"), _jpeg_warns, hole=512),
        _damage("WebP", damaged, pictures, partial(encoded, kind="WEBP", quality=90), _webp_fails),
        *(
            _damage(f"TIFF, {name}", damaged, pictures, partial(encoded, kind="TIFF", compression=name), _tiff_fails)
            for name in ("raw", "tiff_lzw", "tiff_deflate", "jpeg")
        ),
        _cut(pictures),
    ]
    return [*rows, *_on_good_files(inputs, pictures)]


def _pictures(inputs: Inputs) -> Iterator[Image.Image]:
    if inputs.shared is None:
        for _ in range(8):
            small = _RNG.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            yield Image.fromarray(small).resize((128, 96), Image.Resampling.BICUBIC)
        return
    for path in sorted((inputs.shared / "leakbench" / "test").glob("*/*.jpg"))[::20]:
        yield Image.open(path).convert("RGB").resize((128, 128), Image.Resampling.BOX)


def _row(situation: str, cases: Iterator[Case] | list[Case]) -> Row:
    """Cases whose pixels differ without an error; what is refused that has pixels is counted beside."""
    tried = silent = refused = 0
    for data, expected in cases:
        tried += 1
        try:
            found = decode_image(data, "x").pixels[:, :, ::-1]
        except ImageError:
            refused += expected is not None
            continue
        silent += expected is None or found.shape != expected.shape or bool(np.abs(found - expected).max() > _CLOSE)
    return Row(situation=situation, tried=tried, silent=silent, figure=f"{refused} refused", target="0 silent")


def _oriented(picture: Image.Image) -> Iterator[Case]:
    kinds = [("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 95}), ("AVIF", {"quality": 100})]
    kinds += [("TIFF", {"compression": name}) for name in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "zstd")]
    for kind, options in kinds:
        plain = decode_image(encoded(picture, kind=kind, **options), "x").pixels[:, :, ::-1]
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[0x0112] = orientation
            turned = Image.fromarray(np.ascontiguousarray(plain))
            turned.getexif()[0x0112] = orientation
            expected = np.asarray(ImageOps.exif_transpose(turned), np.float64)
            yield encoded(picture, kind=kind, exif=exif.tobytes(), **options), expected


def _tiffs() -> Iterator[Case]:
    layouts = ({"rowsperstrip": 7}, {"tile": (16, 32)}, {"bigtiff": True})
    for bits in (8, 16):
        for order in "<>":
            for compression in (None, "lzw", "deflate", "packbits", "zstd", "lzma"):
                for layout in layouts:
                    options = {"byteorder": order, "compression": compression, "metadata": None, **layout}
                    yield from _tiff_kinds(bits, options)
    for dtype in (np.int16, np.int8, np.float16, np.float32, np.uint32):
        yield _tiff(_RNG.integers(0, 99, (_H, _W)).astype(dtype), photometric="minisblack"), None


def _tiff_kinds(bits: int, options: dict[str, object]) -> Iterator[Case]:
    for channels, photometric, extra in (
        (1, "minisblack", ()), (1, "miniswhite", ()), (3, "rgb", ()), (4, "separated", ()),
        (4, "rgb", (0,)), (4, "rgb", (1,)), (4, "rgb", (2,)), (2, "minisblack", (2,)), (2, "minisblack", (0,)),
    ):  # fmt: skip
        samples = _RNG.integers(0, 2**bits, (_H, _W, channels)).astype(np.uint8 if bits == 8 else np.uint16)
        if extra == (1,):
            samples[..., :-1] = samples[..., :-1].astype(np.int64) * samples[..., -1:] // (2**bits - 1)
        stored = samples[..., 0] if channels == 1 else samples
        planar = {} if channels == 1 else {"planarconfig": "contig"}
        data = _tiff(stored, photometric=photometric, extrasamples=extra or None, **planar, **options)
        yield (
            data,
            _meaning(
                scaled(tifffile.imread(io.BytesIO(data)).reshape(samples.shape).astype(int), bits), photometric, extra
            ),
        )


def _meaning(levels: npt.NDArray[np.int64], photometric: str, extra: tuple[int, ...]) -> Pixels:
    """RGB of samples [H, W, C] from 0 to 255, as the TIFF specification has it."""
    if photometric == "separated":
        return (255 - levels[..., :3]) * (255 - levels[..., 3:]) / 255
    if photometric == "miniswhite":
        levels = 255 - levels
    colours = (levels[..., :-1] if extra else levels) * np.ones(3)
    if extra == (1,):
        return np.asarray(colours + 255 - levels[..., -1:])
    return np.asarray(on_white(colours, levels[..., -1]) if extra == (2,) else colours)


def _tiff(samples: npt.NDArray[np.generic], **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)
    return buffer.getvalue()


def _pngs() -> Iterator[Case]:
    for interlaced in (False, True):
        for bits in (1, 2, 4, 8, 16):
            write = partial(png, bits=bits, interlaced=interlaced)
            samples = _RNG.integers(0, 2**bits, (_H, _W))
            key, grey = int(samples[0, 0]), np.repeat(scaled(samples, bits)[..., None], 3, axis=2)
            yield write(samples, colour=GREY), grey
            transparent = chunk(b"tRNS", struct.pack(">H", key))
            yield write(samples, colour=GREY, chunks=transparent), on_white(grey, np.where(samples == key, 0, 255))
            if bits <= 8:
                yield from _palettes(samples, bits, write)
            if bits >= 8:
                rgba = _RNG.integers(0, 2**bits, (_H, _W, 4))
                levels = scaled(rgba, bits)
                yield write(rgba, colour=RGBA), on_white(levels[..., :3], levels[..., 3])
                yield write(rgba[..., :3], colour=RGB), levels[..., :3]


def _palettes(samples: npt.NDArray[np.int64], bits: int, write: Callable[..., bytes]) -> Iterator[Case]:
    palette, alpha = _RNG.integers(0, 256, (2**bits, 3)), _RNG.integers(0, 256, 2**bits)
    colours = chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    yield write(samples, colour=PALETTE, chunks=colours), palette[samples]
    shares = chunk(b"tRNS", alpha.astype(np.uint8).tobytes())
    yield write(samples, colour=PALETTE, chunks=colours + shares), on_white(palette[samples], alpha[samples])


def _colours() -> Iterator[Case]:
    from colour_formulas import ADOBE, COLOURS, P3, PROPHOTO, SRGB, converted, gamma_chunks, iccp, srgb_linear

    for points, exponent in ((ADOBE, 563 / 256), (PROPHOTO, 1.8), (SRGB, 1.0)):
        expected = converted(COLOURS, points, lambda v, e=exponent: v**e)
        yield png(COLOURS, 8, RGB, chunks=gamma_chunks(exponent, points)), expected
    adobe = converted(COLOURS, ADOBE, lambda v: v ** (563 / 256))
    yield png(COLOURS, 8, RGB, chunks=iccp(imagecodecs.cms_profile("adobergb"))), adobe
    yield png(COLOURS, 8, RGB, chunks=iccp(imagecodecs.cms_profile("srgb"))), COLOURS.astype(np.float64)
    p3 = converted(COLOURS, P3, srgb_linear)
    yield png(COLOURS, 8, RGB, chunks=chunk(b"cICP", bytes([12, 13, 0, 1]))), p3


def _with_text(picture: Image.Image) -> Case:
    text = chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"node" * (1 << 20)))
    samples = np.asarray(picture)
    return png(samples.astype(np.int64), 8, RGB, chunks=text), samples.astype(np.float64)


def _damage(
    name: str,
    count: int,
    pictures: list[Image.Image],
    write: Callable[[Image.Image], bytes],
    strict_reports: Callable[[bytes], bool],
    *,
    hole: int = 0,
) -> Row:
    """One flipped bit in each copy, or a hole in its last two thirds. Silent: judged on other pixels without a note,
    although a strict decoder reports the damage; a PNG's checksums always do."""
    silent = refused = noted = unnoticed = 0
    for turn in range(count):
        data = write(pictures[turn % len(pictures)])
        good, broken = decode_image(data, "x").pixels, bytearray(data)
        if hole:
            start = int(_RNG.integers(len(data) // 3, len(data) - hole))
            broken[start : start + hole] = bytes(hole)
        else:
            at = int(_RNG.integers(len(data)))
            broken[at] ^= 1 << int(_RNG.integers(8))
        try:
            found = decode_image(bytes(broken), "x")
        except ImageError:
            refused += 1
            continue
        if np.array_equal(found.pixels, good):
            continue
        reported = strict_reports(bytes(broken))
        noted += bool(found.notes)
        silent += reported and not found.notes
        unnoticed += not reported and not found.notes
    figure = f"{refused:,} refused, {noted} noted, {unnoticed} that no decoder notices"
    return Row(situation=f"damaged {name}", tried=count, silent=silent, figure=figure, target="0 silent")


def _jpeg_warns(data: bytes) -> bool:
    try:
        simplejpeg.decode_jpeg(data, strict=True)
    except ValueError:
        return True
    return False


def _webp_fails(data: bytes) -> bool:
    try:
        imagecodecs.webp_decode(data)
    except Exception:
        return True
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is None


def _tiff_fails(data: bytes) -> bool:
    """By OpenCV, whose libtiff writes its errors and the warnings of its decoders to stderr."""
    with tempfile.TemporaryFile() as log:
        stderr = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        log.seek(0)
        text = log.read()
    return image is None or b"JPEGLib" in text or b"TIFF_Error" in text


def _cut(pictures: list[Image.Image]) -> Row:
    tried = silent = equal = 0
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000"):
        data = encoded(pictures[0], kind=kind)
        good = decode_image(data, "x").pixels
        for length in range(1, len(data), max(1, len(data) // 200)):
            tried += 1
            try:
                found = decode_image(data[:length], "x").pixels
            except ImageError:
                continue
            same = np.array_equal(found, good)
            equal, silent = equal + same, silent + (not same)
    figure = f"{equal} equal, the others refused"
    return Row(situation="files cut anywhere, 8 formats", tried=tried, silent=silent, figure=figure, target="0 silent")


def _on_good_files(inputs: Inputs, pictures: list[Image.Image]) -> list[Row]:
    """Whether good JPEGs give Pillow's pixels, and what reading one costs beside Pillow alone."""
    if inputs.shared is None:
        files = [encoded(picture, kind="JPEG", quality=90) for picture in pictures]
    else:
        found = sorted((inputs.shared / "leakbench").glob("*/*/*.jpg"))
        found += sorted((inputs.shared / "leakbench-originals").glob("*/*.jpg"))
        files = [path.read_bytes() for path in (found[::20] if inputs.quick else found)]
    moved = sum(not np.array_equal(decode_image(data, "x").pixels, _by_pillow(data)) for data in files)
    from timing import in_turn

    sample = files[:: max(1, len(files) // 100)]
    times = in_turn(
        {"ours": lambda: [decode_image(data, "x") for data in sample], "pillow": lambda: [*map(_by_pillow, sample)]}, 7
    )
    ratio = median(ours / pillow for ours, pillow in zip(*times.values(), strict=True))
    return [
        Row(situation="good JPEGs: pixels as before", tried=len(files), silent=moved, target="0 differ"),
        Row(
            situation="time to read a JPEG over Pillow alone, as before",
            tried=len(sample),
            figure=f"{ratio:.2f}",
            target="at most 1.05",
            met=ratio <= 1.05,
        ),
    ]


def _by_pillow(data: bytes) -> npt.NDArray[np.uint8]:
    """What the reader did before: decode, turn by EXIF, swap channels."""
    image = Image.open(io.BytesIO(data))
    turned = ImageOps.exif_transpose(image)
    return np.ascontiguousarray(np.asarray(turned.convert("RGB"))[:, :, ::-1])

"""The image types that LeakRT accepts, and the errors for any other object."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt

from ..core.errors import ImageError, UsageError
from ..core.images import MIN_SIDE

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

Frame = npt.NDArray[np.uint8]  # [H, W, 3] BGR
Image: TypeAlias = "str | os.PathLike[str] | Frame | PilImage"

_ACCEPTED = "expected a path, a PIL image, or a uint8 array [H, W, 3] in BGR order"
_SHAPES = {  # layout of a uint8 array that is not [H, W, 3]: how to convert it
    "grey": "repeat the grey channel: np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)",
    "alpha": "composite it over a background, or drop its alpha channel: array[:, :, :3]",
    "planes": "move the channels last: array.transpose(1, 2, 0), and reverse them if they are RGB",
    "batch": "pass its images separately: check_batch(list(array))",
    "other": "convert it to that shape",
}


def is_pil(image: object) -> TypeGuard[PilImage]:
    """Return whether `image` is a PIL image, without importing PIL."""
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(image, pil.Image)


def path_of(image: object) -> str:
    """Return a path as a string; empty for any other object."""
    try:
        found = os.fspath(image) if isinstance(image, (str, os.PathLike)) else ""
    except Exception:  # the caller's __fspath__ may raise anything
        return ""
    return found if isinstance(found, str) else ""


def checked_frame(array: npt.NDArray[Any]) -> Frame:
    """Return the array as a plain ndarray with contiguous pixels. Copies only if necessary.

    Raises UsageError for an array that is not uint8 [H, W, 3], ImageError for an image that is too small.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise UsageError(f"can't classify a masked array: {_ACCEPTED}; fill the masked pixels: array.filled(0)")
    frame = np.asarray(array)
    if frame.dtype != np.uint8:
        raise UsageError(f"can't classify an array {_name(frame)}: {_ACCEPTED}; {_to_uint8(frame.dtype)}")
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise UsageError(f"can't classify an array {_name(frame)}: {_ACCEPTED}; {_SHAPES[_layout(frame.shape)]}")
    height, width = frame.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ImageError(f"the image is {width} x {height}; each side needs at least {MIN_SIDE} pixels")
    pixels_together = frame.strides[1:] == (3, 1)  # the kernel accepts strided rows, not strided pixels
    return frame if pixels_together else np.ascontiguousarray(frame)


def refuse(image: object) -> UsageError:
    """Return the error for an object that is not a path, an array or a PIL image."""
    return UsageError(f"can't classify {_kind(image)}: {_ACCEPTED}; {_remedy(image)}")


def refuse_single(images: object, call: str) -> None:
    """Raise UsageError if `images` is a single image or is not iterable. `call` names the method in the message."""
    if isinstance(images, np.ndarray):
        single = images.ndim < 4 and images.dtype != np.object_
    else:
        single = isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike)) or is_pil(images)
    if not single and isinstance(images, np.ndarray) and images.dtype.kind in "SUT":
        raise UsageError(f"{call} expects paths as a list, not {_kind(images)}; pass array.tolist()")
    if single:
        raise UsageError(f"{call} expects several images, not one ({_kind(images)}); use check, or pass a list")
    if not hasattr(images, "__iter__") and not hasattr(images, "__getitem__"):
        raise UsageError(f"{call} expects several images, not {_kind(images)}; pass a list or another iterable")


def _kind(image: object) -> str:
    """Describe an object for a message, without its contents."""
    if image is None:
        return "None"
    if isinstance(image, str):
        return "an empty path" if not image else "a path"
    if isinstance(image, np.ndarray):
        return f"an array {_name(image)}"
    kind = type(image)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    shape, dtype = _attribute(image, "shape"), _attribute(image, "dtype")
    if isinstance(shape, tuple) and dtype is not None and not isinstance(image, type):
        return f"an object of type {name} ({dtype} {list(shape)})"
    return f"an object of type {name}"


def _attribute(image: object, name: str) -> object:
    try:
        return getattr(image, name, None)
    except Exception:  # the caller's __getattr__ may raise anything
        return None


def _remedy(image: object) -> str:
    if image is None:
        return "check the camera or decoder: it returned no frame"
    if isinstance(image, (bytes, bytearray, memoryview)):
        return "decode a file's bytes with leakrt.core.images.decode_image(data, name).pixels, or pass its path"
    if isinstance(image, str):
        return "pass the path of a file"
    if isinstance(image, os.PathLike):
        return "decode the path first: os.fsdecode(path)"
    if type(image).__module__.partition(".")[0] == "torch":
        return "convert a tensor [3, H, W] with values of 0 to 255: tensor.permute(1, 2, 0).byte().cpu().numpy(), BGR"
    if isinstance(image, (list, tuple)):
        return "use check_batch or check_stream for several images"
    if _attribute(image, "__array__") is not None:
        return "convert it with np.asarray, and make sure that its channels are in BGR order"
    return "convert it to one of those"


def _to_uint8(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "f":
        return "convert values of 0 to 1 with (255 * array).round().clip(0, 255).astype(np.uint8)"
    if dtype.kind == "u":
        return "convert 16-bit values with (array >> 8).astype(np.uint8)"
    return "convert it to values of 0 to 255: array.astype(np.uint8)"


def _layout(shape: tuple[int, ...]) -> str:
    if len(shape) == 2 or (len(shape) == 3 and shape[2] == 1):
        return "grey"
    if len(shape) == 3 and shape[2] == 4:
        return "alpha"
    if len(shape) == 3 and shape[0] == 3:
        return "planes"
    return "batch" if len(shape) == 4 else "other"


def _name(array: npt.NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"

"""Reading npz files from untrusted bytes, without pickle or decompression."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import BundleError

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def write_npz(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return the bytes of an uncompressed npz file that holds `arrays`."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def read_npz(data: bytes, name: str) -> dict[str, npt.NDArray[Any]]:
    """Read the bytes that `write_npz` returned. The arrays never take more memory than `data` has bytes.

    `np.load` is unsafe here: it inflates a compressed entry to any size and trusts any shape in a header. Raises
    BundleError; the message begins with `name`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            if not stored or sum(entry.file_size for entry in entries) > len(data):
                raise ValueError("its entries are compressed or overlap")
            return {entry.filename.removesuffix(".npy"): _array(archive.read(entry)) for entry in entries}
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise BundleError(f"{name} can't be read ({error}); export the bundle again") from error


def _array(data: bytes) -> npt.NDArray[Any]:
    stream = io.BytesIO(data)
    header = _HEADERS.get(np.lib.format.read_magic(stream))
    if header is None:
        raise ValueError("an array has an unknown header version")
    shape, fortran, dtype = header(stream)
    if dtype.hasobject or dtype.itemsize == 0:
        raise ValueError(f"an array has dtype {dtype}")
    array = np.frombuffer(data, dtype, offset=stream.tell())
    return array.reshape(shape, order="F" if fortran else "C")

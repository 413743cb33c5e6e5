"""Decoders that Pillow lacks, or has only in some builds."""

from __future__ import annotations

import functools
import importlib

from ..errors import ImageError

_PLUGINS = {"HEIF": ("pillow_heif", "heic"), "JXL": ("pillow_jxl", "jxl")}
_FEATURES = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}


def require_decoder(kind: str, name: str) -> None:
    """Ensure that Pillow can open the format `kind`. Raises ImageError with the command that installs the decoder."""
    missing = _missing(kind)
    if missing:
        raise ImageError(f"{name}: {missing}")


@functools.cache
def _missing(kind: str) -> str:
    """Return why the format can't be read; empty if it can."""
    from PIL import features

    if kind in _PLUGINS:
        module, extra = _PLUGINS[kind]
        try:
            plugin = importlib.import_module(module)
        except ImportError as error:
            return f"no decoder for {kind} is installed ({error}); install it with: pip install 'leakrt[{extra}]'"
        if kind == "HEIF":
            plugin.register_heif_opener()
    elif kind in _FEATURES and not features.check(_FEATURES[kind]):
        return f"this Pillow was built without {kind}; upgrade it with: pip install -U pillow"
    return ""

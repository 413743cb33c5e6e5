"""Search for image files in folders. Other files are omitted and listed.

A file is an image if its first bytes identify a format (`formats.format_of`), whatever its name is. A file with the
suffix of an image format also counts as an image: reading it then reports what is wrong with it. These are omitted,
each with a reason:

- other files, such as text files, camera raw files, pipes and files that can't be opened
- hidden files and folders, and folders that systems and tools create, such as `@eaDir` and `__MACOSX`
- links to folders, which may form loops or list an image twice. Links to files are followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..files import open_regular
from .formats import FORMATS, HEAD_BYTES, format_of

SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif",
    ".avif", ".jp2", ".j2k", ".jpf", ".jpx", ".heic", ".heif", ".hif", ".jxl",
})  # fmt: skip
# Camera raw files begin like TIFFs, but a TIFF decoder only finds a thumbnail in them.
_RAW = frozenset({
    ".3fr", ".arw", ".cr2", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".nef", ".nrw", ".pef", ".sr2",
    ".srw",
})  # fmt: skip
_JUNK = frozenset({"@eadir", "__macosx", "#recycle", "$recycle.bin", "lost+found", "system volume information"})
_NAMES_SHOWN = 3  # names per reason in a note
_ONE = {  # reasons in the plural, for a single file or folder
    "folders beside the splits": "folder beside the splits",
    "images beside the folders": "image beside the folders",
    "linked folders": "linked folder",
    "not regular files": "not a regular file",
    "camera raw files": "camera raw file",
    "not images": "not an image",
}


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that was omitted from the images."""

    path: Path
    reason: str  # such as "not images" or "in @eaDir"
    files: int = 1  # for a folder, all files below it; 0 if they were not counted

    def to_json(self) -> dict[str, object]:
        """Return a JSON object with one entry per field."""
        return {"path": str(self.path), "reason": self.reason, "files": self.files}


@dataclass(frozen=True)
class FoundImages:
    """The images below a path, sorted by name, and the omitted files and folders."""

    images: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]


def find_images(path: str | Path) -> list[Path]:
    """Return only the images of `search_images`. Raises DataError."""
    return list(search_images(path).images)


def search_images(path: str | Path) -> FoundImages:
    """Return the image files at `path`: the file itself, or all images below the folder, sorted by name.

    Raises DataError if `path` does not exist, a folder can't be listed, or there are no images.
    """
    root = Path(path)
    if root.is_file():
        return FoundImages((root,), ())
    if not root.is_dir():
        if os.path.lexists(root):
            what = "not a regular file" if root.exists() else "a broken link"
            raise DataError(f"{root} is {what}; pass an image file or a folder")
        raise DataError(f"no such file or folder: {root}")
    images: list[Path] = []
    left_out: list[LeftOut] = []
    for found in _walk(root):
        if isinstance(found, LeftOut):
            left_out.append(found)
        else:
            images.append(found)
    if not images:
        rest = f"; {left_out_note(left_out)}" if left_out else ""
        raise DataError(f"{root} holds no images ({', '.join(FORMATS)}){rest}")
    return FoundImages(
        tuple(sorted(images, key=lambda image: image.parts)), tuple(sorted(left_out, key=lambda one: one.path.parts))
    )


def is_junk(name: str) -> bool:
    """Return whether a file or folder of that name is hidden or created by a system or tool, such as `@eaDir`."""
    return name.startswith(".") or name.lower() in _JUNK


def left_out_note(left_out: Iterable[LeftOut]) -> str:
    """Return a line such as "left out 3 files: 2 not images (notes.txt, b.pdf), 1 in @eaDir"; empty if none are."""
    by_reason: dict[str, list[LeftOut]] = {}
    for one in left_out:
        by_reason.setdefault(one.reason, []).append(one)
    if not by_reason:
        return ""
    parts = [_part(reason, group) for reason, group in by_reason.items()]
    files = sum(one.files for group in by_reason.values() for one in group)
    if not files:
        return f"left out {', '.join(parts)}"
    return f"left out {files} file{'s' * (files != 1)}: {', '.join(parts)}"


def _part(reason: str, group: list[LeftOut]) -> str:
    count = sum(one.files for one in group) or len(group)
    if reason.startswith("in "):  # the folder name suffices
        return f"{count} {reason}"
    if count == 1:
        reason = _ONE.get(reason, reason)
    names = [one.path.name if one.path.name.isprintable() else ascii(one.path.name) for one in group[:_NAMES_SHOWN]]
    return f"{count} {reason} ({', '.join(names)}{', ...' if len(group) > _NAMES_SHOWN else ''})"


def _walk(root: Path) -> Iterator[Path | LeftOut]:
    for folder, folders, names in os.walk(root, onerror=_raise_unlistable):
        for name in folders:
            path = Path(folder, name)
            if is_junk(name):
                yield junk_folder(path)
            elif path.is_symlink():
                yield LeftOut(path, "linked folders", files=0)
        folders[:] = [name for name in folders if not is_junk(name)]  # os.walk does not follow links
        for name in names:
            path = Path(folder, name)
            reason = why_not_image(path)
            yield path if reason is None else LeftOut(path, reason)


def junk_folder(path: Path) -> LeftOut:
    """Return a folder that `is_junk` as omitted, with the number of files below it that can be listed."""
    count = 0 if path.is_symlink() else sum(len(names) for _, _, names in os.walk(path))
    return LeftOut(path, f"in {path.name if path.name.isprintable() else ascii(path.name)}", count)


def _raise_unlistable(error: OSError) -> None:
    raise DataError(f"can't list {error.filename}: {error.strerror}; check its permissions") from error


def why_not_image(path: Path) -> str | None:
    """Return why a file is omitted, such as "not images"; None for an image."""
    suffix = path.suffix.lower()
    if path.name.startswith("."):
        return "hidden"
    if suffix in SUFFIXES:
        return None
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "not regular files"
        with open_regular(path) as handle:
            found = format_of(handle.read(HEAD_BYTES))
    except OSError:
        return "unreadable"
    if found == "TIFF" and suffix in _RAW:
        return "camera raw files"
    return "not images" if found is None else None

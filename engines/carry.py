"""Export engines to a signed folder, and import them into the cache of another machine.

engines.json   the SHA-256 of every file in the folder, and the public key of the signer
engines.sig    the signature of engines.json, 64 bytes; missing if the folder is unsigned
GRAPH.PRECISION.engine, GRAPH.PRECISION.json   as in the cache
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import EngineError, StorageError
from ..core.files import atomic_folder, read_bounded, sha256_bytes
from ..core.progress import Progress
from .build.build import reasons_unusable
from .cache.cache import EngineCache
from .cache.index import engine_locks
from .cache.key import ENGINE_STEM
from .cache.record import ENGINE_LIMIT, RECORD_LIMIT, EngineRecord
from .cache.signing import PUBLIC_KEY, Signer, check_signature
from .library.installed import installed_flavours

MANIFEST, SIGNATURE = "engines.json", "engines.sig"
_FORMAT = 1
_MANIFEST_LIMIT = 1 << 20
_MAX_ENGINES = 64  # in one folder
_NAME = re.compile(rf"{ENGINE_STEM}\.(?:engine|json)")
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Carried:
    """A verified engine read from a folder."""

    record: EngineRecord
    data: bytes


def write_folder(out: Path, records: Sequence[EngineRecord], cache: EngineCache, *, signer: Signer | None) -> None:
    """Write engines from the cache to a folder. `signer` is None for an unsigned folder.

    Raises StorageError (see `check_target`), EngineError (an engine is missing or changed in the cache).
    """
    check_target(out)
    with atomic_folder(out) as folder:
        hashes = {}
        for record in records:
            for name, data in ((record.file, cache.read(record)), (record.json_file, record.to_bytes())):
                (folder / name).write_bytes(data)
                hashes[name] = sha256_bytes(data)
        manifest = {"format": _FORMAT, "signer": signer.public_key if signer else "", "files": hashes}
        raw = json.dumps(manifest, indent=1, sort_keys=True).encode()
        (folder / MANIFEST).write_bytes(raw)
        if signer:
            (folder / SIGNATURE).write_bytes(signer.sign(raw))


def read_folder(path: Path, trusted: frozenset[str], allow_unsigned: bool) -> list[Carried]:
    """Verify a folder and return its engines. Doesn't load or install them.

    Raises EngineError: not an engine folder, unsigned, signed by an untrusted key, or a file is missing, changed or
    unexpected.
    """
    raw = _read(path / MANIFEST, _MANIFEST_LIMIT, path)
    signer, files = _parse(raw, path)
    if signer:
        if signer not in trusted:
            raise EngineError(
                f"{path} is signed by {signer}, which is not a trusted key; if this is the key of your build machine, "
                f"run: leakrt engines add {shlex.quote(str(path))} --key {signer}"
            )
        check_signature(signer, _read(path / SIGNATURE, 64, path), raw, what=str(path))
    elif not allow_unsigned:
        raise EngineError(f"{path} is not signed, and engines are machine code; use --unsigned to accept it anyway")
    return [_carried(path, name, files) for name in sorted(files) if name.endswith(".engine")]


def add_engines(carried: Sequence[Carried], cache: EngineCache, progress: Progress) -> list[str]:
    """Install engines into the cache, and return a description of each engine that this evicts.

    Raises EngineError, without installing any, if one can't run on this machine; StorageError.
    """
    flavours = installed_flavours()
    for item in carried:
        for reason in reasons_unusable(item.record, flavours):
            raise EngineError(f"{item.record.file} can't run on this machine: {reason}; rebuild it for this machine")
    evicted: list[str] = []
    together = {item.record.key.digest: item.record.file for item in carried}
    with engine_locks(cache.root, together, progress):
        for done, item in enumerate(carried):
            progress("add engines", done, len(carried))
            evicted += cache.store(item.record, item.data, together=together)
    progress("add engines", len(carried), len(carried))
    return evicted


def _carried(path: Path, name: str, files: dict[str, str]) -> Carried:
    described = name.removesuffix(".engine") + ".json"
    if described not in files:
        raise EngineError(f"{path}: {described}, the JSON file of {name}, is missing; copy the folder again")
    raw = _hashed(path / described, RECORD_LIMIT, files[described], folder=path)
    record = EngineRecord.from_bytes(raw, f"{path}: {described}")
    data = _hashed(path / name, ENGINE_LIMIT, files[name], folder=path)
    if record.file != name:
        raise EngineError(f"{path}: {described} describes {record.file}; rebuild the folder")
    try:
        record.check(data)
    except EngineError as error:
        raise EngineError(f"{path}: {error}; rebuild the folder") from error
    return Carried(record, data)


def _parse(raw: bytes, path: Path) -> tuple[str, dict[str, str]]:
    try:
        manifest = json.loads(raw)
        version, signer, files = manifest["format"], manifest["signer"], manifest["files"]
        named = {str(name): str(digest) for name, digest in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EngineError(f"{path}: {MANIFEST} is damaged; copy the folder again") from error
    if version != _FORMAT:
        raise EngineError(
            f"{path}: format {version} is not supported (only {_FORMAT}); use the same LeakRT version on both machines"
        )
    engines = [name for name in named if name.endswith(".engine")]
    if not engines or len(named) > 2 * _MAX_ENGINES or not (signer == "" or PUBLIC_KEY.fullmatch(str(signer))):
        raise EngineError(f"{path}: {MANIFEST} lists no engines; copy the folder again")
    for name, digest in named.items():
        if not _NAME.fullmatch(name) or not _SHA256.fullmatch(digest):
            raise EngineError(f"{path}: {MANIFEST} lists {name[:80]!r}, which is not an engine file")
    return str(signer), named


def _hashed(file: Path, limit: int, digest: str, *, folder: Path) -> bytes:
    data = _read(file, limit, folder)
    if sha256_bytes(data) != digest:
        raise EngineError(f"{folder}: {file.name} is truncated or changed (SHA-256 differs); copy the folder again")
    return data


def _read(file: Path, limit: int, folder: Path) -> bytes:
    try:
        if file.is_symlink():
            raise EngineError(f"{folder}: {file.name} is a symbolic link; copy the file itself")
        return read_bounded(file, limit)
    except OSError as error:
        raise EngineError(
            f"{folder}: {file.name} can't be read ({error.strerror}); give a folder written by `leakrt build --out`"
        ) from error


def check_target(out: Path) -> None:
    """Raise StorageError unless `out` is new, empty or an engine folder, which `write_folder` replaces entirely."""
    if not out.exists():
        return
    if not out.is_dir():
        raise StorageError(f"--out {out}: not a folder; give a new or empty folder")
    names = {entry.name for entry in out.iterdir()}
    ours = MANIFEST in names and all(n in (MANIFEST, SIGNATURE) or _NAME.fullmatch(n) for n in names)
    if names and not ours:
        raise StorageError(f"--out {out}: the folder contains other files; give a new or empty folder")

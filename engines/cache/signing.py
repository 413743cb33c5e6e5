"""Ed25519 signatures for engine folders: the build machine signs, and other machines accept only trusted keys.

$XDG_CONFIG_HOME/leakrt/signing.pem    the private key of this machine, created at its first signature
$XDG_CONFIG_HOME/leakrt/trusted_keys   one public key per line, 64 hex digits, optionally followed by a comment
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import EngineError, UsageError, require
from ...core.files import atomic_produce, atomic_write_owned, read_bounded, recover, storage_error
from ...core.locks import held
from ...core.progress import silent

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PUBLIC_KEY = re.compile("[0-9a-f]{64}")
_KEY_LIMIT = 1 << 20


def config_folder() -> Path:
    """Return $XDG_CONFIG_HOME/leakrt, or ~/.config/leakrt. Doesn't create it."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".config") / "leakrt"


class Signer:
    """Signs bytes with an Ed25519 private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key = key.public_key().public_bytes_raw().hex()  # 64 hex digits

    def sign(self, data: bytes) -> bytes:
        """Return the signature of `data`, 64 bytes."""
        return bytes(self._key.sign(data))

    @classmethod
    def own(cls) -> Signer:
        """Load the key of this machine, creating it if needed. Raises MissingExtraError, EngineError, StorageError."""
        path = config_folder() / "signing.pem"
        require("cryptography", "rtx")
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if not path.exists():
            key = Ed25519PrivateKey.generate()
            pem = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            with _config_lock():
                recover(path)
                if not path.exists():  # another process may have created it since
                    atomic_produce(path, lambda target: _write_private(target, pem))
        return cls(_load_private(path))


def trusted_keys() -> frozenset[str]:
    """Return the public keys in `trusted_keys` and that of this machine. Raises EngineError, MissingExtraError."""
    path = config_folder() / "trusted_keys"
    keys = set()
    if path.exists():
        _check_private(path)
        for number, line in enumerate(_read(path).decode("utf-8", "replace").splitlines(), 1):
            words = line.split("#")[0].split()
            if words and not PUBLIC_KEY.fullmatch(words[0]):
                raise EngineError(f"{path}, line {number}: not a public key; give 64 hex digits")
            keys.update(words[:1])
    if (config_folder() / "signing.pem").exists():
        keys.add(Signer.own().public_key)
    return frozenset(keys)


def check_signature(public_key: str, signature: bytes, data: bytes, *, what: str) -> None:
    """Raise EngineError if `signature` is not the signature of `data` by `public_key`."""
    require("cryptography", "rtx")
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(signature, data)
    except (InvalidSignature, ValueError) as error:
        raise EngineError(
            f"{what}: the signature doesn't match key {public_key[:16]}...; copy the folder again"
        ) from error


def _load_private(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    _check_private(path)
    try:
        key = load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError) as error:
        raise EngineError(f"{path}: not a private key ({error}); remove the file to create a new key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise EngineError(f"{path}: not an Ed25519 key; create one with: openssl genpkey -algorithm ed25519")
    return key


def _write_private(path: Path, pem: bytes) -> None:
    """Write a file that only its owner can read. Raises OSError."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)


@contextmanager
def _config_lock() -> Iterator[None]:
    """Create the key folder if needed, and hold its lock during a change. Raises StorageError."""
    folder = config_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error
    with held(folder / "keys.lock", silent, ""):
        yield


def _check_private(path: Path) -> None:
    status = path.stat()
    if status.st_uid not in (os.getuid(), 0) or status.st_mode & 0o022:
        raise EngineError(f"{path} is not trusted: other users can write it; run: chmod go-w {path}")


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path, _KEY_LIMIT)
    except OSError as error:
        raise EngineError(f"{path} can't be read ({error.strerror})") from error


def check_public_key(text: str) -> str:
    """Return `text` if it is a public key. Raises UsageError."""
    if not PUBLIC_KEY.fullmatch(text):
        raise UsageError(
            f"--key {text[:80]}: not a public key; give the 64 hex digits that `leakrt build --out` prints"
        )
    return text


def trust(public_key: str) -> None:
    """Add a public key to `trusted_keys`; idempotent. Raises EngineError, StorageError."""
    path = config_folder() / "trusted_keys"
    if public_key in trusted_keys():
        return
    with _config_lock():
        lines = _read(path).decode("utf-8", "replace").splitlines() if path.exists() else []
        atomic_write_owned(path, "\n".join([*lines, public_key, ""]).encode())

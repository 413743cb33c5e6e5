"""Signing keys and trusted keys."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from leakrt.core.errors import EngineError, UsageError

pytest.importorskip("cryptography", reason="signatures need cryptography (extra rtx)")


@pytest.fixture
def signer():
    from leakrt.engines.cache.signing import Signer

    return Signer.own()


def test_the_private_key_is_created_once_and_readable_only_by_its_owner(signer):
    from leakrt.engines.cache.signing import Signer, config_folder

    path = config_folder() / "signing.pem"
    assert Signer.own().public_key == signer.public_key
    if os.name != "nt":
        assert path.stat().st_mode & 0o077 == 0
        path.chmod(0o666)
        with pytest.raises(EngineError, match="is not trusted: other users can write it"):
            Signer.own()


KILLED = """
import os, signal
from leakrt.engines.cache.signing import Signer
os.fdopen = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
Signer.own()
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_kill_during_key_creation_leaves_no_partial_files():
    from leakrt.engines.cache.signing import Signer, config_folder

    done = subprocess.run([sys.executable, "-c", KILLED], check=False)
    assert done.returncode == -signal.SIGKILL
    assert Signer.own().public_key == Signer.own().public_key
    assert [path.name for path in config_folder().iterdir()] == ["signing.pem"]


def test_concurrent_processes_create_one_key():
    made = "from leakrt.engines.cache.signing import Signer; print(Signer.own().public_key)"
    started = [subprocess.Popen([sys.executable, "-c", made], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    keys = [process.communicate(timeout=60)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0, 0]
    assert len(set(keys)) == 1


def test_trust_is_idempotent_and_invalid_keys_are_refused():
    from leakrt.engines.cache.signing import check_public_key, config_folder, trust, trusted_keys

    trust("ab" * 32)
    trust("cd" * 32)
    trust("ab" * 32)
    assert trusted_keys() == {"ab" * 32, "cd" * 32}
    with open(config_folder() / "trusted_keys", "a") as file:
        file.write("kiosk 7\n")
    with pytest.raises(EngineError, match="line 3: not a public key; give 64 hex digits"):
        trusted_keys()
    with pytest.raises(UsageError, match="--key ab: not a public key; give the 64 hex digits"):
        check_public_key("ab")


@pytest.mark.skipif(os.name == "nt", reason="permission bits")
@pytest.mark.parametrize("mask", [0o002, 0o000])
def test_a_trusted_key_is_accepted_with_any_umask(mask):
    """Many systems default to one group per user and the umask 002."""
    from leakrt.engines.cache.signing import trust, trusted_keys

    before = os.umask(mask)
    try:
        for key in ("a" * 64, "b" * 64):
            trust(key)
    finally:
        os.umask(before)
    assert trusted_keys() == {"a" * 64, "b" * 64}


def test_a_signature_is_valid_only_for_its_key_and_its_bytes(signer):
    from leakrt.engines.cache.signing import check_signature

    signature = signer.sign(b"data")
    assert len(signature) == 64
    check_signature(signer.public_key, signature, b"data", what="folder")
    for key, given, data in (
        (signer.public_key, signature, b"Data"),
        (signer.public_key, signature[:-1], b"data"),
        (signer.public_key, bytes(64), b"data"),
        ("00" * 32, signature, b"data"),
    ):
        with pytest.raises(EngineError, match="folder: the signature doesn't match key"):
            check_signature(key, given, data, what="folder")


def test_this_machine_trusts_its_own_key(signer):
    from leakrt.engines.cache.signing import trusted_keys

    assert trusted_keys() == {signer.public_key}


@pytest.mark.parametrize("text", ["nothing", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_damaged_private_key_is_named_and_never_replaced(signer, text):
    from leakrt.engines.cache.signing import Signer, config_folder

    path = config_folder() / "signing.pem"
    path.write_text(text)
    with pytest.raises(EngineError, match=r"not a private key .*remove the file to create a new key"):
        Signer.own()
    assert path.read_text() == text


def test_a_key_of_another_kind_is_refused(signer):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

    from leakrt.engines.cache.signing import Signer, config_folder

    pem = generate_private_key(SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (config_folder() / "signing.pem").write_bytes(pem)
    with pytest.raises(EngineError, match="not an Ed25519 key"):
        Signer.own()


def test_comments_in_trusted_keys_are_ignored():
    from leakrt.engines.cache.signing import config_folder, trusted_keys

    config_folder().mkdir(parents=True)
    (config_folder() / "trusted_keys").write_text(f"# kiosks\n\n{'ab' * 32} the builder  # 2026\n")
    assert trusted_keys() == {"ab" * 32}
